"""Sweeps: which commands run, what is skipped, what the results hold."""

import json
from pathlib import Path
import shlex
import signal

import pytest

from experiments import sweep
from ltjax.launch import jobs, machine_shares
from ltjax.runs import interrupts

RUNS = [
  sweep.Run("a", "configs/a.py", 0),
  sweep.Run("a", "configs/a.py", 1),
  sweep.Run("b", "configs/b.py:row=sslt", 0, ("--config.loops=1",)),
]


def finish(run, root, *, accuracy=0.5, command=None, summary="", **session):
  """Leaves what a finished run leaves."""
  folder = run.folder(root)
  folder.mkdir(parents=True, exist_ok=True)
  row = {"model": "SSLT", "split": "test", "accuracy": accuracy}
  rows = [row | {"per_class": [0.1]}]
  (folder / "summary.json").write_text(
    summary
    or json.dumps(
      {
        "finished": True,
        "split_hash": "0a",
        "evaluations": rows,
        "pseudo_labels": [{"loop": 1, "pseudo/confusion": [[1]]}],
        "result": {"last": rows[0], "validation_selected": None},
      }
    )
  )
  last = {
    "started": "2030-01-02T03:04:05",
    "seconds": 2.5,
    "commit": "c",
    "devices": ["cpu"],
    "cpu_cores": 1,
    "versions": {"jax": "1"},
    "command": ["/x/main.py", *(command or run.command(root))[3:]],
  } | session
  sessions = [last | {"seconds": 1.0, "command": ["other"]}, last]
  (folder / "environment.json").write_text(json.dumps({"sessions": sessions}))


@pytest.fixture
def executed(monkeypatch):
  """Runs nothing: each job is finished, or fails where it is named."""
  seen = {"jobs": [], "pins": [], "fail": []}

  def execute(todo, pins, *, say):
    del say
    seen["jobs"] += todo
    seen["pins"] = list(pins)
    for job in todo:
      if job.name in seen["fail"]:
        continue
      workdir = Path(
        next(a for a in job.command if a.startswith("--workdir="))[10:]
      )
      (run,) = [r for r in RUNS if r.folder(workdir.parent) == workdir]
      finish(run, workdir.parent, command=job.command)
    return [job.name for job in todo if job.name in seen["fail"]]

  monkeypatch.setattr(jobs, "execute", execute)
  monkeypatch.setattr(
    machine_shares, "cores", lambda n: [machine_shares.WHOLE] * n
  )
  return seen


def to_markdown(records):
  return " ".join(f"{r['name']}{r['seed']}" for r in records)


def main(tmp_path, *argv, runs=RUNS, draw=None, examine=None):
  return sweep.main(
    runs,
    tmp_path / "results",
    to_markdown,
    draw,
    [f"--root={tmp_path / 'runs'}", *argv],
    examine,
  )


def results(tmp_path, name="results.jsonl"):
  lines = (tmp_path / "results" / name).read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_the_command_of_a_run():
  assert shlex.join(RUNS[2].command(Path("runs"))) == (
    "python -m ltjax.main --config=configs/b.py:row=sslt"
    " --workdir=runs/b-seed0 --config.seed=0 --config.loops=1"
  )
  assert RUNS[2].log(Path("runs")) == Path("runs/b-seed0.log")


def test_golden_record(tmp_path):
  finish(RUNS[2], tmp_path)
  row = {"model": "SSLT", "split": "test", "accuracy": 0.5}
  expected = {
    "name": "b",
    "seed": 0,
    "command": shlex.join(RUNS[2].command(Path("runs"))),
    "date": "2030-01-02",
    "seconds": 3.5,
    "commit": "c",
    "devices": ["cpu"],
    "cpu_cores": 1,
    "versions": {"jax": "1"},
    "split_hash": "0a",
    "evaluations": [row],
    "pseudo_labels": [{"loop": 1}],
    "result": {"last": row, "validation_selected": None},
  }
  assert sweep.record(RUNS[2], tmp_path) == expected
  scaled = sweep.record(RUNS[2], tmp_path, "cpu")
  assert scaled["scale"] == "cpu" and "--workdir=runs/cpu/" in scaled["command"]


def test_a_record_keeps_prototypes_without_their_lists(tmp_path):
  finish(RUNS[2], tmp_path)
  path = RUNS[2].folder(tmp_path) / "summary.json"
  summary = json.loads(path.read_text())
  row = {"count": 2, "shares": {"many": 0.5, "few": None}}
  summary["prototypes"] = [row | {"nearest": [3, 1], "classes": [0, -1]}]
  path.write_text(json.dumps(summary))
  assert sweep.record(RUNS[2], tmp_path)["prototypes"] == [row]


def test_print_shows_commands_and_runs_nothing(tmp_path, executed, capsys):
  assert main(tmp_path, "--print", "--only=b") == 0
  root = tmp_path / "runs"
  assert capsys.readouterr().out == shlex.join(RUNS[2].command(root)) + "\n"
  assert not executed["jobs"] and not (tmp_path / "results").exists()


def test_runs_all_and_writes_results(tmp_path, executed, capsys):
  drawn = []
  assert main(tmp_path, draw=lambda *args: drawn.append(args)) == 0
  root = tmp_path / "runs"
  assert [j.name for j in executed["jobs"]] == ["a-seed0", "a-seed1", "b-seed0"]
  assert executed["jobs"][2].command[1:] == RUNS[2].command(root)[1:]
  assert executed["jobs"][2].log == root / "b-seed0.log"
  assert (tmp_path / "results" / "results.md").read_text() == "a0 a1 b0"
  found = results(tmp_path)
  assert [(r["name"], r["seed"]) for r in found] == [
    ("a", 0),
    ("a", 1),
    ("b", 0),
  ]
  assert drawn == [(found, tmp_path / "results")]
  assert "3 of 3 runs" in capsys.readouterr().out


def test_the_finished_are_skipped_and_the_others_resumed(
  tmp_path, executed, capsys
):
  root = tmp_path / "runs"
  finish(RUNS[0], root)
  finish(RUNS[1], root, summary='{"finished": false}')
  RUNS[2].folder(root).mkdir()
  assert main(tmp_path) == 0
  assert [j.name for j in executed["jobs"]] == ["a-seed1", "b-seed0"]
  assert "a-seed0: finished before" in capsys.readouterr().out


def test_a_run_of_another_command_is_not_finished(tmp_path):
  """The child then tells in what the configs differ."""
  finish(RUNS[0], tmp_path)
  assert RUNS[0].is_finished(tmp_path)
  longer = sweep.Run("a", "configs/a.py", 0, ("--config.loops=2",))
  assert not longer.is_finished(tmp_path)
  finish(longer, tmp_path)
  assert longer.is_finished(tmp_path) and not RUNS[0].is_finished(tmp_path)


def test_where_files_lie_does_not_matter_to_being_finished(tmp_path):
  command = RUNS[0].command(Path("elsewhere")) + ["--data_dir=/d"]
  finish(RUNS[0], tmp_path, command=command)
  assert RUNS[0].is_finished(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", '{"sessions": []}', "[1]"])
def test_a_run_without_its_command_is_not_finished(tmp_path, text):
  finish(RUNS[0], tmp_path)
  (RUNS[0].folder(tmp_path) / "environment.json").write_text(text)
  assert not RUNS[0].is_finished(tmp_path)


def test_failed_runs_are_named_at_the_end(tmp_path, executed, capsys):
  executed["fail"] = ["a-seed1"]
  assert main(tmp_path) == 1
  assert capsys.readouterr().err.endswith("failed: a-seed1\n")
  assert len(results(tmp_path)) == 2


def test_jobs_and_data_dir_reach_the_children(tmp_path, executed):
  assert main(tmp_path, "--jobs=2", "--data_dir=/d", "--only=a") == 0
  assert executed["pins"] == [machine_shares.WHOLE] * 2
  assert all(j.command[-1] == "--data_dir=/d" for j in executed["jobs"])
  assert len(results(tmp_path)) == 2


def test_collect_runs_nothing_and_keeps_the_records_of_other_machines(
  tmp_path, executed, capsys
):
  assert main(tmp_path) == 0
  executed["jobs"].clear()
  other = tmp_path / "other"
  finish(RUNS[1], other, accuracy=0.75)
  argv = ["--collect", f"--root={other}"]
  assert sweep.main(RUNS, tmp_path / "results", to_markdown, argv=argv) == 0
  found = results(tmp_path)
  assert [r["result"]["last"]["accuracy"] for r in found] == [0.5, 0.75, 0.5]
  assert not executed["jobs"]


def test_a_finished_run_is_examined_once(tmp_path, executed):
  asked = []

  def examine(run, folder, data_dir):
    asked.append((folder, data_dir))
    return {"ratio": 1.5} if run.name == "a" else {}

  for argv in (["--data_dir=/d"], ["--collect"]):
    assert main(tmp_path, *argv, examine=examine) == 0
    assert [r.get("ratio") for r in results(tmp_path)] == [1.5, 1.5, None]
  folders = [r.folder(tmp_path / "runs") for r in RUNS]
  assert asked == [(folder, "/d") for folder in folders]


def test_records_of_a_sweep_that_has_changed_are_dropped(tmp_path, executed):
  assert main(tmp_path) == 0
  changed = [RUNS[0], sweep.Run("b", "configs/b.py", 0)]
  argv = ["--collect", f"--root={tmp_path / 'none'}"]
  sweep.main(changed, tmp_path / "results", to_markdown, argv=argv)
  assert [r["name"] for r in results(tmp_path)] == ["a"]


def test_collect_leaves_runs_of_another_command_out(tmp_path, capsys):
  root = tmp_path / "runs"
  finish(RUNS[0], root)
  finish(RUNS[1], root, command=RUNS[2].command(root))
  assert main(tmp_path, "--collect") == 0
  assert len(results(tmp_path)) == 1
  assert "a-seed1 is of another command" in capsys.readouterr().out


def test_nothing_finished_writes_nothing(tmp_path):
  assert main(tmp_path, "--collect") == 0
  assert not (tmp_path / "results").exists()


def test_scales_have_runs_and_results_of_their_own(tmp_path, executed):
  scales = {"cpu": RUNS[:1], "full": RUNS[1:]}
  assert main(tmp_path, runs=scales) == 0
  assert main(tmp_path, "--scale=full", runs=scales) == 0
  root = tmp_path / "runs"
  assert RUNS[0].is_finished(root / "cpu")
  assert RUNS[2].is_finished(root / "full")
  (one,) = results(tmp_path, "results_cpu.jsonl")
  assert one["scale"] == "cpu"
  assert "--workdir=runs/cpu/a-seed0" in one["command"]
  two = results(tmp_path, "results_full.jsonl")
  assert [r["scale"] for r in two] == ["full", "full"]
  assert (tmp_path / "results" / "results_full.md").read_text() == "a1 b0"


def test_an_unknown_scale_is_refused(tmp_path, capsys):
  with pytest.raises(SystemExit):
    main(tmp_path, "--scale=huge", runs={"cpu": RUNS, "full": RUNS})
  assert "'cpu', 'full'" in capsys.readouterr().err
  with pytest.raises(SystemExit):
    main(tmp_path, "--scale=cpu")  # A sweep of one scale has no such flag.
  assert "--scale" in capsys.readouterr().err


@pytest.mark.parametrize(
  "flag, message",
  [
    ("--only=x", "error: no run begins with 'x'; there are a, b\n"),
    ("--jobs=0", "error: --jobs is 0; it must be 1 or more.\n"),
  ],
)
def test_mistakes_are_told(tmp_path, flag, message, capsys):
  assert main(tmp_path, flag) == 1
  assert capsys.readouterr().err == message


@pytest.mark.parametrize(
  "stop, code",
  [
    (interrupts.Interrupted(signal.SIGINT), 130),
    (interrupts.Interrupted(signal.SIGTERM), 143),
    (KeyboardInterrupt(), 130),
  ],
)
def test_an_interrupt_leaves_the_results_alone(
  tmp_path, monkeypatch, capsys, stop, code
):
  def execute(*unused, **settings):
    raise stop

  monkeypatch.setattr(jobs, "execute", execute)
  assert main(tmp_path) == code
  assert "the same command goes on" in capsys.readouterr().out
  assert not (tmp_path / "results").exists()


def test_the_committed_results_are_those_of_the_committed_sweep(tmp_path):
  """Collecting without any run gives the files that are there."""
  from experiments import sslt_small

  folder = Path(sslt_small.__file__).with_suffix("")
  copy = tmp_path / "results"
  copy.mkdir()
  for name in ("results.jsonl", "results.md"):
    (copy / name).write_text((folder / name).read_text())
  argv = ["--collect", f"--root={tmp_path}"]
  runs = list(sslt_small.runs())
  assert sweep.main(runs, copy, sslt_small.to_markdown, argv=argv) == 0
  for name in ("results.jsonl", "results.md"):
    assert (copy / name).read_text() == (folder / name).read_text()


def test_runs_in_another_precision_are_apart(tmp_path, capsys):
  """In folders and results of their own; those of elsewhere are taken in."""
  argv = ["--dtype=bfloat16", f"--root={tmp_path / 'runs'}"]
  there, here = tmp_path / "there", tmp_path / "here"
  (run,) = RUNS[:1]
  flag = "--config.model.dtype=bfloat16"
  finish(
    sweep.Run(run.name, run.config, run.seed, (flag,)),
    tmp_path / "runs" / "bfloat16",
  )
  to_markdown = str
  elsewhere = [*argv, f"--results={there}", "--collect"]
  assert sweep.main(RUNS, here, to_markdown, argv=elsewhere) == 0
  path = there / "results_bfloat16.jsonl"
  (found,) = map(json.loads, path.read_text().splitlines())
  assert found["command"].endswith(flag)
  assert "--workdir=runs/bfloat16/a-seed0" in found["command"]
  argv = ["--dtype=bfloat16", f"--root={tmp_path}", "--collect"]
  assert sweep.main(RUNS, here, str, argv=[*argv, f"--merge={path}"]) == 0
  name = "results_bfloat16.jsonl"
  assert (here / name).read_text() == path.read_text()
  # In fp32 there is none of it.
  assert sweep.main(RUNS, here, str, argv=argv[1:]) == 0
  assert not (here / "results.jsonl").exists()

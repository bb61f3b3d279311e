"""Tests of the run's folder: one config, one process, nothing overwritten."""

import importlib.metadata
import json
import subprocess
import sys

import jax
import pytest

from benchmarks import machine
from ltjax.runs import workdir
from ltjax.runs import workdir as workdirs

CONFIG = {"seed": 1, "data": {"source": "digits", "counts": (1, 2)}}


def test_makes_the_folder_and_its_parents(tmp_path):
  with workdir.Workdir(tmp_path / "a" / "b") as folder:
    assert folder.path == tmp_path / "a" / "b" and folder.path.is_dir()
    assert folder / "x.json" == tmp_path / "a" / "b" / "x.json"
    assert [p.name for p in folder.path.iterdir()] == [".lock"]


def test_a_relative_path_becomes_absolute(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with workdir.Workdir("run") as folder:
    assert folder.path == tmp_path / "run"


@pytest.mark.parametrize("path", ["file/run", "file"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, path):
  (tmp_path / "file").write_text("")
  with pytest.raises(
    workdir.WorkdirError,
    match=r"cannot be written \((Not a directory|File exists)\). Choose"
    " another --workdir, or change its permissions",
  ) as caught:
    workdir.Workdir(tmp_path / path)
  assert str(tmp_path / path) in str(caught.value)
  assert isinstance(caught.value, ValueError)


def test_a_full_disk_is_refused_at_the_start(tmp_path, monkeypatch):
  def full(self):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("pathlib.Path.touch", full)
  with pytest.raises(workdir.WorkdirError, match="No space left on device"):
    workdir.Workdir(tmp_path)


# -- The lock.


def test_two_at_a_time_are_refused(tmp_path):
  with workdir.Workdir(tmp_path):
    with pytest.raises(
      workdir.WorkdirError,
      match=r"Another process is running in .*\. Wait for it, stop it, or",
    ):
      workdir.Workdir(tmp_path)
  workdir.Workdir(tmp_path).close()  # Free again.


def test_a_folder_may_be_named_before_it_is_locked(tmp_path):
  """Of several processes of one run the first locks, the others name it."""
  other = workdir.Workdir(tmp_path / "run", locked=False)
  assert not other.path.exists()
  with workdir.Workdir(tmp_path / "run", locked=False) as folder:
    folder.lock()
    assert other / "x" == folder / "x" == tmp_path / "run" / "x"
    with pytest.raises(workdir.WorkdirError, match="Another process"):
      other.lock()
  with other:
    other.lock()  # Free again.


def test_the_lock_goes_with_its_process(tmp_path):
  """A killed process leaves the file, but not the lock."""
  code = f"""
import os, signal
from ltjax.runs import workdir
folder = workdir.Workdir({str(tmp_path)!r})
print("locked", flush=True)
signal.pause()
"""
  child = subprocess.Popen(
    [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
  )
  try:
    assert child.stdout.readline() == "locked\n"
    with pytest.raises(workdir.WorkdirError, match="Another process"):
      workdir.Workdir(tmp_path)
  finally:
    child.kill()
    child.communicate()
  workdir.Workdir(tmp_path).close()


# -- The config.


def test_the_config_is_kept_once_it_is_wanted(tmp_path):
  with workdir.Workdir(tmp_path) as folder:
    folder.check_config(CONFIG)
    assert not (folder / "config.json").exists()
    folder.keep_config(CONFIG)
    stored = (folder / "config.json").read_bytes()
    assert json.loads(stored) == {
      "seed": 1,
      "data": {"source": "digits", "counts": [1, 2]},
    }
    folder.check_config(CONFIG)  # A tuple and its JSON list are the same.
    folder.keep_config({"other": 1})
    assert (folder / "config.json").read_bytes() == stored


def test_another_config_is_refused_field_by_field(tmp_path):
  other = {"seed": 2, "data": {"source": "digits", "counts": (1,)}, "x": 0}
  with workdir.Workdir(tmp_path) as folder:
    folder.keep_config(CONFIG)
    with pytest.raises(workdir.WorkdirError) as caught:
      folder.check_config(other)
  assert str(caught.value) == (
    f"{tmp_path} holds a run with another config:\n"
    "  data.counts: there [1, 2], here [1]\n"
    "  seed: there 1, here 2\n"
    "  x: there '<missing>', here 0\n"
    "Choose another --workdir, or run it with the config it was started with."
  )


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00"])
def test_a_config_that_cannot_be_read_is_an_error(tmp_path, content):
  (tmp_path / "config.json").write_bytes(content)
  with workdir.Workdir(tmp_path) as folder:
    with pytest.raises(
      workdir.WorkdirError, match=r"config.json cannot be read \(.*another"
    ):
      folder.check_config(CONFIG)


@pytest.mark.parametrize("content", ["[1]", "3", '"x"', "null"])
def test_a_config_that_is_no_config_is_an_error(tmp_path, content):
  (tmp_path / "config.json").write_text(content)
  with workdir.Workdir(tmp_path) as folder:
    with pytest.raises(workdir.WorkdirError, match="cannot be read"):
      folder.check_config(CONFIG)


def test_differences():
  old = {"a": 1, "b": {"c": 1, "d": 2}, "e": {"f": 1}, "same": None}
  new = {"a": 1.5, "b": {"c": 1, "d": 3}, "e": 7, "same": None, "g": 0}
  assert workdir.differences(old, new) == [
    "a: there 1, here 1.5",
    "b.d: there 2, here 3",
    "e: there {'f': 1}, here 7",
    "g: there '<missing>', here 0",
  ]
  assert workdir.differences(old, old) == []


# -- JSON files.


def test_write_json_replaces_the_whole_file(tmp_path):
  path = tmp_path / "x.json"
  path.write_text("long " * 100)
  workdir.write_json(path, {"a": [1, 2.5, None]})
  assert path.read_text() == (
    '{\n  "a": [\n    1,\n    2.5,\n    null\n  ]\n}\n'
  )
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_write_json_refuses_what_json_has_not(tmp_path, value):
  path = tmp_path / "x.json"
  path.write_text("old")
  with pytest.raises(ValueError, match="not JSON compliant"):
    workdir.write_json(path, {"a": value})
  assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_write_json_on_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
  def full(descriptor):
    raise OSError(28, "No space left on device")

  path = tmp_path / "x.json"
  path.write_text("old")
  monkeypatch.setattr("os.fsync", full)
  with pytest.raises(OSError, match="No space left on device") as caught:
    workdir.write_json(path, {"a": 1})
  assert caught.value.errno == 28 and caught.value.filename == str(path)
  assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
  "old", [{"keep": 3}, {"keep": 3, "memory_limit_gib": 0}]
)
def test_what_no_result_depends_on_may_differ(tmp_path, old):
  """Also a run that began before the setting was there goes on."""
  with workdir.Workdir(tmp_path) as folder:
    folder.keep_config({"run": old})
    folder.check_config({"run": {"keep": 3, "memory_limit_gib": 2.5}})
    with pytest.raises(workdir.WorkdirError) as caught:
      folder.check_config({"run": {"keep": 4, "memory_limit_gib": 2.5}})
  assert "run.keep: there 3, here 4" in str(caught.value)
  assert "memory_limit_gib" not in str(caught.value)


@pytest.fixture
def folder(tmp_path):
  with workdirs.Workdir(str(tmp_path / "run")) as folder:
    yield folder


def noted(folder):
  return json.loads((folder / "environment.json").read_text())["sessions"]


def test_each_session_is_noted_with_how_it_ended(folder):
  with workdirs.Session(folder):
    pass
  with pytest.raises(KeyError), workdirs.Session(folder):
    raise KeyError("x")
  first, second = noted(folder)
  assert first["ended_by"] == "completion" and second["ended_by"] == "KeyError"
  assert first["started"] <= second["started"] and first["seconds"] >= 0
  assert first["cpu_cores"] >= 1 and {"ltjax", "jax"} <= set(first["versions"])


def test_a_source_folder_that_is_not_installed_has_no_version(
  folder, monkeypatch
):
  """PYTHONPATH is enough to run from one; the note follows the last stage."""
  real = importlib.metadata.version

  def version(name):
    if name == "ltjax":
      raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

  monkeypatch.setattr(importlib.metadata, "version", version)
  with workdirs.Session(folder):
    pass
  (row,) = noted(folder)
  assert row["ended_by"] == "completion"
  assert row["versions"]["ltjax"] == "unknown (source)"
  assert row["versions"]["jax"] == jax.__version__
  assert machine.describe()["versions"]["ltjax"] == "unknown (source)"


@pytest.mark.parametrize("content", ["{", "[]", '{"sessions": 3}', "{}"])
def test_a_damaged_file_is_begun_anew(folder, content):
  (folder / "environment.json").write_text(content)
  with workdirs.Session(folder):
    pass
  assert len(noted(folder)) == 1


def test_an_error_of_the_run_counts_more_than_that_of_the_note(
  folder, monkeypatch
):
  def full(*unused):
    raise OSError("disk full")

  monkeypatch.setattr(workdirs, "write_json", full)
  with pytest.raises(KeyError), workdirs.Session(folder):
    raise KeyError("x")
  with pytest.raises(OSError, match="disk full"), workdirs.Session(folder):
    pass


def test_the_commit_is_unknown_without_git_and_where_git_hangs(monkeypatch):
  for error in (FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10)):

    def fail(*unused, error=error, **unused_too):
      raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert workdirs.commit() is None


def test_the_root_of_the_sources_is_asked(monkeypatch):
  def run(command, cwd, **unused):
    assert (cwd / "pyproject.toml").exists() and (cwd / "ltjax").is_dir()
    return subprocess.CompletedProcess(command, 0, "abc\n", "")

  monkeypatch.setattr(subprocess, "run", run)
  assert workdirs.commit() == "abc"


def test_an_installed_package_has_no_commit(tmp_path, monkeypatch):
  place = tmp_path / "a" / "b" / "c.py"
  monkeypatch.setattr(workdirs, "__file__", str(place))
  assert workdirs.commit() is None

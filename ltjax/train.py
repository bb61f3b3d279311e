"""Training, from a config to a finished run: the story, top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
import importlib.util
import json
from typing import Any

from ltjax import methods
from ltjax.config import check as config_check
from ltjax.data import task as tasks
from ltjax.data.sources import given as givens
from ltjax.data.splits import record
from ltjax.devices import distributed, sharding
from ltjax.methods import build, frozen, head_start, registry
from ltjax.report import page, verdict
from ltjax.report import summary as summaries
from ltjax.runs import progress as progressing
from ltjax.runs import rehearsal, trained, writers
from ltjax.runs import run as running
from ltjax.runs import workdir as workdirs
from ltjax.training.stage import Stage

Config = Any


def train(
  config: Config,
  workdir: str,
  *,
  data_dir: str | None = None,
  given: givens.Given | None = None,
  echo: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Runs a config to its end in a folder, going on where it was left.

  In a run of several processes each calls this; the first one writes and
  prints.

  Args:
    config: as a config file gives it.
    workdir: the run's folder.
    data_dir: where data sets live; None for the default.
    given: arrays at hand, which `config.data.source` names; None to load it.
    echo: where tables and results are printed.

  Returns:
    The summary, which is also in `summary.json`.

  Raises:
    ValueError: if a setting, the data or the folder does not fit.
    Interrupted: after SIGTERM or Ctrl-C, with everything saved.
    NonFiniteLossError: if a loss is not finite.
    CheckpointError: if a checkpoint cannot be written.
    PeerError: if another process of the run cannot go on.
    CompilationError: if XLA cannot compile a program, before the first stage
      where the run is rehearsed.
  """
  config_check.check(config)
  config = config_check.of_run(config)
  distributed.check_same(config.to_dict())
  echo = echo if distributed.first() else lambda text: None
  with workdirs.Workdir(workdir, locked=False) as folder:

    def begin() -> dict[str, Any] | None:
      folder.lock()
      folder.check_config(
        registry.told(config), lambda stored: registry.as_told(config, stored)
      )
      return _finished(folder)

    summary = distributed.on_first(begin)
    if summary:
      echo(f"The run in {folder.path} is finished. {verdict.headline(summary)}")
      return summary
    distributed.check_shared(folder.path)

    mesh = sharding.make_mesh()
    task = build.build_task(config, mesh, data_dir, given)
    whole = build.build_learner(config, task, mesh)
    # What is wrong with a setting is told before minutes of features.
    methods.stages(frozen.on_features(whole, config, outlined=True), config)
    learner = frozen.on_features(whole, config)
    stages = methods.stages(learner, config)
    state = head_start.begin(learner, learner.init(), config)
    # Only now: a mistake found above must not bind the folder to its config.
    distributed.on_first(lambda: _keep(folder, config, task.split))
    echo(task.class_table())
    with _accounts(folder, stages) as progress:
      run = running.Run(
        folder.path,
        mesh=mesh,
        **config.run,
        predictor=learner.predictor,
        tensorboard=importlib.util.find_spec("tensorboardX") is not None,
        progress=progress,
      )
      state = run.execute(stages, state)
    state = frozen.whole(whole, state)
    trained.save(
      folder.path,
      state,
      task=whole.task,
      settings=config.model,
      views=config.eval.views,
    )
    summary = distributed.on_first(lambda: _sum_up(folder, config, task))
    for warning in verdict.warnings(summary):
      echo(f"Warning: {warning}")
    echo(f"{verdict.headline(summary)} Report: {folder / 'report.md'}")
    return summary


def check(
  config: Config,
  *,
  data_dir: str | None = None,
  echo: Callable[[str], None] = print,
) -> None:
  """Compiles every program of a run, from its first stage on; trains nothing.

  Args:
    config: as a config file gives it.
    data_dir: where data sets live; None for the default.
    echo: where programs and their seconds are printed.

  Raises:
    ValueError: if a setting or the data does not fit.
    CompilationError: if XLA cannot compile a program.
  """
  config_check.check(config)
  config = config_check.of_run(config)
  distributed.check_same(config.to_dict())
  echo = echo if distributed.first() else lambda text: None
  mesh = sharding.make_mesh()
  learner = build.build_learner(
    config, build.build_task(config, mesh, data_dir), mesh
  )
  learner = frozen.on_features(learner, config, outlined=True)
  count = rehearsal.rehearse(
    list(methods.stages(learner, config)),
    learner.init(),
    learner.predictor,
    mesh=mesh,
    steps_per_call=config.run.steps_per_call,
    memory_limit_gib=config.run.memory_limit_gib,
    show=echo,
  )
  echo(f"All {count} programs of this run compile.")


def _finished(folder: workdirs.Workdir) -> dict[str, Any] | None:
  """Returns the summary of a run that is finished, None of one that is not."""
  if not (folder / "summary.json").exists():
    return None
  summary = page.read_summary(folder.path)
  if not (folder / "report.md").exists():
    page.write(folder.path)
  return summary


def _sum_up(
  folder: workdirs.Workdir, config: Config, task: tasks.Task
) -> dict[str, Any]:
  """Writes the summary and the report of a run; returns the summary."""
  summary = summaries.make(
    writers.read(folder / "metrics.jsonl"),
    config=json.loads(json.dumps(registry.told(config))),
    task=task,
    last_k=config.eval.last_k,
  )
  workdirs.write_json(folder / "summary.json", summary)
  page.write(folder.path)
  return summary


@contextlib.contextmanager
def _accounts(
  folder: workdirs.Workdir, stages: Sequence[Stage]
) -> Iterator[progressing.Progress | None]:
  """Shows and notes how a run goes, in the first process."""
  if not distributed.first():
    yield None
    return
  images = sum(stage.images for stage in stages)
  with progressing.Progress(images) as progress, workdirs.Session(folder):
    yield progress


def _keep(
  folder: workdirs.Workdir, config: Config, split: record.Split
) -> None:
  """Binds the folder to its config and split."""
  folder.keep_config(registry.told(config))
  _keep_split(folder, split)


def _keep_split(folder: workdirs.Workdir, split: record.Split) -> None:
  """Saves the split, or checks that it is the one the run began with."""
  path = folder / "split.json"
  if not path.exists():
    split.save(path)
  elif record.Split.load(path).hash != split.hash:
    raise workdirs.WorkdirError(
      f"{path} holds another split than this config gives now: the data set"
      " changed since the run began. Restore the data, or choose another"
      " --workdir."
    )

"""A dry run: what a config would do, and the memory that it needs."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import ml_collections

from ltjax import memory_table, methods, models
from ltjax.config import check as config_check
from ltjax.devices import memory, sharding
from ltjax.methods import build, registry

Config = Any


def show(
  config: Config,
  *,
  data_dir: str | None = None,
  echo: Callable[[str], None] = print,
) -> None:
  """Prints what a run would do, and trains nothing.

  It compiles the steps, to tell the memory that they need.

  Args:
    config: as a config file gives it.
    data_dir: where data sets live; None for the default.
    echo: where to print.

  Raises:
    ValueError: if a setting or the data does not fit.
  """
  config_check.check(config)
  mesh = sharding.make_mesh()
  task = build.build_task(config, mesh, data_dir)
  learner = build.build_learner(config, task, mesh)
  outlined = memory_table.Outlined(learner.predictor)
  learner = dataclasses.replace(learner, predictor=outlined)
  stages = methods.stages(config.method, learner, config)
  echo(str(ml_collections.ConfigDict(registry.told(config))))
  echo(task.class_table())
  echo(task.storage_table() + "\n")
  params, _ = jax.eval_shape(learner.model.init, jax.random.key(0))
  rows = models.parameter_table(params)
  echo(f"{'parameter':<60} {'shape':<20} {'count':>12}")
  for path, shape, count in rows:
    echo(f"{path:<60} {str(shape):<20} {count:>12,}")
  echo(f"{'total':<81} {sum(row[-1] for row in rows):>12,}\n")
  echo(f"{'stage':<22} {'epochs':>7} {'batch':>6} {'steps':>9} {'samples':>12}")
  for stage in stages:
    echo(
      f"{stage.name:<22} {stage.epochs:>7} {stage.batch_size:>6}"
      f" {stage.steps:>9,} {stage.images:>12,}"
    )
  total = sum(stage.steps for stage in stages)
  images = sum(stage.images for stage in stages)
  echo(f"{'total':<37} {total:>9,} {images:>12,}\n")
  needed = memory_table.rows(
    stages, learner, steps_per_call=config.run.steps_per_call
  )
  most = memory.limit(mesh.local_devices[0], config.run.memory_limit_gib)
  echo(memory_table.table(needed, most))

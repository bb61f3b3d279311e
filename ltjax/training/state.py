"""Explicit state: what a method knows, and what a stage updates.

Two pytrees of arrays carry everything. `ModelState` lives as long as the run
and is what stages hand to each other; `TrainState` lives as long as one stage
and is what a training step maps to its successor.
"""

from __future__ import annotations

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp

PyTree = Any


@struct.dataclass
class ModelState:
  """What a method knows between two stages.

  Attributes:
    backbone: parameters of the embedding `f`.
    batch_stats: BatchNorm statistics of `f`.
    head: parameters of `g'`, trained with random sampling along with `f`.
    balanced_head: parameters of `g`, fitted class-balanced on frozen features;
      it labels the unlabeled images and is the one to test.
    pseudo_labels: `[M]` int32, the labels `f, g` gave to the unlabeled images;
      -1 before the first assignment.
    memory: `[N + M, C]` float32, the softmax of `g'` when a sample was last
      visited (labeled samples first); a row of zeros was not visited yet.
    pretrained: what self-supervised stages hand on beside `f`: `projection` and
      `projection_stats`, and from FASSL's first stage `prototypes [K, D]`;
      empty where there was none.
  """

  backbone: PyTree
  batch_stats: PyTree
  head: PyTree
  balanced_head: PyTree
  pseudo_labels: jax.Array
  memory: jax.Array
  pretrained: PyTree = struct.field(default_factory=dict)


@struct.dataclass
class TrainState:
  """What one training step of a stage maps to its successor.

  Attributes:
    step: `[]` int32, steps done in this stage.
    params: the parameters that this stage's optimizer moves.
    batch_stats: BatchNorm statistics (unchanged by a stage that freezes `f`).
    opt_state: the optimizer's state.
    memory: per-sample state `[N + M, C]`, or `[0, C]` where a stage has none.
    key: the stage's typed random key; step `t` uses `fold_in(key, t)`.
    totals: sums of the metrics over the steps of the running epoch, `[]` each.
    bad_step: `[]` int32, the first step whose loss was not finite; -1 if none.
    extra: whatever else a stage carries from step to step, such as the
      parameters of a teacher or a queue of keys; empty for most stages.
  """

  step: jax.Array
  params: PyTree
  batch_stats: PyTree
  opt_state: PyTree
  memory: jax.Array
  key: jax.Array
  totals: dict[str, jax.Array]
  bad_step: jax.Array
  extra: PyTree


def create(
  *,
  params: PyTree,
  batch_stats: PyTree,
  opt_state: PyTree,
  memory: jax.Array,
  key: jax.Array,
  metrics: tuple[str, ...],
  extra: PyTree = None,
) -> TrainState:
  """Returns the `TrainState` before a stage's first step.

  Args:
    params, batch_stats, opt_state, memory, key, extra: fields of the state.
    metrics: names of the scalars that the step reports.
  """
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
    memory=memory,
    key=key,
    totals={name: jnp.zeros((), jnp.float32) for name in metrics},
    bad_step=jnp.full((), -1, jnp.int32),
    extra={} if extra is None else extra,
  )


def advance(
  state: TrainState,
  metrics: dict[str, jax.Array],
  *,
  steps_per_epoch: int,
  **changes: Any,
) -> TrainState:
  """Counts a step: adds its metrics to the epoch's and watches its loss.

  Args:
    state: the state before the step.
    metrics: the step's scalars `[]`, `loss` among them.
    steps_per_epoch: the totals start anew after so many steps.
    **changes: the fields that the step changed (`params`, `opt_state`, ...).
  """
  fresh = (state.step % steps_per_epoch) == 0
  totals = {
    name: jnp.where(fresh, 0.0, state.totals[name]) + value
    for name, value in metrics.items()
  }
  bad = (state.bad_step < 0) & ~jnp.isfinite(metrics["loss"])
  return state.replace(  # type: ignore[attr-defined]
    step=state.step + 1,
    totals=totals,
    bad_step=jnp.where(bad, state.step, state.bad_step),
    **changes,
  )


def copy(tree: PyTree) -> PyTree:
  """Returns a tree of new buffers, so that donating one leaves the other."""
  return jax.tree.map(lambda x: jnp.array(x, copy=True), tree)

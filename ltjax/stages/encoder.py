"""The embedding `f` with a projection behind it, as self-supervised losses see it.

Parameters and BatchNorm statistics are each a dictionary of `backbone`, which is
`f`, and `projection`. Stages that follow each other may go on with the same
projection: it is handed on in `ModelState.pretrained`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from ltjax import models
from ltjax.models import projections
from ltjax.state import ModelState, TrainState

PyTree = Any


class Encoder(NamedTuple):
  """`f` and a projection, as functions.

  Attributes:
    init: `model_state -> (params, stats)`: the `f` of the state with a fresh
      projection.
    apply: `(params, stats, images [B, H, W, C], head, train) -> (features
      [B, F], embeddings [B, D], stats)`, fp32. `head` is any parameters of the
      classifier, without which the network cannot be run; its logits are not
      used.
    dim: D.
  """

  init: Callable[[ModelState], tuple[PyTree, PyTree]]
  apply: Callable[..., tuple[jax.Array, jax.Array, PyTree]]
  dim: int


def make(
  model: models.Model, projection: projections.Projection, *, key: jax.Array
) -> Encoder:
  """Returns the encoder of a network.

  Args:
    model: the network.
    projection: from features to embeddings.
    key: draws the projection.
  """

  def init(state: ModelState) -> tuple[PyTree, PyTree]:
    params, stats = projection.init(key)
    return (
      {"backbone": state.backbone, "projection": params},
      {"backbone": state.batch_stats, "projection": stats},
    )

  def apply(
    params: PyTree, stats: PyTree, images: jax.Array, head: PyTree, train: bool
  ) -> tuple[jax.Array, jax.Array, PyTree]:
    network = {"backbone": params["backbone"], "head": head}
    features, _, backbone = model.apply(
      network, stats["backbone"], images, train
    )
    embeddings, projected = projection.apply(
      params["projection"], stats["projection"], features, train
    )
    return features, embeddings, {"backbone": backbone, "projection": projected}

  return Encoder(init, apply, projection.dim)


def inherited(state: ModelState) -> tuple[PyTree, PyTree]:
  """Returns `(params, stats)` of an encoder that an earlier stage left.

  Args:
    state: its `pretrained` holds `projection` and `projection_stats`.
  """
  return (
    {
      "backbone": state.backbone,
      "projection": state.pretrained["projection"],
    },
    {
      "backbone": state.batch_stats,
      "projection": state.pretrained["projection_stats"],
    },
  )


def left(
  state: ModelState, params: PyTree, stats: PyTree, **more: jax.Array
) -> ModelState:
  """Returns the model state with a trained encoder.

  Args:
    state: the state before the stage.
    params: of the encoder.
    stats: of the encoder.
    **more: further entries of `ModelState.pretrained`, such as `prototypes`.
  """
  return state.replace(  # type: ignore[attr-defined]
    backbone=params["backbone"],
    batch_stats=stats["backbone"],
    pretrained={
      "projection": params["projection"],
      "projection_stats": stats["projection"],
      **more,
    },
  )


def ending(
  init: Callable[[ModelState], tuple[PyTree, PyTree, PyTree]], *names: str
) -> tuple[Callable[..., ModelState], Callable[[ModelState], ModelState]]:
  """Returns `keep` and `shapes` of a pretext task that leaves its encoder.

  Args:
    init: of the task.
    *names: params that it leaves beside the encoder, such as `prototypes`.
  """

  def leave(state: ModelState, params: PyTree, stats: PyTree) -> ModelState:
    more = {name: params[name] for name in names}
    return left(state, params, stats, **more)

  def keep(state: ModelState, trained: TrainState) -> ModelState:
    return leave(state, trained.params, trained.batch_stats)

  def shapes(state: ModelState) -> ModelState:
    params, stats, _ = jax.eval_shape(init, state)
    return leave(state, params, stats)

  return keep, shapes

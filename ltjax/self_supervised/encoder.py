"""The embedding `f` and a projection, as self-supervised losses see it.

Parameters and BatchNorm statistics are each a dictionary of `backbone`, which
is `f`, and `projection`. `ModelState.pretrained` hands the projection on to
stages that follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from ltjax import models
from ltjax.models import projections
from ltjax.training.state import ModelState, TrainState

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
    model, projection: the network, and from features to embeddings.
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

  They are `projection` and `projection_stats` of the state's `pretrained`.
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
    params, stats: of the encoder.
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

  `names` are params of `init` that it leaves beside, such as `prototypes`.
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


def heir(
  model: models.Model, *, hidden: int, dim: int, key: jax.Array
) -> Encoder:
  """Returns an encoder that goes on with the projection there is.

  Its `init` takes the projection that an earlier stage left, or where there is
  none draws that of SimCLR. Its `apply` runs those of SimCLR and of BYOL, which
  lacks the last BatchNorm, by the structure of the parameters.

  Args:
    model, hidden, dim, key: as of `fresh`, as are errors.
  """
  kinds = {
    last_norm: fresh(
      model, hidden=hidden, dim=dim, last_norm=last_norm, key=key
    )
    for last_norm in (False, True)
  }

  def init(state: ModelState) -> tuple[Any, Any]:
    if "projection" in state.pretrained:
      return inherited(state)
    return kinds[True].init(state)

  def apply(params: Any, stats: Any, *inputs: Any) -> Any:
    kind = kinds["second_norm" in params["projection"]]
    return kind.apply(params, stats, *inputs)

  return Encoder(init, apply, dim)


def fresh(
  model: models.Model, *, hidden: int, dim: int, last_norm: bool, key: jax.Array
) -> Encoder:
  """Returns an encoder whose projection is drawn, whatever was left.

  Args:
    model: the network.
    hidden: width of the projection's hidden layer; 0: as wide as the features.
    dim: D, of the embeddings, 1 or more, else a ValueError.
    last_norm: whether it ends in BatchNorm, as that of SimCLR.
    key: draws the projection.
  """
  projection = projections.batch_norm_mlp(
    model.feature_dim,
    hidden=hidden or model.feature_dim,
    dim=dim,
    last_norm=last_norm,
  )
  return make(model, projection, key=key)


def keep_backbone(state: ModelState, trained: TrainState) -> ModelState:
  """Returns the model state with a trained `f` and nothing else.

  `trained` has the `backbone` among its `params`, and `batch_stats` of `f`.
  """
  return state.replace(  # type: ignore[attr-defined]
    backbone=trained.params["backbone"], batch_stats=trained.batch_stats
  )


def check_square(pretraining: str, image_shape: tuple[int, int, int]) -> None:
  """Raises a ValueError unless images `(H, W, C)` are square.

  Only those can be turned, or cut into squares, and fit again. `pretraining` is
  the choice of `pretrain.name`, for the error.
  """
  height, width, _ = image_shape
  if height != width:
    raise ValueError(
      f"pretrain.name is {pretraining!r}, which needs square images, but these"
      f" have {height} x {width} pixels; make them square (data.image_size does"
      " so for a folder) or set pretrain.name to 'none'."
    )

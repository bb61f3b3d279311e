"""Inheritance: a stage that goes on with the projection of the one before."""

from __future__ import annotations

from typing import Any

import jax

from ltjax import models
from ltjax.models import projections
from ltjax.stages import encoder
from ltjax.state import ModelState


def heir(
  model: models.Model, *, hidden: int, dim: int, key: jax.Array
) -> encoder.Encoder:
  """Returns an encoder that goes on with the projection there is.

  Its `init` takes the projection that an earlier stage left, or where there is
  none draws that of SimCLR. Its `apply` runs those of SimCLR and of BYOL, which
  lacks the last BatchNorm, by the structure of the parameters.

  Args:
    model: the network.
    hidden: width of the projection's hidden layer; 0: as wide as the features.
    dim: D, of the embeddings.
    key: draws a fresh projection.

  Raises:
    ValueError: if `dim` is below 1 or `hidden` below 0.
  """
  kinds = {
    last_norm: fresh(
      model, hidden=hidden, dim=dim, last_norm=last_norm, key=key
    )
    for last_norm in (False, True)
  }

  def init(state: ModelState) -> tuple[Any, Any]:
    if "projection" in state.pretrained:
      return encoder.inherited(state)
    return kinds[True].init(state)

  def apply(params: Any, stats: Any, *inputs: Any) -> Any:
    kind = kinds["second_norm" in params["projection"]]
    return kind.apply(params, stats, *inputs)

  return encoder.Encoder(init, apply, dim)


def fresh(
  model: models.Model, *, hidden: int, dim: int, last_norm: bool, key: jax.Array
) -> encoder.Encoder:
  """Returns an encoder whose projection is drawn, whatever was left.

  Args:
    model: the network.
    hidden: width of the projection's hidden layer; 0: as wide as the features.
    dim: D, of the embeddings.
    last_norm: whether it ends in BatchNorm, as that of SimCLR.
    key: draws the projection.

  Raises:
    ValueError: if `dim` is below 1 or `hidden` below 0.
  """
  if dim < 1 or hidden < 0:
    raise ValueError(
      f"pretrain.dim is {dim} and pretrain.hidden is {hidden}; dim must be 1 or"
      " more, and hidden too, or 0 for the width of the features."
    )
  projection = projections.batch_norm_mlp(
    model.feature_dim,
    hidden=hidden or model.feature_dim,
    dim=dim,
    last_norm=last_norm,
  )
  return encoder.make(model, projection, key=key)

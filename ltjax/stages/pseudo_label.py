"""Pseudo-label assignment: Stage 1 of SSLT.

Every unlabeled image gets the class that `f` and the class-balanced head `g`
find most likely, with BatchNorm in evaluation mode. No threshold: all of the
pool is used, and assigned anew in every loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.training import inference
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

TRANSFORMS = ("test", "train")


def assign(
  predictor: inference.Predictor,
  state: ModelState,
  images: jax.Array,
  *,
  key: jax.Array | None = None,
) -> jax.Array:
  """Returns the most likely class of each image under `f` and `g`, int32 `[M]`.

  Args:
    predictor: runs the network.
    state: the network's parameters and statistics.
    images: uint8 `[M, H, W, C]`.
    key: with a key, images are augmented as in training.
  """
  probabilities = predictor.probabilities(
    state, images, head=state.balanced_head, key=key
  )
  return jnp.argmax(probabilities, axis=-1).astype(jnp.int32)


def make(
  name: str,
  predictor: inference.Predictor,
  *,
  images: jax.Array,
  transform: str,
  key: jax.Array,
  report: Callable[[ModelState], list[dict[str, Any]]],
) -> Stage:
  """Returns the stage that assigns pseudo labels.

  Args:
    name, predictor: the stage's name, and what runs the network.
    images: uint8 `[M, H, W, C]`, unlabeled, M of 1 or more, else a ValueError.
    transform: `test`, or `train` for augmented images (the authors' code).
    key: the stage's random key, used by `train`.
    report: rows to write when the stage is over.

  Source: Liu et al., Section 3.4, Stage 1.
  """
  if len(images) == 0:
    raise ValueError(
      "There are no unlabeled images to assign pseudo labels to. Raise"
      " data.unlabeled.factor, name a pool in data.unlabeled.source, or choose"
      " --config.method=decoupling, which needs none."
    )

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is None
    labels = assign(
      predictor, state, images, key=key if transform == "train" else None
    )
    return state.replace(pseudo_labels=labels)  # type: ignore[attr-defined]

  return Stage(name=name, finish=finish, report=report)

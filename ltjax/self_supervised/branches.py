"""Branches: how the two views of an image become embeddings.

One branch sees both views (SimCLR), in one batch of 2B. Or there are two
(SDCLR): a *dense* one for the first view, and for the second a *pruned* one,
without its smallest weights. As the pruned network forgets the tail first, the
two disagree on it most, and the loss attends to it.

The branches share all weights, but each has its own BatchNorm, for activations
of a pruned network are of another size. Weights of `f`, not of the projection,
are chosen anew at the start of each epoch. The dense branch is kept. In the
code of Jiang et al. the projection of SDCLR has three layers; here it has two,
as that of SimCLR, so that what is compared is the pruning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax.models import parameters, pruning
from ltjax.self_supervised import encoder
from ltjax.training import state as states
from ltjax.training import step
from ltjax.training.state import ModelState, TrainState

PyTree = Any


class Views(NamedTuple):
  """What was found in two views of the same images.

  Attributes:
    features: `[B, F]` of the first view, of the branch that is kept.
    first, second: embeddings `[B, D]` of the two views.
    stats: the new BatchNorm statistics.
  """

  features: jax.Array
  first: jax.Array
  second: jax.Array
  stats: PyTree


class Branches(NamedTuple):
  """One network or two, as functions.

  Attributes:
    init: `model_state -> (params, stats, extra)`, extra a dictionary.
    refresh: `(train_state, batch) -> extra` of the step.
    apply: `(params, stats, extra, two images [B, H, W, C], head) -> Views`, in
      training mode.
    kept: `(params, stats) -> (params, stats)` of the encoder to keep.
  """

  init: Callable[[ModelState], tuple[dict[str, Any], PyTree, dict[str, Any]]]
  refresh: Callable[[TrainState, step.Batch], dict[str, Any]]
  apply: Callable[..., Views]
  kept: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]


def one(network: encoder.Encoder) -> Branches:
  """Returns the branch that sees both views, in one batch of 2B.

  BatchNorm normalises by both views together, as in the code of SimCLR and in
  that of the long-tailed papers.

  Source: Chen et al. (2020), "A simple framework for contrastive learning of
    visual representations", Algorithm 1.
  """

  def init(state: ModelState) -> tuple[Any, Any, dict[str, Any]]:
    return *network.init(state), {}

  def apply(params, stats, extra, pair, head) -> Views:
    del extra
    num = len(pair[0])
    features, embeddings, stats = network.apply(
      params, stats, jnp.concatenate(pair), head, True
    )
    return Views(features[:num], embeddings[:num], embeddings[num:], stats)

  return Branches(
    init, lambda state, batch: {}, apply, lambda params, stats: (params, stats)
  )


def dense_and_pruned(network: encoder.Encoder, *, fraction: float) -> Branches:
  """Returns a dense branch for the first view, a pruned one for the second.

  Params are those of the encoder and, of the pruned branch, `pruned_norms`;
  statistics are a dictionary of `dense` and `pruned`; extra holds `masks`, bool
  arrays for the kernels of `f`. `fraction` is as of `pruning.masks`.

  Source: Jiang et al. (2021), "Self-damaging contrastive learning", Section
    3.2.
  """

  def init(state: ModelState) -> tuple[Any, Any, dict[str, Any]]:
    params, stats = network.init(state)
    kernels = parameters.kernels(params["backbone"])
    params = params | {"pruned_norms": states.copy(parameters.norms(params))}
    everything = jax.tree.map(lambda w: jnp.ones(w.shape, bool), kernels)
    return (
      params,
      {"dense": stats, "pruned": states.copy(stats)},
      {"masks": everything},
    )

  def refresh(state: TrainState, batch: step.Batch) -> dict[str, Any]:
    masks = jax.lax.cond(
      batch.fresh,
      lambda: pruning.masks(
        parameters.kernels(state.params["backbone"]), fraction=fraction
      ),
      lambda: state.extra["masks"],
    )
    return {"masks": masks}

  def apply(params, stats, extra, pair, head) -> Views:
    kernels = parameters.kernels(params["backbone"])
    left = {"backbone": pruning.prune(kernels, extra["masks"])}
    pruned = parameters.put(
      parameters.put(params, left), params["pruned_norms"]
    )
    features, first, dense_stats = network.apply(
      params, stats["dense"], pair[0], head, True
    )
    _, second, pruned_stats = network.apply(
      pruned, stats["pruned"], pair[1], head, True
    )
    stats = {"dense": dense_stats, "pruned": pruned_stats}
    return Views(features, first, second, stats)

  return Branches(
    init, refresh, apply, lambda params, stats: (params, stats["dense"])
  )

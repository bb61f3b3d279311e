"""Pruning: which weights of a network are small enough to do without.

A pruned network first forgets what it saw seldom. So where it disagrees with
itself in full it tells, without a label, which images come from the tail.

Source: Hooker et al. (2019), "What do compressed deep neural networks forget?";
Jiang et al. (2021), "Self-damaging contrastive learning", Section 3.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import require

PyTree = Any


def masks(kernels: PyTree, *, fraction: float) -> PyTree:
  """Finds the largest weights of a network, all layers taken together.

  A weight stays where `|w| >= t`, with `t = sorted(|w|)[ceil(fraction N)]` over
  all N weights, from the smallest, counted from 0. Weights as large as t stay,
  so more than `N - ceil(fraction N)` may be left where some are equal.

  Args:
    kernels: arrays of weights, of any shape.
    fraction: share to prune, in [0, 1). 0 keeps all; at least one stays.

  Returns:
    bool arrays of the same structure and shapes, True where a weight stays.

  Raises:
    ValueError: if there are no weights, or `fraction` is out of its range.

  Source: Jiang et al. (2021), Section 3.2, and their code.
  """
  leaves = jax.tree.leaves(kernels)
  if not leaves:
    raise ValueError("This network has no kernels that could be pruned.")
  require.within("The share to prune", fraction, "[0, 1)", "such as 0.9")
  sizes = jnp.sort(jnp.concatenate([jnp.abs(w).reshape(-1) for w in leaves]))
  threshold = sizes[min(math.ceil(fraction * len(sizes)), len(sizes) - 1)]
  return jax.tree.map(lambda w: jnp.abs(w) >= threshold, kernels)


def prune(kernels: PyTree, masks: PyTree) -> PyTree:
  """Returns the weights, those that do not stay being 0.

  Args:
    kernels: arrays of weights.
    masks: bool, as of `masks`. The gradient is 0 where a weight does not stay.
  """
  return jax.tree.map(lambda w, mask: w * mask.astype(w.dtype), kernels, masks)

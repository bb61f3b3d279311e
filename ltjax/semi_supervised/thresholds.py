"""Threshold rules: which pseudo labels count, and for how much.

Each is a pair of pure functions, `init` of what it carries from step to step
and `weigh` of the guesses of a step. Thresholds of a step follow from the steps
before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax.optim import ema

PyTree = Any


class Guesses(NamedTuple):
  """What a rule sees of a step; all constants.

  Attributes:
    probs: softmax of the weak views of unlabeled images, `[U, C]`.
    index: int32 `[U]`, which images of the pool they are.
    labeled: softmax of the weak views of labeled images, `[B, C]`.
    mean: the mean of `probs` over many steps, `[C]`.
  """

  probs: jax.Array
  index: jax.Array
  labeled: jax.Array
  mean: jax.Array


class Rule(NamedTuple):
  """A threshold rule.

  Attributes:
    init: `(classes C, images of the pool M) -> carried`.
    weigh: `(carried, guesses) -> (weights [U] in [0, 1], carried)`.
  """

  init: Callable[[int, int], PyTree]
  weigh: Callable[[PyTree, Guesses], tuple[jax.Array, PyTree]]


def fixed(threshold: float) -> Rule:
  """Counts guesses of a confidence: `max p >= threshold`.

  Source: Sohn et al. (2020), "FixMatch", Equation 4.
  """

  def weigh(carried, guesses):
    return _above(guesses.probs, threshold), carried

  return Rule(lambda classes, images: {}, weigh)


def relative(threshold: float) -> Rule:
  """Asks for a share of what labeled images have: `threshold mean max p(x)`.

  Source: Berthelot et al. (2022), "AdaMatch", Section 3.2.
  """

  def weigh(carried, guesses):
    least = threshold * jnp.mean(jnp.max(guesses.labeled, -1))
    return _above(guesses.probs, least), carried

  return Rule(lambda classes, images: {}, weigh)


def curriculum(threshold: float) -> Rule:
  """Lowers the threshold of classes that few images are sure of.

  `threshold M(b_k)`, `M(b) = b / (2 - b)`,
  `b_k = s_k / max(max s, M - sum s)`, where `s_k` counts the unlabeled images
  whose last guess above the threshold was class k. Carries these guesses,
  int32 `[M]`, -1 for none.

  Source: Zhang et al. (2021), "FlexMatch", Equations 5 to 8, 12.
  """

  def init(classes, images):
    return {"last": jnp.full(images, -1, jnp.int32)}

  def weigh(carried, guesses):
    probs, last = guesses.probs, carried["last"]
    classes = probs.shape[1]
    sure = jnp.bincount(jnp.where(last < 0, classes, last), length=classes + 1)
    sure = sure.astype(jnp.float32)
    rank = sure[:-1] / jnp.maximum(jnp.max(sure[:-1]), sure[-1])
    least = threshold * (rank / (2.0 - rank))
    guess = jnp.argmax(probs, -1)
    now = jnp.where(
      jnp.max(probs, -1) >= threshold, guess, last[guesses.index]
    ).astype(jnp.int32)
    return (
      _above(probs, least[guess]),
      {"last": last.at[guesses.index].set(now)},
    )

  return Rule(init, weigh)


def self_adaptive(momentum: float = 0.999) -> Rule:
  """Follows the network's confidence, and by class its mean prediction.

  `tau_k = tau mean_k / max_j mean_j`, where `tau`, from `1 / C`, is the average
  over the steps of `mean max p`.

  Source: Wang et al. (2023), "FreeMatch", Equations 5 to 7.
  """

  def init(classes, images):
    del images
    return {"level": jnp.full((), 1.0 / classes, jnp.float32)}

  def weigh(carried, guesses):
    probs, mean = guesses.probs, guesses.mean
    least = carried["level"] * mean / jnp.max(mean)
    level = ema.update(
      carried["level"], jnp.mean(jnp.max(probs, -1)), decay=momentum
    )
    return _above(probs, least[jnp.argmax(probs, -1)]), {"level": level}

  return Rule(init, weigh)


def soft(momentum: float = 0.999, deviations: float = 2.0) -> Rule:
  """Counts the less confident by a Gaussian: all of them, but not alike.

  `w = exp(-(m - max p)^2 / (2 s^2 / n^2))` for `max p < m`, 1 above, where m
  and s^2 are averages over the steps of the confidence's mean and variance, and
  p is aligned with the uniform distribution, `p_k / mean_k`, brought to sum 1.

  Args:
    momentum: of the averages, in [0, 1).
    deviations: n.

  Source: Chen et al. (2023), "SoftMatch", Equations 5 to 9.
  """

  def init(classes, images):
    del images
    return {
      "mean": jnp.full((), 1.0 / classes, jnp.float32),
      "variance": jnp.ones((), jnp.float32),
    }

  def weigh(carried, guesses):
    aligned = guesses.probs / guesses.mean[None]
    aligned = aligned / jnp.sum(aligned, -1, keepdims=True)
    top = jnp.max(aligned, -1)
    below = jnp.maximum(carried["mean"] - top, 0.0)
    spread = 2.0 * carried["variance"] / deviations**2
    now = {"mean": jnp.mean(top), "variance": jnp.var(top, ddof=1)}
    return (
      jnp.exp(-(below**2) / jnp.maximum(spread, 1e-12)),
      ema.update(carried, now, decay=momentum),
    )

  return Rule(init, weigh)


# By name: how a rule is made of the setting `threshold`.
RULES: dict[str, Callable[[float], Rule]] = {
  "fixed": fixed,
  "relative": relative,
  "curriculum": curriculum,
  "self_adaptive": lambda threshold: self_adaptive(),
  "soft": lambda threshold: soft(),
}
# Those that have no threshold to set.
ADAPTIVE = ("self_adaptive", "soft")


def _above(probs: jax.Array, least: Any) -> jax.Array:
  return (jnp.max(probs, -1) >= least).astype(jnp.float32)

"""Policies: which operations change an image, how strongly, how often.

A policy is a table. Its rows are one after the other what may be done to an
image; some rows are drawn, and each step of a row is done with a probability of
its own, by a value drawn from a list. Signs are part of the list: a turn by 3
degrees either way has the values 3 and -3. The operations are those of
`ltjax.augment.operations`.
"""

from __future__ import annotations

from collections.abc import Iterable
import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from ltjax import require
from ltjax.augment import operations

NAMES = ("randaugment", "autoaugment")


class Step(NamedTuple):
  """One operation.

  Attributes:
    operation: its name, in `operations.NAMES`, or "Identity".
    values: equally likely, see `operations.RANGES`.
    probability: that it is done, in [0, 1].
  """

  operation: str
  values: tuple[float, ...]
  probability: float


class Policy(NamedTuple):
  """What may be done to an image.

  Attributes:
    rows: equally likely, all of as many steps.
    draws: rows drawn for an image, with replacement.
    fill: what shears, shifts and turns show outside of the image, 0 to 255.
  """

  rows: tuple[tuple[Step, ...], ...]
  draws: int
  fill: int


def make(name: str, *, height: int, width: int) -> Policy:
  """Returns a policy for images of so many pixels.

  Args:
    name: one of `NAMES`, else a ValueError.
    height, width: in pixels.
  """
  require.choice("policy", name, NAMES)
  if name == "randaugment":
    return randaugment(height=height, width=width)
  return autoaugment()


def randaugment(*, height: int, width: int) -> Policy:
  """Returns FixMatch's RandAugment: two of 14 operations, half of them done.

  The level `v` is 1, ..., 9, equally likely. Factors of colour, contrast,
  brightness and sharpness are `.05 + .09 v`, always below 1. Shifts are by
  whole pixels.

  Args:
    height, width: of the images, in pixels.

  Source: Sohn et al. (2020), "FixMatch", Table 12; levels, their rounding and
    the probability as in the PyTorch codes that the long-tailed literature
    builds on, where 10 is never drawn.
  """
  levels = range(1, 10)
  factors = tuple(0.05 + 0.9 * v / 10 for v in levels)
  shears = _both(0.3 * v / 10 for v in levels)
  values = {
    "AutoContrast": (0.0,),
    "Brightness": factors,
    "Color": factors,
    "Contrast": factors,
    "Equalize": (0.0,),
    "Identity": (0.0,),
    "Posterize": tuple(4.0 + v * 4 // 10 for v in levels),
    "Rotate": _both(3.0 * v for v in levels),
    "Sharpness": factors,
    "ShearX": shears,
    "ShearY": shears,
    "Solarize": tuple(256.0 - v * 256 // 10 for v in levels),
    "TranslateX": _both(int(0.3 * v / 10 * width) / width for v in levels),
    "TranslateY": _both(int(0.3 * v / 10 * height) / height for v in levels),
  }
  rows = tuple((Step(*item, 0.5),) for item in values.items())
  return Policy(rows, draws=2, fill=0)


def autoaugment() -> Policy:
  """Returns AutoAugment's policy for CIFAR-10: one of 25 pairs of operations.

  The magnitude `m` is 0, ..., 9, a place in a range that ends at 9: shears of
  .3, shifts of 150 / 331 of the side, turns of 30 degrees, factors `1 +- m/10`,
  thresholds from 256 to 0 and bits from 8 to 4. All but the last two go either
  way, and gray fills what they uncover.

  Source: Cubuk et al. (2019), "AutoAugment", Tables 6 and 7; the factors and
    the gray as in the PyTorch codes that the long-tailed literature uses.
  """
  return Policy(
    tuple(
      tuple(Step(name, _magnitude(name, m), p) for name, p, m in pair)
      for pair in _CIFAR10
    ),
    draws=1,
    fill=128,
  )


def random_changes(
  key: jax.Array, images: jax.Array, policy: Policy
) -> jax.Array:
  """Changes each image by its own draw from a policy.

  Args:
    key: one key.
    images: uint8 `[B, H, W, C]`, of 3 channels or 1, else a ValueError.
    policy: without Cutout.
  """
  chex.assert_rank(images, 4)
  keys = jax.random.split(key, images.shape[0])
  which, values = jax.vmap(lambda k: draw(k, policy))(keys)
  # A loop, as its body is compiled once and its images are stored.
  apply = functools.partial(operations.apply, fill=policy.fill)
  return jax.lax.scan(
    lambda images, step: (apply(images, *step), None),
    images,
    (which.T, values.T),
  )[0]


def draw(key: jax.Array, policy: Policy) -> tuple[jax.Array, jax.Array]:
  """Draws what to do to one image.

  Args:
    key: the image's key.
    policy: of K steps an image.

  Returns:
    the operations, int32 `[K]`, places in `operations.NAMES` or -1 for those
    that are not done; and their values, float32 `[K]`.
  """
  k_rows, k_values, k_done = jax.random.split(key, 3)
  rows = jax.random.randint(k_rows, (policy.draws,), 0, len(policy.rows))
  which, values, counts, probability = (t[rows] for t in _tables(policy))
  place = jax.random.randint(k_values, counts.shape, 0, counts)
  values = jnp.take_along_axis(values, place[..., None], axis=-1)
  done = jax.random.uniform(k_done, counts.shape) < probability
  return jnp.where(done, which, -1).reshape(-1), values.reshape(-1)


def _tables(
  policy: Policy,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Returns operations, values `[R, S, L]`, their numbers and probabilities.

  All but the values are `[R, S]`: R rows of S steps.
  """
  which = [[_place(step.operation) for step in row] for row in policy.rows]
  counts = [[len(step.values) for step in row] for row in policy.rows]
  most = max(max(row) for row in counts)
  values = [
    [step.values + (0.0,) * (most - len(step.values)) for step in row]
    for row in policy.rows
  ]
  probability = [[step.probability for step in row] for row in policy.rows]
  return (
    jnp.array(which, jnp.int32),
    jnp.array(values, jnp.float32),
    jnp.array(counts, jnp.int32),
    jnp.array(probability, jnp.float32),
  )


def _place(name: str) -> int:
  return -1 if name == "Identity" else operations.NAMES.index(name)


def _both(values: Iterable[float]) -> tuple[float, ...]:
  """Returns the values and their negatives."""
  values = tuple(values)
  return values + tuple(-v for v in values)


def _magnitude(name: str, m: int) -> tuple[float, ...]:
  """Returns what a magnitude of AutoAugment means."""
  share = m / 9
  match name:
    case "ShearX" | "ShearY":
      return _both([0.3 * share])
    case "TranslateX" | "TranslateY":
      return _both([150 / 331 * share])
    case "Rotate":
      return _both([30 * share])
    case "Brightness" | "Color" | "Contrast" | "Sharpness":
      return 1 - 0.9 * share, 1 + 0.9 * share
    case "Posterize":
      return (float(round(8 - 4 * share)),)
    case "Solarize":
      return (256 * (1 - share),)
  return (0.0,)


# Operation, probability and magnitude.
_CIFAR10 = (
  (("Invert", 0.1, 7), ("Contrast", 0.2, 6)),
  (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
  (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
  (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
  (("AutoContrast", 0.5, 8), ("Equalize", 0.9, 2)),
  (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
  (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
  (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
  (("Equalize", 0.6, 5), ("Equalize", 0.5, 1)),
  (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
  (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
  (("Equalize", 0.3, 7), ("AutoContrast", 0.4, 8)),
  (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
  (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
  (("Solarize", 0.5, 2), ("Invert", 0.0, 3)),
  (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
  (("Equalize", 0.2, 8), ("Equalize", 0.6, 4)),
  (("Color", 0.9, 9), ("Equalize", 0.6, 6)),
  (("AutoContrast", 0.8, 4), ("Solarize", 0.2, 8)),
  (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
  (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 3)),
  (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
  (("AutoContrast", 0.9, 2), ("Solarize", 0.8, 3)),
  (("Equalize", 0.8, 8), ("Invert", 0.1, 3)),
  (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 1)),
)

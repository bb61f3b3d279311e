"""Heads made from heads: other norms, other scales, other biases.

The logit of a class in a linear head is `w_c . x + b_c`. Where frequent classes
have grown longer vectors, three corrections need no new training of the
embedding: divide each vector by a power of its length (tau-normalization),
multiply each logit by a learned number (LWS), or shift each logit by a known
one (logit adjustment and threshold moving). Each gives an ordinary head again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.models import heads


def is_linear(head: Mapping[str, Any]) -> bool:
  """Returns whether parameters (or their shapes) are a linear head's."""
  return set(head) == {"kernel", "bias"}


def check_linear(head: Mapping[str, Any], what: str) -> None:
  """Raises ValueError unless a head has lengths and biases to change.

  Args:
    head: parameters, or their shapes.
    what: what needs them, such as `classifier.kind=lws`, for the error.
  """
  if not is_linear(head):
    raise ValueError(
      f"{what} changes the lengths of a linear head's vectors; in a head of"
      f" {', '.join(sorted(head))} they play no role. Set"
      " --config.model.head=linear, or choose another rule."
    )


def tau_normalize(
  head: heads.HeadParams, *, tau: float | jax.Array
) -> heads.HeadParams:
  """Divides each class's vector by a power of its length; drops the bias.

  `w_c / |w_c|^tau`; tau = 0 leaves the vectors alone, at tau = 1 all have the
  same length. A vector of length 0 stays one.

  Args:
    head: of a linear head.
    tau: 0 or more.

  Returns:
    A linear head whose biases are 0.

  Source: Kang et al. (2020), Equation 4, as in their code without bias.
  """
  kernel = head["kernel"]
  norms = jnp.linalg.norm(kernel, axis=0)
  powers = jnp.where(norms > 0, norms, 1.0) ** tau
  return {
    "kernel": kernel / powers[None, :],
    "bias": jnp.zeros_like(head["bias"]),
  }


def norm_bound(head: heads.HeadParams, *, share: float) -> jax.Array:
  """Returns a length between those of the shortest and the longest vector.

  `(1 - share) min |w_c| + share max |w_c|`

  Args:
    head: of a linear head.
    share: in [0, 1]; at 1 no vector is longer than the bound.
  """
  norms = jnp.linalg.norm(head["kernel"], axis=0)
  return (1 - share) * jnp.min(norms) + share * jnp.max(norms)


def max_norm(
  head: heads.HeadParams, *, bound: float | jax.Array
) -> heads.HeadParams:
  """Shortens each class's vector that is too long: `min(1, d / |w_c|) w_c`.

  The nearest head all of whose vectors lie in a ball of radius d: the
  projection after each step is projected gradient descent. Biases are not
  bounded.

  Args:
    head: of a linear head.
    bound: d, above 0.

  Returns:
    A linear head.

  Source: Alshammari et al. (2022), "Long-tailed recognition via weight
    balancing", MaxNorm; Du et al. (2023), GLMC, Equation 13.
  """
  kernel = head["kernel"]
  norms = jnp.linalg.norm(kernel, axis=0)
  factors = jnp.minimum(1.0, bound / jnp.where(norms > 0, norms, bound))
  return {**head, "kernel": kernel * factors[None, :]}


def scale(head: heads.HeadParams, factors: jax.Array) -> heads.HeadParams:
  """Multiplies the logit of each class, bias included, by a factor.

  Args:
    head: of a linear head.
    factors: `[C]`.

  Returns:
    A linear head.

  Source: Kang et al. (2020), Equation 5, as in their code with the bias.
  """
  return {
    "kernel": head["kernel"] * factors[None, :],
    "bias": head["bias"] * factors,
  }


def shift(head: heads.HeadParams, amounts: jax.Array) -> heads.HeadParams:
  """Adds an amount to the logit of each class.

  A head that has no bias gets one, which every `apply` of `heads` then adds.

  Args:
    head: of any head.
    amounts: `[C]`.
  """
  amounts = jnp.asarray(amounts, jnp.float32)
  return {**head, "bias": head["bias"] + amounts if "bias" in head else amounts}

"""How labels and pseudo labels share a loss: omega of Yang & Xu.

They minimize `L(D_L) + omega L(D_U)`, and do not say over what L is a mean:

*   `examples`: over the batch, in which a pseudo-labeled example counts omega
    times. At omega 1 it is the authors' code, which concatenates both sets;
    with five pseudo labels to a label, labels have a sixth of the gradient.
*   `parts`: each L over its own part of the batch, as the formula reads. Labels
    have the share `1 / (1 + omega)` of the gradient, however many they are.
    The loss is then the sum of `1 + omega` means, and a step as much longer: at
    omega 1 half the learning rate has the length of `examples`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

REDUCTIONS = ("examples", "parts")

# Of a batch, by its index [B]: factors, and example weights [B] of a loss each.
Terms = tuple[tuple[float, jax.Array | None], ...]


def make(
  *, omega: float, reduction: str, num_labeled: int, field: str
) -> Callable[[jax.Array], Terms]:
  """Returns what makes the terms of a batch's loss.

  Args:
    omega: weight of the pseudo labels, 0 or more.
    reduction: `examples` or `parts`.
    num_labeled: how many images are labeled; they come first.
    field: the config block, for errors.

  Returns:
    `index int32 [B] -> ((factor, weights fp32 [B] or None), ...)`; the loss is
    the sum of `factor * objective(..., example_weights=weights)`. A part
    without an example in the batch adds nothing.

  Raises:
    ValueError: if the reduction is unknown, or omega out of range.

  Source: Yang & Xu (2020), Section 2.2.
  """
  if reduction not in REDUCTIONS:
    raise ValueError(
      f"{field}.reduction is {reduction!r}; choose one of"
      f" {', '.join(REDUCTIONS)}."
    )
  if not 0 <= omega < float("inf"):
    raise ValueError(
      f"{field}.omega is {omega}; it must be 0 or more and finite."
    )

  def of_part(part: jax.Array) -> jax.Array:
    # The objective's mean divides by B, and this undoes it.
    return part * (len(part) / jnp.maximum(jnp.sum(part), 1))

  def terms(index: jax.Array) -> Terms:
    labeled = index < num_labeled
    if reduction == "parts":
      return (1.0, of_part(labeled)), (omega, of_part(~labeled))
    if omega == 1.0:
      return ((1.0, None),)
    return ((1.0, jnp.where(labeled, 1.0, omega)),)

  return terms

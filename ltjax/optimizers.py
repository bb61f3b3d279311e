"""Stochastic gradient descent as the field runs it.

Published settings of long-tailed recognition are PyTorch's, whose weight decay
is *coupled*: it is added to the gradient and so goes through the momentum.
"""

from __future__ import annotations

import math

import optax


def sgd(
  schedule: optax.ScalarOrSchedule,
  *,
  momentum: float = 0.9,
  weight_decay: float = 5e-4,
  nesterov: bool = False,
) -> optax.GradientTransformation:
  """SGD with momentum and coupled L2 decay of every parameter.

  With gradient g, velocity v (0 at first) and parameters w:
  `g <- g + weight_decay w`, `v <- momentum v + g`,
  `w <- w - lr v`, or with Nesterov `w <- w - lr (g + momentum v)`.

  Biases and batch normalisation are decayed too, as PyTorch does unless told
  otherwise.

  Args:
    schedule: Learning rate, a number or a function of the step.
    momentum: In [0, 1).
    weight_decay: 0 or more.
    nesterov: Look ahead by one velocity.

  Returns:
    An optax transformation; its update needs the parameters.

  Raises:
    ValueError: A value is out of range, or Nesterov has no momentum.
  """
  if not 0 <= momentum < 1:
    raise ValueError(f"Momentum must be in [0, 1), not {momentum}.")
  if not 0 <= weight_decay < math.inf:
    raise ValueError(
      f"Weight decay must be 0 or more and finite, not {weight_decay}."
    )
  if nesterov and momentum == 0:
    raise ValueError(
      "Nesterov needs a momentum above 0; turn it off or raise the momentum."
    )
  return optax.chain(
    optax.add_decayed_weights(weight_decay),
    optax.sgd(schedule, momentum=momentum or None, nesterov=nesterov),
  )

"""Optimizers as the field runs them: SGD, Adam, AdamW and LARS.

Weight decay is PyTorch's, which is *coupled* but for AdamW: it is added to the
gradient and so goes through the momentum, and in Adam through the division by
the gradient's size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ltjax import require

NAMES = ("sgd", "adam", "adamw", "lars")
DECAYED = ("all", "kernels")

Mask = Callable[[optax.Params], Any] | None


def make(
  name: str,
  schedule: optax.ScalarOrSchedule,
  *,
  momentum: float = 0.9,
  weight_decay: float = 5e-4,
  nesterov: bool = False,
  decayed: str = "all",
) -> optax.GradientTransformation:
  """Builds an optax transformation by name; its update needs the parameters.

  Args:
    name: One of `NAMES`.
    schedule: Learning rate, a number or a function of the step.
    momentum: In [0, 1); for Adam the decay of the mean gradient.
    weight_decay: 0 or more.
    nesterov: Look ahead by one velocity; not for Adam.
    decayed: "all" parameters, or "kernels": not those of one axis, which are
      biases and those of normalisation. LARS always leaves these out.

  Raises:
    ValueError: The name is unknown, or a value does not fit.
  """
  require.choice("optimizer", name, NAMES)
  require.choice("decayed", decayed, DECAYED)
  mask = _kernels if decayed == "kernels" else None
  if name in ("adam", "adamw"):
    if nesterov:
      raise ValueError(
        "Adam has no Nesterov momentum here; turn it off, or choose 'sgd' or "
        "'lars'."
      )
    return (adam if name == "adam" else adamw)(
      schedule, momentum=momentum, weight_decay=weight_decay, mask=mask
    )
  settings = {"momentum": momentum, "weight_decay": weight_decay}
  if name == "lars":
    return lars(schedule, nesterov=nesterov, **settings)
  return sgd(schedule, nesterov=nesterov, mask=mask, **settings)


def sgd(
  schedule: optax.ScalarOrSchedule,
  *,
  momentum: float = 0.9,
  weight_decay: float = 5e-4,
  nesterov: bool = False,
  mask: Mask = None,
) -> optax.GradientTransformation:
  """SGD with momentum and coupled L2 decay.

  With gradient g, velocity v (0 at first) and parameters w:
  `g <- g + weight_decay w`, `v <- momentum v + g`, `w <- w - lr v`, or with
  Nesterov `w <- w - lr (g + momentum v)`.

  Without a mask biases and batch normalisation are decayed too, as in PyTorch.

  Args:
    schedule, momentum, weight_decay, nesterov: As of `make`, as are errors.
    mask: `params -> tree of bool`, what is decayed; None for all.
  """
  _check(momentum, weight_decay, nesterov)
  return optax.chain(
    optax.add_decayed_weights(weight_decay, mask),
    optax.sgd(schedule, momentum=momentum or None, nesterov=nesterov),
  )


def adam(
  schedule: optax.ScalarOrSchedule,
  *,
  momentum: float = 0.9,
  weight_decay: float = 0.0,
  mask: Mask = None,
) -> optax.GradientTransformation:
  """Adam with coupled L2 decay, as PyTorch's `Adam`.

  With gradient g, means m and v (0 at first), parameters w and step t from 1:
  `g <- g + weight_decay w`, `m <- b m + (1 - b) g`,
  `v <- 0.999 v + 0.001 g^2`,
  `w <- w - lr (m / (1 - b^t)) / (sqrt(v / (1 - 0.999^t)) + 1e-8)`.

  Here b is the momentum. It is not AdamW, which takes the decay past the
  division.

  Args:
    schedule, momentum, weight_decay: As of `make`, as are errors.
    mask: As of `sgd`.

  Source: Kingma & Ba (2015), "Adam", Algorithm 1.
  """
  _check(momentum, weight_decay, nesterov=False)
  return _promoting(
    optax.chain(
      optax.add_decayed_weights(weight_decay, mask),
      optax.adam(schedule, b1=momentum),
    )
  )


def adamw(
  schedule: optax.ScalarOrSchedule,
  *,
  momentum: float = 0.9,
  weight_decay: float = 0.0,
  mask: Mask = None,
) -> optax.GradientTransformation:
  """Adam with decoupled decay: `w <- w - lr (update + weight_decay w)`.

  Args:
    schedule, momentum, weight_decay: As of `make`, as are errors.
    mask: As of `sgd`.

  Source: Loshchilov & Hutter (2019), "Decoupled weight decay regularization",
    Algorithm 2, with the learning rate as its schedule multiplier.
  """
  _check(momentum, weight_decay, nesterov=False)
  return _promoting(
    optax.adamw(schedule, b1=momentum, weight_decay=weight_decay, mask=mask)
  )


def _promoting(
  made: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """optax takes a float to the power of the integer count of steps."""

  def update(updates, state, params=None):
    with jax.numpy_dtype_promotion("standard"):
      return made.update(updates, state, params)

  return optax.GradientTransformation(made.init, update)


def _kernels(params: optax.Params) -> optax.Params:
  return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)


def lars(
  schedule: optax.ScalarOrSchedule,
  *,
  momentum: float = 0.9,
  weight_decay: float = 1e-6,
  nesterov: bool = False,
) -> optax.GradientTransformation:
  """SGD whose step is in proportion to each layer's weights, for large batches.

  With gradient g, velocity v (0 at first) and the weights w of a layer:
  `g <- g + weight_decay w`, `g <- 0.001 g |w| / |g|`, `v <- momentum v + lr g`,
  `w <- w - v`. Where a norm is 0 the gradient stays as it is.

  Parameters of one axis (biases, scales of normalisation) are neither decayed
  nor adapted: they follow SGD with momentum. The learning rate is inside of the
  velocity, so that a falling one acts a little later than in SGD.

  Args:
    schedule, momentum, weight_decay, nesterov: As of `make`, as are errors.

  Source: You et al. (2017), "Large batch training of convolutional networks",
    Algorithm 1; Grill et al. (2020), "Bootstrap your own latent", Section 3.2,
    for the trust coefficient of 0.001 and what is left out.
  """
  _check(momentum, weight_decay, nesterov)
  return optax.lars(
    schedule,
    weight_decay=weight_decay,
    weight_decay_mask=_kernels,
    trust_coefficient=1e-3,
    trust_ratio_mask=_kernels,
    momentum=momentum,
    nesterov=nesterov,
  )


def at_step(state: optax.OptState, step: int) -> optax.OptState:
  """Returns an optimizer's first state with its schedule at `step`, from 0.

  Means of gradients stay, and so does the count by which Adam corrects them.
  """

  def counts(node):
    return isinstance(node, optax.ScaleByScheduleState)

  return jax.tree.map(
    lambda node: (
      node._replace(count=node.count + step) if counts(node) else node
    ),
    state,
    is_leaf=counts,
  )


def _check(momentum: float, weight_decay: float, nesterov: bool) -> None:
  require.within("momentum", momentum, "[0, 1)")
  require.within("weight_decay", weight_decay, "[0, inf)")
  if nesterov and momentum == 0:
    raise ValueError(
      "Nesterov needs a momentum above 0; turn it off or raise the momentum."
    )

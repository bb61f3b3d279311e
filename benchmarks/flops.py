"""Floating-point operations of a network, counted and not measured.

What counts are convolutions and matrix products, two operations a multiply-add.
XLA's own count (`compiled.cost_analysis()`) would follow how a gradient is
computed: a convolution cut in pieces, or one turned into another, would count
otherwise although the mathematics is the same. So the count is taken from the
traced program of the forward pass, and training is three times that: the
output, the gradient of the input and that of the kernel are three contractions
of one size. The border is counted as if it were full, as is usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import math
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import models

TRAINING = 3


def of_call(function: Callable[..., Any], *args: Any) -> int:
  """Counts the operations of a call, from shapes alone.

  A convolution whose input is dilated (the gradient of a strided one) counts
  without the zeros between. Of the branches of a condition the largest counts,
  of those for platforms the one for all others; of a loop of unknown length one
  round.

  Args:
    function: of arrays, traceable.
    *args: arrays, or shapes as `jax.ShapeDtypeStruct`.

  Returns:
    Operations of the convolutions and matrix products.
  """
  return _count(jax.make_jaxpr(function)(*args).jaxpr)


def forward(model: models.Model) -> int:
  """Counts the operations of a network's forward pass, of one image.

  Args:
    model: the network, its head included.
  """
  params, stats = jax.eval_shape(model.init, jax.random.key(0))
  image = jax.ShapeDtypeStruct((1, *model.image_shape), jnp.float32)
  return of_call(_logits(model), params, stats, image)


def convolutions(
  model: models.Model, batch_size: int
) -> list[tuple[tuple[int, ...], tuple[int, ...], int]]:
  """Lists the convolutions of a network's forward pass, in order.

  Args:
    model: the network.
    batch_size: B.

  Returns:
    For each the shape of its input `[B, H, W, D]`, that of its kernel
    `[K, K, D, F]`, and its stride.
  """
  params, stats = jax.eval_shape(model.init, jax.random.key(0))
  images = jax.ShapeDtypeStruct((batch_size, *model.image_shape), jnp.float32)
  traced = jax.make_jaxpr(_logits(model))(params, stats, images)
  found = []
  for equation in _all(traced.jaxpr):
    if equation.primitive.name == "conv_general_dilated":
      x, kernel = (tuple(v.aval.shape) for v in equation.invars[:2])
      found.append((x, kernel, equation.params["window_strides"][0]))
  return found


def _logits(model: models.Model) -> Callable[..., Any]:
  return lambda params, stats, images: model.apply(
    params, stats, images, False
  )[1]


def _all(jaxpr: Any) -> Iterator[Any]:
  for equation in jaxpr.eqns:
    yield equation
    for inner in _inner(equation):
      yield from _all(inner)


def _count(jaxpr: Any) -> int:
  total = 0
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    if name == "dot_general":
      total += _of_product(equation)
    elif name == "conv_general_dilated":
      total += _of_convolution(equation)
    else:
      inner = [_count(j) for j in _inner(equation)]
      if inner:
        times = equation.params["length"] if name == "scan" else 1
        total += times * (max(inner) if name == "cond" else sum(inner))
  return total


def _inner(equation: Any) -> list[Any]:
  """Returns the programs that an equation calls.

  Where platforms have programs of their own, that of all others is taken: it is
  the mathematics, and theirs are ways around it.
  """
  platforms = equation.params.get("branches_platforms")
  if platforms and None in platforms:
    return [equation.params["branches"][platforms.index(None)].jaxpr]
  found = []
  for value in equation.params.values():
    for entry in value if isinstance(value, (tuple, list)) else (value,):
      entry = getattr(entry, "jaxpr", entry)  # Of one with its constants.
      if hasattr(entry, "eqns"):
        found.append(entry)
  return found


def _of_product(equation: Any) -> int:
  (contracted, _), _ = equation.params["dimension_numbers"]
  left = equation.invars[0].aval.shape
  out = math.prod(equation.outvars[0].aval.shape)
  return 2 * out * math.prod(left[axis] for axis in contracted)


def _of_convolution(equation: Any) -> int:
  kernel = equation.invars[1].aval.shape
  out_features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
  each = math.prod(kernel) // out_features  # For one number of the output.
  out = math.prod(equation.outvars[0].aval.shape)
  return 2 * out * each // math.prod(equation.params["lhs_dilation"])

"""Parts of a network's parameters: its kernels, and its normalisation.

Parameters are nested dictionaries. A part has the same nesting, but only some
of the leaves, and can be put back in their place. So two branches of a network
can share the one part and have another each for themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PyTree = Any


def kernels(params: PyTree) -> PyTree:
  """Returns the weights of convolutions and linear layers.

  Returns:
    The leaves named `kernel` with two axes or more.
  """
  return _select(
    params, lambda name, layer: name == "kernel" and layer[name].ndim >= 2
  )


def norms(params: PyTree) -> PyTree:
  """Returns the scales and biases of BatchNorm.

  Returns:
    The leaves named `scale`, and those named `bias` beside one.
  """
  return _select(
    params, lambda name, layer: name in ("scale", "bias") and "scale" in layer
  )


def put(params: PyTree, part: PyTree) -> PyTree:
  """Returns the parameters with the leaves of a part in their place.

  Args:
    params: nested dictionaries of arrays.
    part: some of its leaves, as of `kernels` or `norms`; an empty part changes
      nothing.
  """
  result = dict(params)
  for name, value in part.items():
    inner = isinstance(value, Mapping)
    result[name] = put(params[name], value) if inner else value
  return result


def _select(params, chosen):
  result = {}
  for name, value in params.items():
    if isinstance(value, Mapping):
      inner = _select(value, chosen)
      if inner:
        result[name] = inner
    elif chosen(name, params):
      result[name] = value
  return result

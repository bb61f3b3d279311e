"""Tensors of a network drawn without it, so that two of them can be compared.

The same names and shapes give the same tensors, in ltjax's tests and where a
second implementation gave the features that these expect.
"""

from collections.abc import Mapping
import math

import numpy as np


def tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
  """Draws fp32 tensors in the order of their names.

  Args:
    shapes: as PyTorch has them, by name.

  Returns:
    Kernels `[out, in, ...]` that keep the scale of signals; vectors and
    numbers within [0.5, 1.5], which suits variances, too.
  """
  draw = np.random.default_rng(0)
  found = {}
  for name, shape in sorted(shapes.items()):
    if len(shape) > 1:
      array = draw.normal(size=shape) / math.sqrt(math.prod(shape[1:]))
    else:
      array = draw.uniform(0.5, 1.5, shape)
    found[name] = array.astype(np.float32)
  return found


def images(*shape: int) -> np.ndarray:
  """Draws normalised images."""
  return np.random.default_rng(1).normal(size=shape).astype(np.float32)

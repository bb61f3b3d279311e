"""Convolutions as explicit sums over windows, for tests."""

import numpy as np


def reference(x, kernel, stride):
  """Every output pixel as an explicit sum over its window."""
  size = kernel.shape[0]
  pad = size // 2
  batch, height, width, _ = x.shape
  padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  rows, columns = -(-height // stride), -(-width // stride)
  out = np.zeros((batch, rows, columns, kernel.shape[-1]))
  for r in range(rows):
    for c in range(columns):
      top, left = r * stride, c * stride
      window = padded[:, top : top + size, left : left + size]
      out[:, r, c] = np.einsum("bhwi,hwio->bo", window, kernel)
  return out


def reference_gradients(x, kernel, stride, grad):
  """The transposes of `reference`, window by window."""
  size = kernel.shape[0]
  pad = size // 2
  padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  by_x, by_kernel = np.zeros_like(padded), np.zeros_like(kernel)
  for r in range(grad.shape[1]):
    for c in range(grad.shape[2]):
      top, left = r * stride, c * stride
      at = np.s_[:, top : top + size, left : left + size]
      by_kernel += np.einsum("bhwi,bo->hwio", padded[at], grad[:, r, c])
      by_x[at] += np.einsum("bo,hwio->bhwi", grad[:, r, c], kernel)
  end = None if pad == 0 else -pad
  return by_x[:, pad:end, pad:end], by_kernel


def draw(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape)

"""Resized tables of positions, against sums over pixels one at a time."""

import math

import numpy as np
import pytest

from ltjax.models.backbones import vit_layouts


def resized(table, side, *, others=1, antialias=False):
  layout = vit_layouts.layout(
    vit_layouts.Names("timm", vit_layouts.TIMM),
    side,
    others=others,
    antialias=antialias,
  )
  source = layout.source("params/position")
  assert source.names == ("pos_embed",)
  return source.change(table)


def kernel(x, a):
  x = abs(x)
  if x <= 1:
    return (a + 2) * x**3 - (a + 3) * x**2 + 1
  return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def line(values, size, antialias):
  """Interpolates along a list: the four around, or all that the kernel sees."""
  found = []
  for index in range(size):
    center = (index + 0.5) * len(values) / size - 0.5
    if antialias:
      stretch = max(1, len(values) / size)
      shares = [
        kernel((p - center) / stretch, -0.5) for p in range(len(values))
      ]
      total = sum(s * v for s, v in zip(shares, values)) / sum(shares)
    else:
      total = 0
      for place in range(math.floor(center) - 1, math.floor(center) + 3):
        value = values[min(max(place, 0), len(values) - 1)]
        total = total + kernel(place - center, -0.75) * value
    found.append(total)
  return found


def grid(table, side, antialias):
  old = math.isqrt(len(table))
  rows = line(list(table.reshape(old, old, -1)), side, antialias)
  columns = [line(list(row), side, antialias) for row in rows]
  return np.array(columns).reshape(side * side, -1)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(
  "old, side", [(7, 3), (3, 5), (4, 9), (1, 2), (37, 16)]
)
def test_tables_are_resized_as_pixel_by_pixel(old, side, antialias):
  table = np.random.default_rng(old).normal(size=(1, old**2 + 1, 2))
  found = resized(table, side, antialias=antialias)
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found[0], np.float32(table[0, 0]))
  expected = grid(table[0, 1:], side, antialias)
  np.testing.assert_allclose(found[1:], expected, atol=1e-5)


# Of torch.nn.functional.interpolate, of the squares of 0 to 4 in both axes,
# from the diagonal.
@pytest.mark.parametrize(
  "antialias, expected",
  [(False, [0.2963, 8.0, 28.14813]), (True, [0.33846, 8.3907, 26.67692])],
)
def test_literals_of_pytorch(antialias, expected):
  squares = np.arange(5.0) ** 2
  table = (squares[:, None] + squares).reshape(25, 1)
  found = resized(table, 3, others=0, antialias=antialias)
  np.testing.assert_allclose(found[[0, 4, 8], 0], expected, atol=1e-4)


@pytest.mark.parametrize("antialias", [False, True])
def test_constant_tables_stay_constant(antialias):
  found = resized(np.full((1, 49, 2), 3.0), 5, others=0, antialias=antialias)
  np.testing.assert_allclose(found, np.full((25, 2), 3.0), rtol=1e-6)


def test_tables_of_the_size_are_taken_as_they_are():
  table = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
  np.testing.assert_array_equal(resized(table, 3), table)


def test_fused_layers_are_told_apart():
  layout = vit_layouts.layout(
    vit_layouts.Names("timm", vit_layouts.TIMM, prefix="trunk."),
    3,
    others=0,
    antialias=False,
  )
  assert layout.marker == "trunk.pos_embed"
  fused = np.arange(12.0).reshape(6, 2)
  for place, name in enumerate(("query", "key", "value")):
    path = f"params/blocks_11/attention/{name}/kernel"
    source = layout.source(path)
    assert source.names == ("trunk.blocks.11.attn.qkv.weight",)
    rows = fused[2 * place : 2 * place + 2]
    np.testing.assert_array_equal(source.change(fused), rows.T)

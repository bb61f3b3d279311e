"""Winograd's convolution, against sums over windows and golden matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from windows import draw, reference, reference_gradients

from ltjax.models.cpu_kernels import winograd


def relative(got, want):
  """The root of the mean square, of the error in that of what is wanted."""
  got = np.asarray(got, np.float64)
  return np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))


def given(shape, features, dtype=jnp.float32):
  x, kernel = draw(0, *shape), draw(1, 3, 3, shape[-1], features)
  grad = draw(2, *shape[:-1], features)
  arrays = [jnp.asarray(a, dtype) for a in (x, kernel, grad)]
  return arrays, [np.asarray(a, np.float64) for a in arrays]


@pytest.mark.parametrize(
  "shape, features",
  [((4, 8, 12, 3), 5), ((2, 4, 4, 6), 2), ((3, 16, 4, 1), 1)],
)
@pytest.mark.parametrize("piece", [2**21, 1])
def test_equals_the_sums(monkeypatch, shape, features, piece):
  monkeypatch.setattr(winograd, "_PIECE_BYTES", piece)
  (x, kernel, grad), exact = given(shape, features)
  count = winograd._count(jnp.zeros(0), x)
  assert count == (1 if piece > 1 or shape[0] % 2 else shape[0])
  out = jax.jit(winograd.convolve)(x, kernel)
  assert relative(out, reference(*exact[:2], 1)) < 2e-6
  found = jax.jit(winograd.gradients)(x, kernel, grad)
  wanted = reference_gradients(exact[0], exact[1], 1, exact[2])
  for got, want in zip(found, wanted, strict=True):
    assert got.shape == want.shape and relative(got, want) < 2e-6


def test_gradients_are_those_of_convolve():
  (x, kernel, grad), _ = given((2, 8, 8, 3), 4)
  _, back = jax.vjp(winograd.convolve, x, kernel)
  found = winograd.gradients(x, kernel, grad)
  for got, want in zip(found, back(grad), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_pieces_are_no_smaller_than_the_kernel(monkeypatch):
  x = jax.ShapeDtypeStruct((64, 4, 4, 512), jnp.float32)  # 2 MiB
  small = jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.float32)
  large = jax.ShapeDtypeStruct((3, 3, 512, 512), jnp.float32)  # 9 MiB
  monkeypatch.setattr(winograd, "_PIECE_BYTES", 2**18)
  assert winograd._count(small, x) == 8
  assert winograd._count(large, x) == 1


def test_half_precision_is_rounded_once():
  """Tiles of bfloat16 would lose two digits: it is computed in fp32."""
  (x, kernel, grad), exact = given((2, 8, 8, 32), 8, jnp.bfloat16)
  out = winograd.convolve(x, kernel)
  found = (out, *winograd.gradients(x, kernel, grad))
  wanted = (
    reference(*exact[:2], 1),
    *reference_gradients(exact[0], exact[1], 1, exact[2]),
  )
  for got, want in zip(found, wanted, strict=True):
    assert got.dtype == jnp.bfloat16
    rounded = np.asarray(jnp.asarray(want, jnp.bfloat16), np.float64)
    assert relative(got, want) < 1.01 * relative(rounded, want)


@pytest.mark.parametrize("scale", [1e-20, 1e15])
def test_any_scale_is_as_exact(scale):
  (x, kernel, _), exact = given((2, 8, 8, 16), 4)
  out = winograd.convolve(x * scale, kernel)
  wanted = reference(*exact[:2], 1)
  assert relative(np.asarray(out, np.float64) / scale, wanted) < 2e-6


def test_a_window_that_is_zero_stays_near_zero():
  """What a tile adds and takes away again is no larger than its rounding."""
  x = np.zeros((1, 8, 8, 4))
  x[:, :, 4:] = 1e3 * draw(0, 1, 8, 4, 4)
  kernel = draw(1, 3, 3, 4, 2)
  f32 = [jnp.asarray(a, jnp.float32) for a in (x, kernel)]
  out = np.asarray(winograd.convolve(*f32))
  # Tiles of which every input is zero are zero: 1 to 4 see only columns to 5.
  np.testing.assert_allclose(out[:, :, :3], 0, atol=1e-3)
  np.testing.assert_allclose(out, reference(x, kernel, 1), atol=1e-2)


def test_points_round_better_than_the_usual(monkeypatch):
  (x, kernel, _), exact = given((8, 16, 16, 128), 16)
  x, exact[0] = jnp.maximum(x, 0), np.maximum(exact[0], 0)
  wanted = reference(*exact[:2], 1)

  def error():
    for cached in (winograd._line, winograd._kernel_to_weights, winograd._band):
      cached.cache_clear()
    return relative(winograd.convolve(x, kernel), wanted)

  ours = error()
  monkeypatch.setattr(winograd, "_POINTS", (0.0, 1.0, -1.0, 2.0, -2.0))
  usual = error()
  monkeypatch.undo()
  assert error() == ours
  assert ours < 2e-6 and ours < 0.8 * usual


def test_the_usual_matrices_of_lavin_and_gray(monkeypatch):
  """Their F(4x4, 3x3) up to a factor of each product (Section 4.3)."""
  monkeypatch.setattr(winograd, "_POINTS", (0.0, 1.0, -1.0, 2.0, -2.0))
  winograd._line.cache_clear()
  outputs, kernel, inputs = winograd._line()
  winograd._line.cache_clear()
  np.testing.assert_array_equal(
    outputs,
    [
      [1, 1, 1, 1, 1, 0],
      [0, 1, -1, 2, -2, 0],
      [0, 1, 1, 4, 4, 0],
      [0, 1, -1, 8, -8, 1],
    ],
  )
  theirs = np.array(
    [
      [4, 0, -5, 0, 1, 0],
      [0, -4, -4, 1, 1, 0],
      [0, 4, -4, -1, 1, 0],
      [0, -2, -1, 2, 1, 0],
      [0, 2, -1, -2, 1, 0],
      [0, 4, 0, -5, 0, 1],
    ]
  )
  factors = inputs[:, 4] / np.where(theirs[:, 4] == 0, 1, theirs[:, 4])
  factors[-1] = 1
  np.testing.assert_allclose(inputs, factors[:, None] * theirs, atol=1e-6)
  taps = np.array(
    [
      [1 / 4, 0, 0],
      [-1 / 6, -1 / 6, -1 / 6],
      [-1 / 6, 1 / 6, -1 / 6],
      [1 / 24, 1 / 12, 1 / 6],
      [1 / 24, -1 / 12, 1 / 6],
      [0, 0, 1],
    ]
  )
  np.testing.assert_allclose(factors[:, None] * kernel, taps, atol=1e-6)


@pytest.mark.parametrize(
  "side, size, stride, suits",
  [(8, 3, 1, True), (10, 3, 1, False), (8, 3, 2, False), (8, 5, 1, False)],
)
def test_suits(side, size, stride, suits):
  for shape in ((2, side, 8, 3), (2, 8, side, 3)):
    x, kernel = np.zeros(shape), np.zeros((size, size, 3, 3))
    assert winograd.suits(x, kernel, stride) == suits


def test_memory_does_not_grow_with_the_batch():
  kernel = jnp.ones((3, 3, 64, 64))

  def temporary(batch):
    x = jnp.ones((batch, 16, 16, 64))
    compiled = jax.jit(winograd.gradients).lower(x, kernel, x).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporary(128) < 1.5 * temporary(32)

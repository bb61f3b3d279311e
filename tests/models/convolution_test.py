"""The convolution and its gradients, against sums written out by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import convolution


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


def gradients(x, kernel, stride, grad):
  _, back = jax.vjp(lambda a, k: convolution.convolve(a, k, stride), x, kernel)
  return back(grad)


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(8, 8), (5, 6)])
def test_forward_and_gradients_equal_the_sums(size, stride, shape):
  x, kernel = draw(0, 4, *shape, 2), draw(1, size, size, 2, 3)
  expected = reference(x, kernel, stride)
  grad = draw(2, *expected.shape)
  f32 = [jnp.asarray(a, jnp.float32) for a in (x, kernel, grad)]
  out = jax.jit(convolution.convolve, static_argnums=2)(*f32[:2], stride)
  np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
  by_x, by_kernel = jax.jit(gradients, static_argnums=2)(
    f32[0], f32[1], stride, f32[2]
  )
  want_x, want_kernel = reference_gradients(x, kernel, stride, grad)
  np.testing.assert_allclose(by_x, want_x, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(by_kernel, want_kernel, rtol=1e-4, atol=1e-4)


def test_a_strided_kernel_of_one_pixel_reads_only_the_pixels_that_count():
  """XLA:CPU makes both gradients of the strided one many times slower."""
  x, kernel = jnp.ones((2, 5, 6, 3)), jnp.ones((1, 1, 3, 4))
  step = jax.jit(jax.grad(lambda x, k: convolution.convolve(x, k, 2).sum()))
  text = step.lower(x, kernel).as_text()
  assert "stride = [2, 2]" not in text and "lhs_dilate = [2, 2]" not in text
  outside = np.ones((5, 6), bool)
  outside[::2, ::2] = False
  np.testing.assert_array_equal(np.asarray(step(x, kernel))[:, outside], 0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("batch, count", [(8, 8), (12, 4), (7, 1)])
def test_pieces_add_up_to_the_whole(monkeypatch, stride, batch, count):
  x = jnp.asarray(draw(0, batch, 6, 6, 2), jnp.float32)
  kernel = jnp.asarray(draw(1, 3, 3, 2, 3), jnp.float32)
  grad = jnp.ones_like(convolution.convolve(x, kernel, stride))
  assert convolution.pieces(x, grad) == 1
  whole = gradients(x, kernel, stride, grad)[1]
  monkeypatch.setattr(convolution, "_PIECE_BYTES", 1)
  assert convolution.pieces(x, grad) == count
  split = gradients(x, kernel, stride, grad)[1]
  np.testing.assert_allclose(split, whole, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
  "shape, count",
  [
    ((128, 32, 32, 16), 8),  # 8 MiB
    ((128, 16, 16, 32), 4),
    ((128, 8, 8, 64), 2),
    ((128, 32, 32, 64), 32),
    ((512, 32, 32, 64), 32),  # The cap.
    ((100, 32, 32, 64), 4),  # 25 is odd.
    ((127, 32, 32, 64), 1),
    ((16, 8, 8, 16), 1),
  ],
)
def test_number_of_pieces(shape, count):
  x = jax.ShapeDtypeStruct(shape, jnp.float32)
  small = jax.ShapeDtypeStruct((shape[0], 1, 1, 1), jnp.float32)
  assert convolution.pieces(x, small) == count
  assert convolution.pieces(small, x) == count


def test_half_precision_counts_half():
  x = jax.ShapeDtypeStruct((128, 32, 32, 16), jnp.bfloat16)
  assert convolution.pieces(x, x) == 4


def test_only_a_cpu_splits():
  x = jax.ShapeDtypeStruct((16, 64, 64, 16), jnp.float32)
  kernel = jax.ShapeDtypeStruct((3, 3, 16, 16), jnp.float32)
  assert convolution.pieces(x, x) == 4
  traced = jax.jit(gradients, static_argnums=2).trace(x, kernel, 1, x)

  def count(platform):
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    return text.count("stablehlo.convolution")

  # Both gradients and, not yet eliminated, the forward pass.
  assert count("cpu") - count("cuda") == 3


def test_pieces_of_half_precision_are_added_in_single(monkeypatch):
  monkeypatch.setattr(convolution, "_PIECE_BYTES", 1)
  # One image a piece: 256, four times 1, three times 0.
  x = jnp.zeros((8, 1, 1, 1), jnp.bfloat16).at[0].set(256).at[1:5].set(1)
  kernel = jnp.zeros((1, 1, 1, 1), jnp.bfloat16)
  by_kernel = gradients(x, kernel, 1, jnp.ones_like(x))[1]
  # Added one by one in bfloat16, 256 + 1 stays 256.
  assert by_kernel.dtype == jnp.bfloat16
  assert float(by_kernel[0, 0, 0, 0]) == 260


def test_under_vmap_and_sharding(monkeypatch):
  monkeypatch.setattr(convolution, "_PIECE_BYTES", 1)
  x = jnp.asarray(draw(0, 8, 4, 4, 2), jnp.float32)
  kernels = jnp.asarray(draw(1, 2, 3, 3, 2, 2), jnp.float32)

  def loss(kernel, x):
    return jnp.sum(convolution.convolve(x, kernel, 1) ** 2)

  grad = jax.jit(jax.grad(loss))
  one_by_one = jnp.stack([grad(k, x) for k in kernels])
  vmapped = jax.jit(jax.vmap(jax.grad(loss), (0, None)))(kernels, x)
  chex.assert_trees_all_close(vmapped, one_by_one, rtol=1e-5)
  mesh = jax.make_mesh(
    (4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  sharded = jax.device_put(
    x, jax.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  )
  chex.assert_trees_all_close(
    grad(kernels[0], sharded), one_by_one[0], rtol=1e-5
  )


def test_gradient_of_the_gradient():
  x = jnp.asarray(draw(0, 2, 3, 3, 1), jnp.float32)
  kernel = jnp.asarray(draw(1, 3, 3, 1, 1), jnp.float32)

  def loss(kernel):
    return jnp.sum(convolution.convolve(x, kernel, 1) ** 2)

  # The loss is quadratic: its curvature along a direction d is 2 loss(d).
  d = jnp.asarray(draw(2, 3, 3, 1, 1), jnp.float32)
  product = jax.grad(lambda k: jnp.vdot(jax.grad(loss)(k), d))(kernel)
  np.testing.assert_allclose(jnp.vdot(product, d), 2 * loss(d), rtol=1e-4)

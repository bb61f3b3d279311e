"""The depthwise convolution, against sums written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from windows import draw

from ltjax.models.layers import depthwise


def windows(x, size, stride):
  """Each output pixel and its window; the odd zero is at the end."""
  pads = []
  for side in x.shape[1:3]:
    total = max((-(-side // stride) - 1) * stride + size - side, 0)
    pads.append((total // 2, total - total // 2))
  padded = np.pad(x, ((0, 0), *pads, (0, 0)))
  for row in range(-(-x.shape[1] // stride)):
    for column in range(-(-x.shape[2] // stride)):
      at = np.s_[
        :,
        row * stride : row * stride + size,
        column * stride : column * stride + size,
      ]
      yield row, column, at, padded


def reference(x, kernel, stride):
  rows, columns = (-(-side // stride) for side in x.shape[1:3])
  y = np.zeros((len(x), rows, columns, x.shape[-1]))
  for row, column, at, padded in windows(x, len(kernel), stride):
    y[:, row, column] = (padded[at] * kernel[:, :, 0]).sum((1, 2))
  return y


def by_kernel(x, kernel, stride, grad):
  total = np.zeros_like(kernel)
  for row, column, at, padded in windows(x, len(kernel), stride):
    total[:, :, 0] += (padded[at] * grad[:, row, column, None, None]).sum(0)
  return total


def convolve(x, kernel, stride):
  return jax.jit(depthwise.convolve, static_argnums=2)(x, kernel, stride)


def plain(x, kernel, stride):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


def gradients(of, x, kernel, stride, grad):
  _, back = jax.vjp(lambda x, kernel: of(x, kernel, stride), x, kernel)
  return back(grad)


@pytest.mark.parametrize("size", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (5, 6), (2, 1)])
def test_it_and_its_gradients_equal_the_sums(size, stride, shape):
  x, kernel = draw(0, 2, *shape, 3), draw(1, size, size, 1, 3)
  expected = reference(x, kernel, stride)
  grad = draw(2, *expected.shape)
  f32 = [jnp.asarray(a, jnp.float32) for a in (x, kernel, grad)]
  y = convolve(*f32[:2], stride)
  np.testing.assert_allclose(y, expected, atol=1e-5)
  np.testing.assert_allclose(y, plain(*f32[:2], stride), atol=1e-5)
  found = gradients(convolve, *f32[:2], stride, f32[2])
  want = gradients(plain, *f32[:2], stride, f32[2])
  np.testing.assert_allclose(found[0], want[0], atol=1e-4)
  np.testing.assert_allclose(found[1], want[1], atol=1e-4)
  np.testing.assert_allclose(
    found[1], by_kernel(x, kernel, stride, grad), atol=1e-4
  )


def test_of_an_even_side_a_stride_sees_the_end():
  """PyTorch's padding of a pixel a side would give [[1, 2], [2, 4]]."""
  y = convolve(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), 2)
  np.testing.assert_array_equal(y[0, :, :, 0], [[9, 6], [6, 4]])


def test_channels_do_not_mix():
  x = jnp.ones((1, 4, 4, 2)).at[..., 1].set(0)
  y = convolve(x, jnp.ones((3, 3, 1, 2)), 1)
  assert float(y[..., 0].min()) > 0 and float(jnp.abs(y[..., 1]).max()) == 0


def test_half_precision_is_added_in_single():
  # Nine products of 256 and eight times 1: one by one they would stay 256.
  x = jnp.ones((1, 3, 3, 1), jnp.bfloat16).at[0, 0, 0].set(256)
  y = convolve(x, jnp.ones((3, 3, 1, 1), jnp.bfloat16), 1)
  assert y.dtype == jnp.bfloat16
  assert float(y[0, 1, 1, 0]) == 264
  found = gradients(
    convolve, x, jnp.ones((3, 3, 1, 1), jnp.bfloat16), 1, jnp.ones_like(x)
  )
  assert [a.dtype for a in found] == [jnp.bfloat16] * 2
  np.testing.assert_array_equal(
    found[0][0, :, :, 0].astype(jnp.float32), [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
  )


def test_only_a_cpu_shifts():
  x, kernel = jnp.ones((2, 6, 6, 4)), jnp.ones((3, 3, 1, 4))
  program = jax.jit(
    lambda x, kernel: gradients(
      depthwise.convolve, x, kernel, 2, jnp.ones((2, 3, 3, 4))
    )
  ).trace(x, kernel)

  def text(platform):
    return program.lower(lowering_platforms=(platform,)).as_text()

  assert "stablehlo.convolution" not in text("cpu")
  for platform in ("cuda", "tpu"):
    assert text(platform).count("stablehlo.convolution") >= 2
    assert "optimization_barrier" not in text(platform)


def test_under_vmap():
  x = jnp.asarray(draw(0, 2, 5, 5, 3), jnp.float32)
  kernels = jnp.asarray(draw(1, 4, 3, 3, 1, 3), jnp.float32)
  y = jax.vmap(lambda kernel: convolve(x, kernel, 2))(kernels)
  one_by_one = jnp.stack([convolve(x, kernel, 2) for kernel in kernels])
  np.testing.assert_allclose(y, one_by_one, rtol=1e-5, atol=1e-5)


def test_the_module_computes_in_its_dtype():
  net = depthwise.Conv(size=3, stride=2, dtype=jnp.bfloat16)
  x = jnp.ones((1, 4, 6, 3))
  y, variables = net.init_with_output(jax.random.key(0), x)
  kernel = variables["params"]["kernel"]
  assert kernel.shape == (3, 3, 1, 3) and kernel.dtype == jnp.float32
  assert y.shape == (1, 2, 3, 3) and y.dtype == jnp.bfloat16

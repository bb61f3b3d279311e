"""The convolution and its gradients, against sums written out by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from windows import draw, reference, reference_gradients

from ltjax.models.cpu_kernels import batches, strided, winograd
from ltjax.models.layers import convolution


def traced(x, kernel, stride, grad):
  """`gradients`, traced anew and not taken from a cache."""
  fresh = jax.jit(lambda *args: gradients(args[0], args[1], stride, args[2]))
  return fresh.trace(x, kernel, grad)


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


@pytest.mark.parametrize("size, stride", [(1, 1), (3, 2)])
def test_groups_are_convolutions_side_by_side(size, stride):
  """Each part of the outputs sees its part of the inputs; gradients as well."""
  x, kernel = draw(0, 4, 5, 6, 6), draw(1, size, size, 2, 9)
  xs, kernels = np.split(x, 3, -1), np.split(kernel, 3, -1)
  expected = [reference(a, k, stride) for a, k in zip(xs, kernels)]
  grads = [draw(2 + i, *part.shape) for i, part in enumerate(expected)]
  f32 = [jnp.asarray(a, jnp.float32) for a in (x, kernel)]
  out = jax.jit(convolution.convolve, static_argnums=2)(*f32, stride)
  np.testing.assert_allclose(
    out, np.concatenate(expected, -1), rtol=1e-4, atol=1e-4
  )
  found = jax.jit(gradients, static_argnums=2)(
    *f32, stride, jnp.asarray(np.concatenate(grads, -1), jnp.float32)
  )
  wanted = [
    reference_gradients(*parts)
    for parts in zip(xs, kernels, [stride] * 3, grads)
  ]
  for got, parts in zip(found, zip(*wanted)):
    np.testing.assert_allclose(
      got, np.concatenate(parts, -1), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_a_kernel_of_one_pixel_is_a_product(stride):
  """XLA:CPU makes both gradients of a strided one many times slower."""
  x, kernel = jnp.ones((2, 5, 6, 3)), jnp.ones((1, 1, 3, 4))
  step = jax.jit(
    jax.grad(lambda x, k: convolution.convolve(x, k, stride).sum())
  )
  assert "convolution" not in step.lower(x, kernel).as_text()
  outside = np.ones((5, 6), bool)
  outside[::stride, ::stride] = False
  np.testing.assert_array_equal(np.asarray(step(x, kernel))[:, outside], 0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("batch, count", [(8, 8), (12, 4), (7, 1)])
def test_pieces_add_up_to_the_whole(monkeypatch, stride, batch, count):
  x = jnp.asarray(draw(0, batch, 6, 6, 2), jnp.float32)
  kernel = jnp.asarray(draw(1, 3, 3, 2, 3), jnp.float32)
  grad = jnp.ones_like(convolution.convolve(x, kernel, stride))
  whole = gradients(x, kernel, stride, grad)[1]
  monkeypatch.setattr(convolution, "_PIECE_BYTES", 1)
  assert batches.count(x, grad, least=1, most=32) == count
  split = gradients(x, kernel, stride, grad)[1]
  np.testing.assert_allclose(split, whole, rtol=1e-5, atol=1e-4)


def test_only_a_cpu_splits():
  x = jax.ShapeDtypeStruct((16, 64, 64, 16), jnp.float32)
  kernel = jax.ShapeDtypeStruct((3, 3, 16, 16), jnp.float32)
  program = traced(x, kernel, 1, x)

  def count(platform):
    text = program.lower(lowering_platforms=(platform,)).as_text()
    return text.count("stablehlo.convolution")

  # Both gradients and, not yet eliminated, the forward pass.
  assert count("cpu") - count("cuda") == 3


def test_pieces_of_half_precision_are_added_in_single(monkeypatch):
  monkeypatch.setattr(convolution, "_PIECE_BYTES", 1)
  # One image a piece: 256, four times 1, three times 0.
  x = jnp.zeros((8, 1, 1, 1), jnp.bfloat16).at[0].set(256).at[1:5].set(1)
  kernel = jnp.zeros((3, 3, 1, 1), jnp.bfloat16)
  by_kernel = gradients(x, kernel, 1, jnp.ones_like(x))[1]
  # Added one by one in bfloat16, 256 + 1 stays 256.
  assert by_kernel.dtype == jnp.bfloat16
  assert float(by_kernel[1, 1, 0, 0]) == 260


@pytest.mark.parametrize(
  "side, inputs, outputs, stride, forward, backward",
  [
    (8, 128, 128, 1, "winograd", "winograd"),
    (8, 64, 128, 1, "plain", "winograd"),
    (8, 128, 63, 1, "plain", "plain"),
    (6, 128, 128, 1, "plain", "plain"),
    (8, 64, 128, 2, "plain", "strided"),
    (7, 64, 128, 2, "plain", "plain"),
    (8, 63, 128, 2, "plain", "plain"),
    (8, "groups", 128, 1, "plain", "plain"),
  ],
)
def test_what_a_cpu_does_instead(
  monkeypatch, side, inputs, outputs, stride, forward, backward
):
  monkeypatch.setattr(convolution, "_BY_PRODUCTS", True)
  called = []
  for module, name in (
    (winograd, "convolve"),
    (winograd, "gradients"),
    (strided, "gradients"),
  ):
    original = getattr(module, name)

    def spy(*args, original=original, module=module):
      called.append(module)
      return original(*args)

    monkeypatch.setattr(module, name, spy)
  names = {winograd: "winograd", strided: "strided"}
  inputs, groups = (128, 2) if inputs == "groups" else (inputs, 1)
  x = jax.ShapeDtypeStruct((2, side, side, inputs * groups), jnp.float32)
  kernel = jax.ShapeDtypeStruct((3, 3, inputs, outputs), jnp.float32)

  def call(x, kernel):
    return convolution.convolve(x, kernel, stride)

  out = jax.eval_shape(call, x, kernel)
  assert [names[m] for m in called] == [forward] * (forward != "plain")
  program = traced(x, kernel, stride, out)
  assert backward == "plain" or names[called[-1]] == backward
  # A GPU's program has XLA's own convolutions and none of it.
  text = program.lower(lowering_platforms=("cuda",)).as_text()
  assert text.count("stablehlo.convolution") >= 2
  assert "dot_general" not in text and "while" not in text


def test_an_older_xla_keeps_its_convolutions(monkeypatch):
  def products(stride, by_products):
    monkeypatch.setattr(convolution, "_BY_PRODUCTS", by_products)
    x = jax.ShapeDtypeStruct((2, 8, 8, 128), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 128, 128), jnp.float32)
    grad = jax.ShapeDtypeStruct((2, 8 // stride, 8 // stride, 128), x.dtype)
    return "dot_general" in str(traced(x, kernel, stride, grad).jaxpr)

  for stride in (1, 2):
    assert not products(stride, by_products=False)
    assert products(stride, by_products=True)


@pytest.mark.parametrize("channels, stride", [(2, 1), (128, 1), (64, 2)])
def test_under_vmap_and_sharding(monkeypatch, channels, stride):
  monkeypatch.setattr(convolution, "_BY_PRODUCTS", True)
  for module in (convolution, winograd, strided):
    monkeypatch.setattr(module, "_PIECE_BYTES", 1)
  x = jnp.asarray(draw(0, 8, 4, 4, channels), jnp.float32)
  kernels = jnp.asarray(draw(1, 2, 3, 3, channels, channels), jnp.float32)

  def loss(kernel, x):
    return jnp.mean(convolution.convolve(x, kernel, stride) ** 2)

  grad = jax.jit(jax.grad(loss))
  one_by_one = jnp.stack([grad(k, x) for k in kernels])
  close = {"rtol": 1e-5}
  if channels > 2:  # Products round by the size of what they add.
    close = {"rtol": 1e-4, "atol": 1e-5 * float(jnp.abs(one_by_one).max())}
  vmapped = jax.jit(jax.vmap(jax.grad(loss), (0, None)))(kernels, x)
  chex.assert_trees_all_close(vmapped, one_by_one, **close)
  mesh = jax.make_mesh(
    (4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  sharded = jax.device_put(
    x, jax.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  )
  chex.assert_trees_all_close(grad(kernels[0], sharded), one_by_one[0], **close)


@pytest.mark.parametrize("channels, stride", [(1, 1), (128, 1), (64, 2)])
def test_gradient_of_the_gradient(monkeypatch, channels, stride):
  monkeypatch.setattr(convolution, "_BY_PRODUCTS", True)
  for module in (winograd, strided):
    monkeypatch.setattr(module, "_PIECE_BYTES", 1)
    monkeypatch.setattr(module, "_MAX_PIECES", 2)
  x = jnp.asarray(draw(0, 4, 4, 4, channels), jnp.float32)
  shape = (3, 3, channels, channels)
  kernel = jnp.asarray(draw(1, *shape), jnp.float32)

  def loss(kernel):
    return jnp.mean(convolution.convolve(x, kernel, stride) ** 2)

  # The loss is quadratic: its curvature along a direction d is 2 loss(d).
  d = jnp.asarray(draw(2, *shape), jnp.float32)
  product = jax.grad(lambda k: jnp.vdot(jax.grad(loss)(k), d))(kernel)
  np.testing.assert_allclose(jnp.vdot(product, d), 2 * loss(d), rtol=1e-4)

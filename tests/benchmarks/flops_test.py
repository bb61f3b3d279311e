import bench_toys
import jax
import jax.numpy as jnp
import pytest

from benchmarks import flops
from ltjax import models
from ltjax.models.cpu_kernels import batches
from ltjax.models.layers import convolution


def shape(*sizes):
  return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_products_loops_and_branches():
  a, b = shape(3, 4), shape(4, 5)
  once = 2 * 3 * 4 * 5
  assert flops.of_call(jnp.matmul, a, b) == once
  assert flops.of_call(jax.jit(jnp.matmul), a, b) == once
  assert flops.of_call(lambda a: jnp.sin(a) + 1, a) == 0

  def seven(a, b):
    def body(carry, _):
      return carry + jnp.sum(a @ b), None

    return jax.lax.scan(body, 0.0, None, length=7)

  assert flops.of_call(seven, a, b) == 7 * once

  def larger(a, b):
    return jax.lax.cond(
      a[0, 0] > 0, lambda: jnp.sum(a @ b), lambda: jnp.sum((a @ b) @ b.T)
    )

  assert flops.of_call(larger, a, b) == 2 * once

  def elsewhere(a, b):
    return jax.lax.platform_dependent(
      a, b, cpu=lambda a, b: (a @ b) @ b.T @ b, default=jnp.matmul
    )

  assert flops.of_call(elsewhere, a, b) == once


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("batch", [2, 64])
def test_a_gradient_counts_as_mathematics(stride, batch):
  # 64 images are cut in pieces for the gradient of the kernel.
  x, kernel = shape(batch, 16, 16, 32), shape(3, 3, 32, 8)
  side = 16 // stride
  once = 2 * batch * side * side * 9 * 32 * 8

  def call(x, kernel):
    return convolution.convolve(x, kernel, stride)

  count = batches.count(x, x, least=convolution._PIECE_BYTES, most=32)
  assert (count > 1) == (batch == 64)
  assert flops.of_call(call, x, kernel) == once

  def loss(x, kernel):
    return jnp.sum(call(x, kernel) ** 2)

  three = flops.of_call(jax.value_and_grad(loss, (0, 1)), x, kernel)
  assert three == flops.TRAINING * once


def test_a_network_by_hand():
  model = models.create("resnet8", num_classes=10, image_shape=(32, 32, 3))
  macs = 32 * 32 * 9 * (3 * 16 + 2 * 16 * 16)
  macs += 16 * 16 * 9 * (16 * 32 + 32 * 32)
  macs += 8 * 8 * 9 * (32 * 64 + 64 * 64)
  assert flops.forward(model) == 2 * (macs + 64 * 10)
  found = flops.convolutions(model, 6)
  assert len(found) == 7
  assert found[0] == ((6, 32, 32, 3), (3, 3, 3, 16), 1)
  assert found[3] == ((6, 32, 32, 16), (3, 3, 16, 32), 2)


def test_kernels_of_one_pixel_and_other_ways_of_a_cpu():
  model = models.create("resnet18", num_classes=10, image_shape=(32, 32, 3))
  # The stem, eight blocks of two, and three shortcuts, none of them twice.
  found = flops.convolutions(model, 6)
  assert len(found) == 20
  assert found[7] == ((6, 32, 32, 64), (1, 1, 64, 128), 2)
  macs = 32 * 32 * 9 * (3 * 64 + 4 * 64 * 64)
  for side, width in ((16, 128), (8, 256), (4, 512)):
    before = width // 2
    macs += side * side * (9 * width * (before + 3 * width) + before * width)
  assert flops.forward(model) == 2 * (macs + 512 * 10)


def test_the_toy_of_other_tests():
  model = bench_toys.Tiny().create(
    "tiny", num_classes=10, image_shape=(8, 8, 3), dtype="float32"
  )
  assert flops.forward(model) == bench_toys.FORWARD

"""How a batch is cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models.cpu_kernels import batches

MIB = 2**20


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
  assert batches.count(x, small, least=MIB, most=32) == count
  assert batches.count(small, x, least=MIB, most=32) == count


def test_half_precision_counts_half():
  x = jax.ShapeDtypeStruct((128, 32, 32, 16), jnp.bfloat16)
  assert batches.count(x, least=MIB, most=32) == 4


def test_a_piece_is_every_nth_image():
  x = np.arange(24).reshape(12, 2)
  split = batches.split(x, 4)
  assert split.shape == (3, 4, 2)
  for i in range(4):
    np.testing.assert_array_equal(split[:, i], x[i::4])

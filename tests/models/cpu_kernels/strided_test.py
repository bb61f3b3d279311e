"""Gradients of a convolution of stride 2, against sums over windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from windows import draw, reference, reference_gradients

from ltjax.models.cpu_kernels import batches, strided


@pytest.mark.parametrize("shape", [(4, 8, 6, 3), (2, 2, 2, 5), (3, 4, 10, 1)])
@pytest.mark.parametrize("piece", [2**21, 1])
def test_equal_the_sums(monkeypatch, shape, piece):
  monkeypatch.setattr(strided, "_PIECE_BYTES", piece)
  x, kernel = draw(0, *shape), draw(1, 3, 3, shape[-1], 4)
  grad = draw(2, *reference(x, kernel, 2).shape)
  f32 = [jnp.asarray(a, jnp.float32) for a in (x, kernel, grad)]
  found = jax.jit(strided.gradients)(*f32)
  wanted = reference_gradients(x, kernel, 2, grad)
  for got, want in zip(found, wanted, strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_pieces_are_added_in_single(monkeypatch):
  """One image a piece: 256, four times 1, three times 0."""
  monkeypatch.setattr(batches, "count", lambda *_, least, most: 8)
  x = jnp.zeros((8, 2, 2, 64), jnp.bfloat16).at[0].set(256).at[1:5].set(1)
  kernel = jnp.zeros((3, 3, 64, 64), jnp.bfloat16)
  grad = jnp.ones((8, 1, 1, 64), jnp.bfloat16)
  by_x, by_kernel = strided.gradients(x, kernel, grad)
  assert by_x.dtype == by_kernel.dtype == jnp.bfloat16
  np.testing.assert_array_equal(by_kernel[1:, 1:].astype(jnp.float32), 260)
  # What lies above and to the left is padding.
  np.testing.assert_array_equal(by_kernel[0].astype(jnp.float32), 0)
  np.testing.assert_array_equal(by_kernel[:, 0].astype(jnp.float32), 0)


@pytest.mark.parametrize(
  "side, size, stride, suits",
  [
    (8, 3, 2, True),
    (2, 3, 2, True),
    (7, 3, 2, False),
    (8, 5, 2, False),
    (8, 3, 1, False),
  ],
)
def test_suits(side, size, stride, suits):
  for shape in ((2, side, 8, 3), (2, 8, side, 3)):
    kernel = np.zeros((size, size, 3, 4))
    assert strided.suits(np.zeros(shape), kernel, stride) == suits

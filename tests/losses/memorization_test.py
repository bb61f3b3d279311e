import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import memorization

strengths = jax.jit(memorization.strengths)


def ids(*values):
  return jnp.array(values, jnp.int32)


def update(memory, losses, index, *, decay=0.97, first=False):
  return memorization.update(
    memory, jnp.array(losses), ids(*index), decay=decay, first=first
  )


def test_starts_unseen_and_takes_the_first_loss():
  memory = memorization.start(4)
  assert memory.shape == (4,) and memory.dtype == jnp.float32
  np.testing.assert_array_equal(memory, memorization.UNSEEN)
  memory = update(memory, [3.0, 1.0], [2, 0])
  np.testing.assert_array_equal(memory, [1.0, -1.0, 3.0, -1.0])


def test_golden():
  """A second loss moves the average by 3 %, of the batch's images only."""
  memory = jnp.array([1.0, 2.0, 3.0])
  memory = update(memory, [2.0, 0.0], [0, 2])
  np.testing.assert_allclose(memory, [1.03, 2.0, 2.91], rtol=1e-6)


def test_the_first_epoch_takes_losses_as_they_are():
  memory = jnp.array([1.0, 2.0, 0.0])
  for first in (True, jnp.array(True)):
    found = update(memory, [5.0, 7.0], [0, 2], first=first)
    np.testing.assert_array_equal(found, [5.0, 2.0, 7.0])


def test_equals_the_mean_over_epochs_in_numpy():
  rng = np.random.default_rng(0)
  losses = rng.uniform(0, 5, size=(4, 6)).astype(np.float32)
  memory = memorization.start(6)
  step = jax.jit(
    lambda memory, losses, index, first: memorization.update(
      memory, losses, index, decay=0.9, first=first
    )
  )
  expected = None
  for epoch, of_epoch in enumerate(losses):
    order = rng.permutation(6).astype(np.int32)
    for batch in (order[:3], order[3:]):
      memory = step(memory, of_epoch[batch], batch, epoch == 0)
    expected = of_epoch if expected is None else 0.9 * expected + 0.1 * of_epoch
  np.testing.assert_allclose(memory, expected, rtol=1e-5)


def test_decay_0_keeps_the_last_loss():
  found = update(jnp.array([1.0, 2.0]), [9.0], [1], decay=0.0)
  np.testing.assert_array_equal(found, [1.0, 9.0])


def test_an_image_twice_keeps_one_of_its_losses():
  found = update(memorization.start(2), [4.0, 6.0], [1, 1])
  assert float(found[0]) == -1.0 and float(found[1]) in (4.0, 6.0)


def test_losses_of_bfloat16_are_kept_in_fp32():
  losses = jnp.array([0.5], jnp.bfloat16)
  found = memorization.update(
    jnp.array([1.0]), losses, ids(0), decay=0.97, first=False
  )
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, [0.985], rtol=1e-6)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_decay_is_checked(decay):
  with pytest.raises(ValueError, match=r"must be in \[0, 1\), such as 0\.97"):
    update(memorization.start(2), [1.0], [0], decay=decay)


def published(memory):
  """z-score, then by the largest magnitude, then to [0, 1]."""
  z = (memory - memory.mean()) / memory.std()
  return z / np.abs(z).max() / 2 + 0.5


def test_strengths_are_the_published_ones():
  memory = np.random.default_rng(1).uniform(0, 6, 50)
  found = strengths(jnp.asarray(memory, jnp.float32))
  assert found.shape == (50,) and found.dtype == jnp.float32
  np.testing.assert_allclose(found, published(memory), atol=1e-5)


def test_strengths_golden():
  found = strengths(jnp.array([1.0, 2.0, 6.0]))
  np.testing.assert_allclose(found, [1 / 6, 1 / 3, 1.0], rtol=1e-6)


def test_strengths_are_in_range_and_in_order():
  memory = jnp.asarray(
    np.random.default_rng(2).lognormal(sigma=3, size=200), jnp.float32
  )
  found = np.asarray(memorization.strengths(memory))
  assert found.min() >= 0 and found.max() == 1.0
  assert np.all(np.diff(found[np.argsort(memory)]) >= 0)


@pytest.mark.parametrize("value", [0.0, 0.1, 6.24, 1e30])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_equal_losses_are_all_average(value, size):
  """The standard deviation of the published formula is 0 there."""
  found = strengths(jnp.full(size, value, jnp.float32))
  np.testing.assert_array_equal(found, 0.5)


def test_unseen_images_have_none_and_do_not_count():
  memory = jnp.array([-1.0, 1.0, -1.0, 2.0, 6.0])
  found = strengths(memory)
  np.testing.assert_allclose(found, [0, 1 / 6, 0, 1 / 3, 1.0], rtol=1e-6)
  nobody = strengths(memorization.start(3))
  np.testing.assert_array_equal(nobody, 0.0)


def test_a_single_image_seen_is_average():
  found = strengths(jnp.array([-1.0, 0.3]))
  np.testing.assert_array_equal(found, [0.0, 0.5])

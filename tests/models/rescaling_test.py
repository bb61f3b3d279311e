"""Heads made from heads, by hand and in their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import heads, rescaling

HEAD = {
  "kernel": jnp.array([[3.0, 0.0, 1.0], [4.0, 2.0, 0.0]]),  # lengths 5, 2, 1
  "bias": jnp.array([1.0, -1.0, 0.5]),
}


def test_tau_normalization_by_hand():
  found = rescaling.tau_normalize(HEAD, tau=1.0)
  np.testing.assert_allclose(
    found["kernel"], [[0.6, 0.0, 1.0], [0.8, 1.0, 0.0]], rtol=1e-6
  )
  np.testing.assert_array_equal(found["bias"], np.zeros(3))
  squared = rescaling.tau_normalize(HEAD, tau=2.0)
  np.testing.assert_allclose(
    squared["kernel"], [[0.12, 0.0, 1.0], [0.16, 0.5, 0.0]], rtol=1e-6
  )


def test_no_tau_drops_the_bias_only():
  found = rescaling.tau_normalize(HEAD, tau=0.0)
  np.testing.assert_array_equal(found["kernel"], HEAD["kernel"])
  np.testing.assert_array_equal(found["bias"], np.zeros(3))


@pytest.mark.parametrize("tau", [0.3, 0.7, 1.0, 1.6])
def test_lengths_become_powers(tau):
  """`|w|^(1 - tau)`: between, the order stays; beyond 1 it turns round."""
  head = heads.linear(5, 4).init(jax.random.key(0))
  lengths = np.linalg.norm(np.asarray(head["kernel"], np.float64), axis=0)
  found = rescaling.tau_normalize(head, tau=tau)
  np.testing.assert_allclose(
    np.linalg.norm(found["kernel"], axis=0), lengths ** (1 - tau), rtol=1e-5
  )


def test_a_class_of_length_zero_stays_finite():
  head = {"kernel": jnp.zeros((2, 3)), "bias": jnp.ones(3)}
  for tau in (0.0, 1.0, 2.0):
    found = rescaling.tau_normalize(head, tau=tau)
    np.testing.assert_array_equal(found["kernel"], np.zeros((2, 3)))


def test_a_bound_lies_between_the_shortest_and_the_longest():
  for share, wanted in ((0.0, 1.0), (0.25, 2.0), (1.0, 5.0)):
    assert float(rescaling.norm_bound(HEAD, share=share)) == wanted


def test_max_norm_shortens_what_is_too_long():
  found = rescaling.max_norm(HEAD, bound=2.5)
  np.testing.assert_allclose(
    found["kernel"], [[1.5, 0.0, 1.0], [2.0, 2.0, 0.0]], rtol=1e-6
  )
  np.testing.assert_array_equal(found["bias"], HEAD["bias"])
  again = rescaling.max_norm(found, bound=2.5)
  np.testing.assert_allclose(again["kernel"], found["kernel"], rtol=1e-6)
  # To the longest of its own nothing changes, not by a bit.
  head = heads.linear(7, 5).init(jax.random.key(0))
  bound = rescaling.norm_bound(head, share=1.0)
  same = rescaling.max_norm(head, bound=bound)
  np.testing.assert_array_equal(same["kernel"], head["kernel"])
  zeros = rescaling.max_norm({"kernel": jnp.zeros((2, 3))}, bound=1.0)
  np.testing.assert_array_equal(zeros["kernel"], np.zeros((2, 3)))


def test_scales_multiply_the_whole_logit():
  head, x = heads.linear(2, 3), jnp.array([[1.0, 2.0], [-1.0, 0.5]])
  factors = jnp.array([2.0, 0.0, -1.0])
  np.testing.assert_allclose(
    head.apply(rescaling.scale(HEAD, factors), x),
    head.apply(HEAD, x) * factors[None, :],
    rtol=1e-6,
  )


def test_scales_of_one_change_nothing():
  found = rescaling.scale(HEAD, jnp.ones(3))
  for name, value in HEAD.items():
    np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("kind", ["linear", "cosine", "ncm", "plain"])
def test_shifts_add_to_the_logits_of_any_head(kind):
  x = jax.random.normal(jax.random.key(1), (6, 4))
  head = heads.cosine(4, 3) if kind == "cosine" else heads.linear(4, 3)
  params = head.init(jax.random.key(0))
  if kind in ("ncm", "plain"):
    params = heads.ncm(
      x,
      jnp.array([0, 0, 1, 1, 2, 2]),
      num_classes=3,
      kind="cl2n" if kind == "ncm" else "plain",
    )
  amounts = jnp.array([0.5, -2.0, 10.0])
  once = rescaling.shift(params, amounts)
  np.testing.assert_allclose(
    head.apply(once, x),
    head.apply(params, x) + amounts[None, :],
    rtol=1e-5,
    atol=1e-5,
  )
  twice = rescaling.shift(once, amounts)
  np.testing.assert_allclose(
    head.apply(twice, x),
    head.apply(params, x) + 2 * amounts[None, :],
    rtol=1e-5,
    atol=1e-5,
  )
  assert twice["bias"].dtype == jnp.float32


def test_only_a_linear_head_has_lengths():
  rescaling.check_linear(HEAD, "this")
  for head, keys in (
    (heads.cosine(2, 3).init(jax.random.key(0)), "kernel"),
    ({"centroids": 0, "mean": 0}, "centroids, mean"),
  ):
    assert not rescaling.is_linear(head)
    with pytest.raises(ValueError, match=f"^this .*head of {keys} .*=linear"):
      rescaling.check_linear(head, "this")

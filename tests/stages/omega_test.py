"""Omega: the terms of a loss, their shares of the gradient, and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import objective
from ltjax.stages import embedding

NUM_LABELED = 6


def total(index, losses, *, omega, reduction):
  """The loss of a batch of given losses, reduced by the plain mean."""
  make = embedding.pseudo_label_terms(
    omega=omega, reduction=reduction, num_labeled=NUM_LABELED
  )
  result = 0.0
  for factor, weights in make(jnp.asarray(index)):
    weights = jnp.ones(len(index)) if weights is None else weights
    result += factor * jnp.mean(weights * losses)
  return result


@pytest.mark.parametrize(
  "reduction, shares",
  [
    ("parts", {1.0: 0.5, 0.5: 0.667, 0.1: 0.909, 0.0: 1.0}),
    # Two labels and ten pseudo labels.
    ("examples", {1.0: 0.167, 0.5: 0.286, 0.1: 0.667, 0.0: 1.0}),
  ],
)
def test_the_share_of_labels_in_the_gradient(reduction, shares):
  index = np.array([2, *range(6, 16), 5])
  for omega, share in shares.items():
    grad = jax.grad(
      lambda losses, omega=omega: total(
        index, losses, omega=omega, reduction=reduction
      )
    )(jnp.ones(12))
    labeled = grad[np.array([0, 11])].sum() / grad.sum()
    np.testing.assert_allclose(labeled, share, atol=5e-4)


def test_equal_parts_at_omega_1_are_twice_the_mean_of_the_batch():
  losses = jnp.arange(8.0) ** 2
  index = np.array([0, 9, 1, 8, 2, 7, 3, 6])
  one = total(index, losses, omega=1.0, reduction="examples")
  np.testing.assert_allclose(one, np.mean(np.arange(8.0) ** 2), rtol=1e-6)
  two = total(index, losses, omega=1.0, reduction="parts")
  np.testing.assert_allclose(two, 2 * one, rtol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "weighted_mean"])
@pytest.mark.parametrize("size", [0, 3, 7])
def test_parts_equal_numpy_under_class_weights(reduction, size):
  """Also where the batch has no label, or nothing else."""
  rng = np.random.default_rng(size)
  logits = rng.normal(size=(7, 3)).astype(np.float32)
  labels, c = rng.integers(3, size=7), np.array([0.5, 0.7, 1.8])
  index = np.r_[np.arange(size) % 6, 6 + np.arange(7 - size)]
  loss = objective.make(
    {
      "weights": "explicit",
      "class_weights": tuple(c),
      "reduction": reduction,
    },
    head="linear",
    head_scale=1.0,
    num_classes=3,
  )
  terms = embedding.pseudo_label_terms(
    omega=0.3, reduction="parts", num_labeled=NUM_LABELED
  )
  found = sum(
    factor
    * loss(
      jnp.asarray(logits),
      jnp.asarray(labels),
      counts=jnp.ones(3),
      epoch=0,
      epochs=1,
      example_weights=weights,
    )
    for factor, weights in terms(jnp.asarray(index))
  )
  entropy = np.log(np.exp(logits).sum(-1)) - logits[np.arange(7), labels]
  expected = 0.0
  for factor, part in ((1.0, slice(0, size)), (0.3, slice(size, 7))):
    w, e = c[labels[part]], entropy[part]
    if len(e):
      norm = w.sum() if reduction == "weighted_mean" else len(e)
      expected += factor * np.sum(w * e) / norm
  np.testing.assert_allclose(found, expected, rtol=1e-5)

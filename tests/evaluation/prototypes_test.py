"""Prototypes against slow references, and what the controls must show."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.evaluation import prototypes
from ltjax.models import projections

GROUPS = {"many": (0,), "medium": (1,), "few": (2,)}


def slow_nearest(features, directions):
  found = []
  for p in np.asarray(directions, np.float64):
    cosines = [
      z @ p / (np.linalg.norm(z) * np.linalg.norm(p))
      for z in np.asarray(features, np.float64)
    ]
    found.append(int(np.argmax(cosines)))
  return found


def normal(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


class TestNearest:
  def test_golden(self):
    """The direction counts and not the length, of neither."""
    features = np.array([[100.0, 1.0], [0.1, 0.1], [0.0, -2.0]])
    directions = np.array([[5.0, 4.0], [1e-3, 0.0], [0.0, -9.0], [-1.0, -3.0]])
    found = prototypes.nearest(features, directions)
    assert found.dtype == np.int32 and found.tolist() == [1, 0, 2, 2]

  @pytest.mark.parametrize("chunk", [1, 7, 20, 21, 4096])
  def test_against_a_slow_reference_in_chunks_of_any_size(
    self, chunk, monkeypatch
  ):
    monkeypatch.setattr(prototypes, "_LARGEST_CHUNK", chunk)
    features, directions = normal(21, 5), normal(9, 5, seed=1)
    found = prototypes.nearest(features, directions)
    assert found.tolist() == slow_nearest(features, directions)

  @pytest.mark.parametrize("chunk", [2, 5])
  def test_of_equals_the_first(self, chunk, monkeypatch):
    monkeypatch.setattr(prototypes, "_LARGEST_CHUNK", chunk)
    features = np.eye(2)[[0, 1, 1, 0, 1]]
    assert prototypes.nearest(features, np.eye(2)).tolist() == [0, 1]

  def test_is_compiled_once(self, monkeypatch):
    monkeypatch.setattr(prototypes, "_LARGEST_CHUNK", 4)
    traced = []
    unit = projections.unit
    monkeypatch.setattr(
      projections, "unit", lambda x: traced.append(x.shape) or unit(x)
    )
    prototypes.nearest(normal(30, 13), normal(6, 13))
    assert traced == [(4, 13), (6, 13)]

  def test_few_at_a_time_where_there_are_many_prototypes(self, monkeypatch):
    seen = []
    real = prototypes._nearest
    monkeypatch.setattr(prototypes, "_CELLS", 12)
    monkeypatch.setattr(
      prototypes, "_nearest", lambda z, p: seen.append(len(z)) or real(z, p)
    )
    features, directions = normal(7, 3), normal(5, 3, seed=1)
    found = prototypes.nearest(features, directions)
    assert seen == [2, 2, 2, 2]
    assert found.tolist() == slow_nearest(features, directions)

  def test_extremes(self):
    """Huge, tiny, bfloat16, one image, a zero."""
    features = np.array([[1e18, 1e18], [1e-18, 0.0], [0.0, 0.0]], np.float32)
    features = np.where(features == 1e-18, 1e-10, features)
    assert prototypes.nearest(features, np.eye(2)).tolist() == [1, 0]
    low = jnp.asarray(np.eye(3)[[2, 0]], jnp.bfloat16)
    assert prototypes.nearest(low, np.eye(3)[[0, 2]]).tolist() == [1, 0]
    assert prototypes.nearest(np.ones((1, 2)), -np.eye(2)).tolist() == [0, 0]

  @pytest.mark.parametrize("shape", [(0, 2)])
  def test_no_images(self, shape):
    with pytest.raises(ValueError, match="there are no images"):
      prototypes.nearest(np.zeros(shape), np.eye(2))

  def test_what_has_diverged(self):
    bad = np.array([[1.0, np.nan]])
    with pytest.raises(ValueError, match="features are not finite: .*diverged"):
      prototypes.nearest(bad, np.eye(2))
    with pytest.raises(ValueError, match="prototypes are not finite"):
      prototypes.nearest(np.eye(2), bad)

  def test_other_dimensions_are_a_mistake_of_the_caller(self):
    with pytest.raises(AssertionError):
      prototypes.nearest(np.eye(2), np.eye(3))


class TestDistribution:
  LABELS = np.array([0, 0, 0, 1, 2, -1])

  def test_by_hand(self):
    got = prototypes.distribution(self.LABELS, [0, 0, 3, 4], GROUPS)
    assert got == {"many": 0.5, "medium": 0.25, "few": 0.25}

  def test_unknown_classes_are_left_out(self):
    got = prototypes.distribution(self.LABELS, [5, 5, 3, 0], GROUPS)
    assert got == {"many": 0.5, "medium": 0.5, "few": 0.0}
    got = prototypes.distribution(self.LABELS, [5], GROUPS)
    assert got == {"many": None, "medium": None, "few": None}

  def test_an_empty_group(self):
    groups = {"many": (0, 1, 2), "few": ()}
    got = prototypes.distribution(self.LABELS, [0, 4], groups)
    assert got == {"many": 1.0, "few": 0.0}

  def test_base_rate(self):
    got = prototypes.base_rate(self.LABELS, GROUPS)
    assert got == {"many": 0.6, "medium": 0.2, "few": 0.2}

  def test_base_rates_of_the_papers_data(self):
    """CIFAR-10-LT at 100, in the papers' groups: 87.6, 10.2 and 2.2 %."""
    counts = [int(5000 * 0.01 ** (c / 9)) for c in range(10)]
    groups = {"many": range(4), "medium": range(4, 7), "few": range(7, 10)}
    got = prototypes.base_rate(np.repeat(np.arange(10), counts), groups)
    assert {k: round(v, 3) for k, v in got.items()} == {
      "many": 0.876,
      "medium": 0.102,
      "few": 0.022,
    }


class TestDirections:
  def test_random_ones_are_isotropic(self):
    drawn = np.asarray(
      prototypes.random_directions(jax.random.key(0), 20000, 3)
    )
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(3), atol=0.04)

  def test_matched_ones_have_the_moments_of_the_features(self):
    features = normal(500, 3) @ np.array([[2.0, 0, 0], [1, 1, 0], [0, 0, 0.1]])
    features = features + np.array([[3.0, -1.0, 0.5]])
    drawn = np.asarray(
      prototypes.matched_directions(jax.random.key(0), 40000, features)
    )
    np.testing.assert_allclose(drawn.mean(0), features.mean(0), atol=0.05)
    wanted = np.cov(features.T, ddof=0)
    np.testing.assert_allclose(np.cov(drawn.T), wanted, atol=0.1)

  def test_fewer_images_than_dimensions(self):
    """Then they lie in the plane of the images."""
    features = np.zeros((3, 5), np.float32)
    features[:, :2] = [[1, 2], [3, 4], [-1, 0]]
    drawn = prototypes.matched_directions(jax.random.key(0), 50, features)
    chex.assert_tree_all_finite(drawn)
    np.testing.assert_allclose(drawn[:, 2:], 0, atol=1e-3)
    np.testing.assert_allclose(drawn[:, 1] - drawn[:, 0], 1, atol=1e-3)

  def test_the_key_draws(self):
    one, same, other = (
      prototypes.random_directions(jax.random.key(s), 2, 3) for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).min() > 0


def clusters(sizes, dimension=8, spread=0.05):
  """Images in clusters around the axes, a class each."""
  labels = np.repeat(np.arange(len(sizes)), sizes)
  noise = spread * normal(len(labels), dimension)
  return np.eye(dimension, dtype=np.float32)[labels] + noise, labels


class TestRows:
  def test_golden(self):
    features, labels = clusters((80, 15, 5))
    labels[[0, 99]] = -1
    directions = features[[0, 1, 1, 85, 97]] * 3
    (row,) = prototypes.rows(
      features,
      directions,
      labels,
      groups=GROUPS,
      num_classes=3,
      key=jax.random.key(0),
    )
    random, matched = row.pop("random"), row.pop("matched")
    assert row == {
      "kind": "prototypes",
      "count": 5,
      "images": 100,
      "distinct": 4,
      "known": 4,
      "shares": {"many": 0.5, "medium": 0.25, "few": 0.25},
      "base_rate": {"many": 79 / 98, "medium": 15 / 98, "few": 4 / 98},
      "nearest": [0, 1, 1, 85, 97],
      "classes": [-1, 0, 0, 1, 2],
    }
    for control in (random, matched):
      assert sum(control.values()) == pytest.approx(1.0)
    json.dumps(row | random | matched, allow_nan=False)

  def test_controls_know_what_they_are_to_know(self):
    """Each axis is as near to a random direction, whatever its images; a
    Gaussian of the features points where the head is."""
    features, labels = clusters((800, 150, 50), dimension=3)
    (row,) = prototypes.rows(
      features,
      normal(60, 3),
      labels,
      groups=GROUPS,
      num_classes=3,
      key=jax.random.key(0),
    )
    assert row["base_rate"]["few"] == 0.05
    assert row["random"]["few"] > 0.2  # by symmetry about a third
    assert row["matched"]["many"] > row["random"]["many"] + 0.3

  def test_the_controls_are_those_of_the_key(self):
    features, labels = clusters((8, 4, 2))
    made = [
      prototypes.rows(
        features,
        features[:3],
        labels,
        groups=GROUPS,
        num_classes=3,
        key=jax.random.key(seed),
      )
      for seed in (0, 0, 1)
    ]
    assert made[0] == made[1] and made[0] != made[2]

  def test_without_any_truth(self):
    features, labels = clusters((3, 2, 1))
    (row,) = prototypes.rows(
      features,
      features,
      np.full_like(labels, -1),
      groups=GROUPS,
      num_classes=3,
      key=jax.random.key(0),
    )
    nothing = dict.fromkeys(GROUPS)
    for name in ("shares", "base_rate", "random", "matched"):
      assert row[name] == nothing
    assert row["known"] == 0 and row["nearest"] == list(range(6))

  @pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
      ([0, 1, 3], GROUPS, r"labels\[2\] is 3: with 3 classes .* from -1 to 2"),
      ([0, 1], GROUPS, r"they must be integers of shape \(3,\)"),
      ([0, 1, 2], {"few": (3,)}, "group 'few' has class 3: there are 3"),
    ],
  )
  def test_refusals(self, labels, groups, message):
    with pytest.raises(ValueError, match=message):
      prototypes.rows(
        np.eye(3, dtype=np.float32),
        np.eye(3, dtype=np.float32),
        np.array(labels),
        groups=groups,
        num_classes=3,
        key=jax.random.key(0),
      )

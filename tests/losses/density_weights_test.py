import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import contrastive, density_weights
from ltjax.models import projections

_scores = jax.jit(
  density_weights.scores, static_argnames=("score", "normalize")
)
_correlation = jax.jit(density_weights.correlation)
weights = jax.jit(
  density_weights.weights,
  static_argnames=("clip", "temperature", "standardize"),
)


def draw(rows, dim=6, seed=0):
  x = np.random.default_rng(seed).normal(size=(rows, dim))
  return x.astype(np.float32)


def rotation(size, seed=5):
  return np.linalg.qr(draw(size, size, seed))[0].astype(np.float32)


def scores(z, p, score, normalize=True):
  return _scores(
    jnp.asarray(z), jnp.asarray(p), score=score, normalize=normalize
  )


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


# Scores.


@pytest.mark.parametrize("normalize", [True, False])
def test_paper_score_is_the_sum_of_products(normalize):
  z, p = draw(5), draw(4, seed=1)
  found = scores(z, p, "paper", normalize)
  assert found.shape == (5,) and found.dtype == jnp.float32
  a, b = (unit(z), unit(p)) if normalize else (z, p)
  expected = [sum(float(x @ y) for y in b) for x in a]
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_energy_score_is_the_sum_of_squares_below_0(normalize):
  z, p = draw(5), draw(4, seed=1)
  found = scores(z, p, "energy", normalize)
  a, b = (unit(z), p / np.linalg.norm(p)) if normalize else (z, p)
  expected = [-sum(float(x @ y) ** 2 for y in b) for x in a]
  np.testing.assert_allclose(found, expected, rtol=1e-4)
  assert np.all(np.asarray(found) < 0)


@pytest.mark.parametrize("score", ["paper", "energy"])
def test_normalized_scores_do_not_see_lengths(score):
  z, p = draw(5), draw(4, seed=1)
  found = scores(3 * z, 0.1 * p, score)
  np.testing.assert_allclose(found, scores(z, p, score), rtol=1e-4, atol=1e-6)


def contrastive_loss(p):
  """What prototypes are learned by, of fixed embeddings of two views."""
  h = [projections.unit(draw(8, seed=s) @ p.T) for s in (2, 3)]
  return np.asarray(contrastive.nt_xent(*h, temperature=0.2))


def test_the_loss_of_prototypes_sees_neither_rotation_nor_sign_nor_scale():
  p = draw(7, seed=1)
  loss = contrastive_loss(p)
  for same in (rotation(7) @ p, -p, 3 * p):
    np.testing.assert_allclose(contrastive_loss(same), loss, rtol=1e-4)
  assert np.abs(contrastive_loss(p @ rotation(6)) - loss).max() > 0.01


@pytest.mark.parametrize("normalize", [True, False])
def test_energy_sees_no_more_than_that_loss(normalize):
  z, p = draw(5), draw(7, seed=1)
  found = scores(z, p, "energy", normalize)
  for same in (rotation(7) @ p, -p):
    np.testing.assert_allclose(
      scores(z, same, "energy", normalize), found, rtol=1e-4
    )


@pytest.mark.parametrize("normalize", [True, False])
def test_the_paper_score_turns_round_with_the_prototypes(normalize):
  z, p = draw(5), draw(7, seed=1)
  found = scores(z, p, "paper", normalize)
  np.testing.assert_allclose(
    scores(z, -p, "paper", normalize), -found, rtol=1e-4, atol=1e-6
  )
  turned = scores(z, rotation(7) @ p, "paper", normalize)
  assert np.abs(turned - found).max() > 0.1
  # The image with the most weight has the least for -P.
  one, other = (weights(s) for s in (found, -found))
  assert np.argmax(one) == np.argmin(other)


def test_signs_of_weights():
  """Dissimilar to prototypes: more weight. High energy: more weight."""
  p = jnp.array([[1.0, 0.0], [1.0, 0.1]])
  z = jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
  by_paper = weights(scores(z, p, "paper"))
  assert by_paper[0] < by_paper[1] < by_paper[2]
  by_energy = weights(scores(z, p, "energy"))
  assert by_energy[1] < by_energy[0]
  np.testing.assert_allclose(by_energy[0], by_energy[2], rtol=1e-5)


def test_scores_are_constants_and_zero_vectors_are_safe():
  for score in density_weights.SCORES:
    total = jax.jit(lambda z, p, score=score: jnp.sum(scores(z, p, score) ** 2))
    for grad in jax.grad(total, argnums=(0, 1))(draw(3), draw(4, seed=1)):
      assert not np.any(grad)
    found = scores(np.zeros((2, 3)), np.zeros((4, 3)), score)
    np.testing.assert_array_equal(found, 0.0)


def test_unknown_score_is_refused():
  with pytest.raises(ValueError, match="'density'.* paper, energy, uniform"):
    scores(draw(2), draw(3), "density")


def test_scores_of_bfloat16_are_in_fp32():
  z, p = (jnp.asarray(x, jnp.bfloat16) for x in (draw(5), draw(4, seed=1)))
  for score in ("paper", "energy"):
    found = scores(z, p, score)
    assert found.dtype == jnp.float32
    exact = scores(z.astype(jnp.float32), p.astype(jnp.float32), score)
    np.testing.assert_array_equal(found, exact)


# Weights.


@pytest.mark.parametrize("clip", [0.8, 3.0, float("inf")])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_weights_equal_numpy(clip, temperature):
  s = draw(40, 1)[:, 0]
  found = weights(s, clip=clip, temperature=temperature)
  assert found.shape == (40,) and found.dtype == jnp.float32
  z = np.clip((s - s.mean()) / s.std(), -clip, clip)
  e = np.exp(-np.float64(z) / temperature)
  np.testing.assert_allclose(found, e / e.mean(), rtol=1e-4)


@pytest.mark.parametrize("scale", [0.01, 1.0, 20.0])
def test_without_standardizing_they_are_the_literal_formula(scale):
  """exp(-s) over its mean, whatever the clip; the spread follows that of s."""
  s = scale * draw(40, 1)[:, 0]
  e = np.exp(-np.float64(s))
  for clip in (0.8, 3.0):
    found = weights(s, clip=clip, standardize=False)
    np.testing.assert_allclose(found, e / e.mean(), rtol=1e-4)
  found = weights(s, temperature=2.0, standardize=False)
  e = np.exp(-np.float64(s) / 2)
  np.testing.assert_allclose(found, e / e.mean(), rtol=1e-4)


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_the_literal_formula_does_not_overflow(shift):
  s = jnp.array([1.0, 100.0, 300.0]) + shift
  found = weights(s, standardize=False)
  np.testing.assert_allclose(found, [3.0, 0.0, 0.0], atol=1e-6)
  np.testing.assert_array_equal(
    weights(jnp.full(7, shift), standardize=False), 1.0
  )


def test_weights_by_hand():
  """One above and one below: standardised to 1 and -1."""
  found = weights(jnp.array([7.0, 3.0]))
  up, down = np.exp(1.0), np.exp(-1.0)
  expected = [2 * down / (up + down), 2 * up / (up + down)]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1e4, 1e30])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_weights_are_finite_of_mean_1_and_fall_with_the_score(scale, dtype):
  s = jnp.asarray(scale * draw(64, 1)[:, 0], dtype)
  found = np.asarray(weights(s))
  assert found.dtype == np.float32 and np.all(np.isfinite(found))
  np.testing.assert_allclose(found.mean(), 1.0, rtol=1e-5)
  order = np.argsort(np.asarray(s, np.float32))
  assert np.all(np.diff(found[order]) <= 0) and found.max() > 2


def test_weights_do_not_depend_on_shift_and_scale():
  """So a sum over prototypes and their mean give the same."""
  s = jnp.asarray(draw(20, 1)[:, 0])
  found = weights(128 * s + 50)
  np.testing.assert_allclose(found, weights(s), rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4, 1e4])
@pytest.mark.parametrize("size", [1, 2, 3, 512])
def test_equal_scores_give_exactly_1(value, size):
  found = weights(jnp.full(size, value, jnp.float32))
  np.testing.assert_array_equal(found, 1.0)


def test_rounding_is_not_a_difference():
  s = jnp.full(9, 0.1, jnp.float32)
  s = s.at[4].set(jnp.nextafter(s[4], jnp.float32(1.0)))
  np.testing.assert_array_equal(weights(s), 1.0)


def test_uniform_weights_are_exactly_1():
  s = scores(draw(7), draw(4, seed=1), "uniform")
  np.testing.assert_array_equal(weights(s), 1.0)


def test_an_outlier_is_clipped():
  s = jnp.zeros(101).at[0].set(-1e4)
  free = weights(s, clip=float("inf"))
  clipped = weights(s, clip=3.0)
  assert free[0] > 90
  np.testing.assert_allclose(clipped[0] / clipped[1], np.exp(3.1), rtol=1e-3)


def test_weights_are_constants():
  s = jnp.asarray(draw(6, 1)[:, 0])
  grad = jax.grad(lambda s: jnp.sum(weights(s) ** 2))(s)
  assert not np.any(grad)


@pytest.mark.parametrize("name", ["clip", "temperature"])
@pytest.mark.parametrize("value", [0.0, -3.0, float("nan")])
def test_weights_settings_are_checked(name, value):
  with pytest.raises(ValueError, match=f"{name} is {value}.* above 0"):
    density_weights.weights(jnp.ones(3), **{name: value})


# What is logged of them.


def test_effective_sample_size():
  size = density_weights.effective_sample_size
  np.testing.assert_allclose(size(jnp.full(7, 0.3)), 7.0, rtol=1e-6)
  np.testing.assert_allclose(size(jnp.eye(5)[2] * 1e30), 1.0, rtol=1e-6)
  np.testing.assert_allclose(size(jnp.array([3.0, 1.0])), 1.6, rtol=1e-6)
  assert float(size(jnp.zeros(4))) == 0.0
  even = weights(jnp.asarray(draw(64, 1)[:, 0]), temperature=9)
  assert 60 < float(size(even)) <= 64


def correlation(w, x, mask=None):
  mask = jnp.ones(len(w), bool) if mask is None else jnp.array(mask)
  w, x = (jnp.asarray(v, jnp.float32) for v in (w, x))
  return _correlation(w, x, mask)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_correlation_equals_numpy(scale):
  w, x = draw(30, 2).T
  x = x + 0.5 * w
  mask = np.arange(30) % 3 > 0
  expected = np.corrcoef(w[mask], x[mask])[0, 1]
  found = correlation(scale * w, 4 - 2 * scale * x, mask)
  if scale >= 1:
    np.testing.assert_allclose(found, -expected, rtol=1e-4)
  else:
    assert float(found) == 0.0  # 4 - 2e-20 is 4.
  assert found.shape == () and found.dtype == jnp.float32


def test_correlation_of_lines():
  w = [1.0, 2.0, 5.0]
  np.testing.assert_allclose(correlation(w, w), 1.0, rtol=1e-6)
  np.testing.assert_allclose(correlation(w, [-1, -2, -5]), -1.0, rtol=1e-6)


@pytest.mark.parametrize(
  "mask", [[False] * 4, [False, True, False, False], [True, False, False, True]]
)
def test_correlation_is_0_where_undefined(mask):
  """Nobody, one, and two with the same weight."""
  assert float(correlation([2, 3, 4, 2], [1, 2, 3, 4], mask)) == 0.0
  assert float(correlation([1, 2, 3, 4], [2, 3, 4, 2], mask)) == 0.0


def test_what_does_not_count_is_not_looked_at():
  found = correlation(
    [1, 2, 3, np.nan, 1e30], [3, 1, 2, np.inf, -7], [True] * 3 + [False] * 2
  )
  expected = np.corrcoef([1, 2, 3], [3, 1, 2])[0, 1]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


# The claim of the energy: rarer kinds of images get more weight.


def long_tailed_clusters(seed, kinds=8, most=400, dim=16):
  rng = np.random.default_rng(seed)
  counts = (most * 0.02 ** (np.arange(kinds) / (kinds - 1))).astype(int)
  centers = rng.normal(size=(kinds, dim))
  labels = np.repeat(np.arange(kinds), counts)
  z = centers[labels] + 0.3 * rng.normal(size=(len(labels), dim))
  return z.astype(np.float32), labels, counts


@jax.jit
def learned(z, start, key):
  """Prototypes by the contrastive loss on `h = P z` of noisy views."""

  def loss(p, rows, noises):
    h = [projections.unit((rows + noise) @ p.T) for noise in noises]
    return jnp.mean(contrastive.nt_xent(*h, temperature=0.2))

  def step(p, key):
    k_rows, k_noise = jax.random.split(key)
    rows = z[jax.random.randint(k_rows, (64,), 0, len(z))]
    noises = 0.3 * jax.random.normal(k_noise, (2, *rows.shape))
    return p - 0.3 * jax.grad(loss)(p, rows, noises), None

  return jax.lax.scan(step, start, jax.random.split(key, 300))[0]


def with_rarity(w, labels, counts):
  """Correlation of weights with 1 / count."""
  return float(correlation(w, 1.0 / counts[labels]))


@pytest.mark.parametrize("seed", range(3))
def test_energy_gives_rarer_clusters_more_weight(seed):
  z, labels, counts = long_tailed_clusters(seed)
  start = 0.2 * draw(24, 16, seed=100 + seed)
  p = learned(z, start, jax.random.key(seed))
  w = weights(scores(z, p, "energy"))
  of_kind = np.array([np.mean(w[labels == k]) for k in range(len(counts))])
  assert of_kind[-3:].mean() > 3 * of_kind[:3].mean()
  assert with_rarity(w, labels, counts) > 0.5
  # It is learned: the prototypes of the start do not know.
  before = weights(scores(z, start, "energy"))
  assert abs(with_rarity(before, labels, counts)) < 0.5


def test_the_paper_score_is_for_or_against_the_rare_by_chance():
  """From the mirrored start the same training ends mirrored."""
  z, labels, counts = long_tailed_clusters(2)
  start = 0.2 * draw(24, 16, seed=102)
  found = [
    scores(z, learned(z, sign * start, jax.random.key(2)), "paper")
    for sign in (1, -1)
  ]
  np.testing.assert_allclose(found[0], -found[1], rtol=1e-3, atol=1e-3)
  one, other = (with_rarity(s, labels, counts) for s in found)
  assert min(one, other) < -0.05 and max(one, other) > 0.05

"""MixUp and CutMix against NumPy, pixel by pixel, and their laws over draws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.augment import mixing

RNG = np.random.default_rng(0)


def images(batch=4, height=6, width=8, seed=0):
  """Two batches whose pixels differ everywhere."""
  x = np.random.default_rng(seed).normal(size=(batch, height, width, 2))
  return jnp.asarray(x, jnp.float32), jnp.asarray(x + 10, jnp.float32)


def np_edges(ratio, size, centre, rounded):
  """The code of CutMix: half a side to either side, cut at the border."""
  half = int(rounded(size * math.sqrt(1 - ratio))) // 2
  return max(centre - half, 0), min(centre + half, size)


@pytest.mark.parametrize("ratio", [0.3, np.array([0.0, 0.25, 0.5, 1.0])])
def test_mixup_blends(ratio):
  first, second = images()
  mixed = mixing.mixup(first, second, jnp.asarray(ratio, jnp.float32))
  for i, share in enumerate(np.broadcast_to(ratio, 4)):
    wanted = share * np.asarray(first[i]) + (1 - share) * np.asarray(second[i])
    np.testing.assert_allclose(mixed[i], wanted, rtol=1e-6)


def test_blended_losses_are_losses_of_blended_labels():
  logits = jnp.asarray(RNG.normal(size=(5, 3)), jnp.float32)
  a, b = jnp.array([0, 1, 2, 0, 1]), jnp.array([2, 1, 0, 1, 1])
  log_probs = jax.nn.log_softmax(logits)
  one = lambda labels: jax.nn.one_hot(labels, 3)  # noqa: E731
  soft = -jnp.sum(mixing.mixup(one(a), one(b), 0.3) * log_probs, -1)
  hard = [-log_probs[np.arange(5), labels] for labels in (a, b)]
  np.testing.assert_allclose(mixing.mixup(*hard, 0.3), soft, rtol=1e-6)


def test_half_precision_blends_in_single():
  first = jnp.full((1, 1), 256, jnp.bfloat16)
  mixed = mixing.mixup(first, first + 2, 0.5)
  assert mixed.dtype == jnp.bfloat16
  # 128 + 129 in bfloat16, both exact; 0.3 and 0.7 are not.
  assert float(mixed[0, 0]) in (256, 258)
  mixed = mixing.mixup(first, first, 0.3)
  assert float(mixed[0, 0]) == 256


@pytest.mark.parametrize(
  "side, rounded", [("down", math.floor), ("up", math.ceil)]
)
def test_a_box_is_one_of_those_of_the_published_code(side, rounded):
  """At all centres alike, and at no other place."""
  height, width, ratio = 5, 7, 0.6
  keys = jax.random.split(jax.random.key(0), 4000)
  draw = jax.jit(
    jax.vmap(
      lambda key: mixing.box(key, ratio, height=height, width=width, side=side)
    )
  )
  found = {}
  for mask in np.asarray(draw(keys)):
    found[mask.tobytes()] = found.get(mask.tobytes(), 0) + 1
  wanted = {}
  for row in range(height):
    for column in range(width):
      mask = np.zeros((height, width), bool)
      top, bottom = np_edges(ratio, height, row, rounded)
      left, right = np_edges(ratio, width, column, rounded)
      mask[top:bottom, left:right] = True
      wanted[mask.tobytes()] = wanted.get(mask.tobytes(), 0) + 1
  assert found.keys() == wanted.keys()
  for mask, times in wanted.items():
    share = times / (height * width)
    error = math.sqrt(share * (1 - share) / len(keys))
    assert abs(found[mask] / len(keys) - share) < 5 * error


def test_mean_area_that_the_border_leaves():
  """0.3208 of the image in the limit of small pixels, where labels say 0.5."""

  @jax.jit
  @jax.vmap
  def draw(key):
    k_ratio, k_box = jax.random.split(key)
    ratio = mixing.draw_ratio(k_ratio, beta=1.0)
    mask = mixing.box(k_box, ratio, height=32, width=32, side="up")
    return ratio, jnp.mean(mask, dtype=jnp.float32)

  ratio, area = draw(jax.random.split(jax.random.key(1), 40_000))
  np.testing.assert_allclose(np.mean(area), 0.321, atol=0.005)
  np.testing.assert_allclose(np.mean(ratio), 0.5, atol=0.005)
  # `up` may exceed what was asked for, by less than a pixel a side.
  assert np.all(np.sqrt(area) < np.sqrt(1 - ratio) + 1 / 32)


@pytest.mark.parametrize("each", [False, True])
def test_cutmix_takes_the_partners_pixels_inside_the_box(each):
  first, second = images(height=9)
  ratio = jnp.full((4,), 0.4) if each else jnp.float32(0.4)
  mixed, share = mixing.cutmix(
    jax.random.key(3), first, second, ratio, labels="area"
  )
  inside = np.all(np.asarray(mixed) == np.asarray(second), -1)
  outside = np.all(np.asarray(mixed) == np.asarray(first), -1)
  np.testing.assert_array_equal(inside, ~outside)
  assert share.shape == ratio.shape and inside.any() and outside.any()
  np.testing.assert_allclose(
    np.broadcast_to(share, 4), outside.mean((1, 2)), rtol=1e-6
  )
  same = np.all(inside == inside[0])
  assert same != each
  # The published share is the ratio; pixels and boxes are the same.
  published, share = mixing.cutmix(jax.random.key(3), first, second, ratio)
  np.testing.assert_array_equal(published, mixed)
  np.testing.assert_array_equal(share, ratio)


@pytest.mark.parametrize("side", mixing.SIDES)
def test_ends(side):
  """All of the first, and of the second what the border leaves of it."""
  first, second = images()
  for key in jax.random.split(jax.random.key(0), 3):
    mixed, share = mixing.cutmix(
      key, first, second, 1.0, labels="area", side=side
    )
    np.testing.assert_array_equal(mixed, first)
    assert float(share) == 1
    _, share = mixing.cutmix(key, first, second, 0.0, labels="area", side=side)
    assert 0 <= float(share) <= 0.75
  np.testing.assert_array_equal(mixing.mixup(first, second, 1.0), first)
  np.testing.assert_array_equal(mixing.mixup(first, second, 0.0), second)


def test_cutmix_keeps_the_dtype():
  first = jnp.zeros((2, 4, 4, 1), jnp.uint8)
  mixed, _ = mixing.cutmix(jax.random.key(0), first, first + 255, 0.2)
  assert mixed.dtype == jnp.uint8 and set(np.unique(mixed)) <= {0, 255}


@pytest.mark.parametrize("beta, second_moment", [(0.5, 3 / 8), (1.0, 1 / 3)])
def test_ratios_are_of_the_beta_distribution(beta, second_moment):
  draws = mixing.draw_ratio(jax.random.key(0), beta=beta, shape=(20_000,))
  assert draws.dtype == jnp.float32
  assert np.all((draws >= 0) & (draws <= 1))
  np.testing.assert_allclose(np.mean(draws), 0.5, atol=0.01)
  np.testing.assert_allclose(np.mean(draws**2), second_moment, atol=0.01)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.inf, math.nan])
def test_a_beta_out_of_range_is_refused(beta):
  with pytest.raises(ValueError, match=r"beta is .*; it must be above 0"):
    mixing.draw_ratio(jax.random.key(0), beta=beta)


def test_unknown_choices_are_refused():
  first, second = images()
  for name, known in (("labels", "published, area"), ("side", "down, up")):
    with pytest.raises(
      ValueError, match=f"{name} is 'x'; choose one of {known}"
    ):
      mixing.cutmix(jax.random.key(0), first, second, 0.5, **{name: "x"})


def test_mixing_by_name():
  first, second = images()
  key, ratio = jax.random.key(4), jnp.float32(0.3)
  wanted = {
    "mixup": (mixing.mixup(first, second, ratio), ratio),
    "cutmix": mixing.cutmix(key, first, second, ratio, labels="area"),
    "plain": (first, 1.0),
  }
  for name, (mixed, share) in wanted.items():
    found = mixing.mix(name, key, first, second, ratio, labels="area")
    np.testing.assert_array_equal(found[0], mixed)
    np.testing.assert_array_equal(found[1], share)
  with pytest.raises(ValueError, match="mixing is 'x'; choose one of mixup,"):
    mixing.mix("x", key, first, second, ratio)

"""Policies: their tables, how often each step is done, and Pillow's results."""

import collections
import math

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageEnhance, ImageOps
import pytest

from ltjax.augment import operations, policies

DRAWS = 6000


def near(share, found, draws=DRAWS):
  return abs(found - share) <= 5 * math.sqrt(share * (1 - share) / draws)


def drawn(policy, draws=DRAWS):
  keys = jax.random.split(jax.random.key(0), draws)
  out = jax.jit(jax.vmap(lambda key: policies.draw(key, policy)))(keys)
  return [np.asarray(x) for x in out]


def names(which):
  return np.array([*operations.NAMES, "nothing"])[which]


def test_golden_values_of_randaugment():
  policy = policies.make("randaugment", height=20, width=32)
  assert (policy.draws, policy.fill) == (2, 0)
  assert all(len(row) == 1 and row[0].probability == 0.5 for row in policy.rows)
  steps = {row[0].operation: row[0].values for row in policy.rows}
  assert len(steps) == len(policy.rows) == 14
  assert not {"Invert", "Cutout"} & set(steps)
  for name in ("Brightness", "Color", "Contrast", "Sharpness"):
    np.testing.assert_allclose(steps[name], np.arange(14, 87, 9) / 100)
  assert steps["Posterize"] == (4, 4, 5, 5, 6, 6, 6, 7, 7)
  assert steps["Solarize"] == (231, 205, 180, 154, 128, 103, 77, 52, 26)
  either = {
    "Rotate": (3, 6, 9, 12, 15, 18, 21, 24, 27),
    "ShearX": np.arange(3, 28, 3) / 100,
    "ShearY": np.arange(3, 28, 3) / 100,
    "TranslateX": np.arange(9) / 32,  # whole pixels, of 32
    "TranslateY": np.array([0, 1, 1, 2, 3, 3, 4, 4, 5]) / 20,
  }
  for name, values in either.items():
    np.testing.assert_allclose(steps[name], [*values, *np.negative(values)])


def test_golden_values_of_autoaugment():
  policy = policies.make("autoaugment", height=32, width=32)
  assert (policy.draws, policy.fill) == (1, 128)
  assert len(policy.rows) == 25 and {len(row) for row in policy.rows} == {2}
  steps = [step for row in policy.rows for step in row]
  assert collections.Counter(step.operation for step in steps) == {
    "Equalize": 9,
    "AutoContrast": 7,
    "TranslateY": 5,
    "Sharpness": 5,
    "Color": 5,
    "Brightness": 4,
    "Solarize": 4,
    "Invert": 3,
    "Contrast": 2,
    "TranslateX": 2,
    "ShearY": 2,
    "Rotate": 1,
    "Posterize": 1,
  }
  assert round(sum(step.probability for step in steps), 6) == 26.5
  first, second = policy.rows[1]
  assert (first.operation, first.probability) == ("Rotate", 0.7)
  np.testing.assert_allclose(first.values, [20 / 3, -20 / 3])
  assert (second.operation, second.probability) == ("TranslateX", 0.3)
  np.testing.assert_allclose(second.values, [0.453172, -0.453172], rtol=1e-5)
  first, second = policy.rows[5]
  np.testing.assert_allclose(first.values, [0.7 / 3, -0.7 / 3])
  assert second == ("Posterize", (5,), 0.3)
  np.testing.assert_allclose(policy.rows[6][1].values, [0.3, 1.7])
  np.testing.assert_allclose(policy.rows[14][0].values, [256 * 7 / 9])


def test_randaugment_draws_with_replacement_and_does_half():
  policy = policies.make("randaugment", height=32, width=32)
  which, values = drawn(policy)
  assert which.shape == values.shape == (DRAWS, 2)
  found = names(which)
  for place in range(2):
    shares = collections.Counter(found[:, place])
    # Identity is nothing, too.
    assert near(15 / 28, shares.pop("nothing") / DRAWS)
    assert len(shares) == 13
    assert all(near(1 / 28, n / DRAWS) for n in shares.values())
  twice = (found[:, 0] == found[:, 1]) & (found[:, 0] != "nothing")
  assert near(13 / 28**2, twice.mean())
  turns = np.round(values[found == "Rotate"])
  counts = collections.Counter(turns)
  assert set(counts) == {s * 3 * v for s in (-1, 1) for v in range(1, 10)}
  assert all(near(1 / 18, n / len(turns), len(turns)) for n in counts.values())


def test_autoaugment_does_the_steps_of_one_row():
  policy = policies.make("autoaugment", height=32, width=32)
  which, values = drawn(policy)
  pairs = collections.Counter(map(tuple, names(which)))
  allowed = collections.Counter()
  for first, second in policy.rows:
    p, q = first.probability, second.probability
    done = (first.operation, p), ("nothing", 1 - p)
    then = (second.operation, q), ("nothing", 1 - q)
    for one, share in done:
      for other, more in then:
        allowed[one, other] += share * more / 25
  allowed = {pair: share for pair, share in allowed.items() if share > 0}
  assert set(pairs) <= set(allowed)
  assert all(near(p, pairs[pair] / DRAWS) for pair, p in allowed.items())
  shifts = values[names(which) == "TranslateY"]
  assert near(0.5, np.mean(shifts > 0), len(shifts))


def by_pillow(image, name, v, fill):
  """One step, as the authors' codes do it."""
  width, height = image.size
  color = (fill,) * 3 if image.mode == "RGB" else fill

  def affine(*data):
    method = Image.Transform.AFFINE
    return lambda: image.transform(image.size, method, data, fillcolor=color)

  changes = {
    "nothing": lambda: image,
    "ShearX": affine(1, v, 0, 0, 1, 0),
    "ShearY": affine(1, 0, 0, v, 1, 0),
    "TranslateX": affine(1, 0, v * width, 0, 1, 0),
    "TranslateY": affine(1, 0, 0, 0, 1, v * height),
    "Rotate": lambda: image.rotate(v, fillcolor=color),
    "AutoContrast": lambda: ImageOps.autocontrast(image),
    "Invert": lambda: ImageOps.invert(image),
    "Equalize": lambda: ImageOps.equalize(image),
    "Solarize": lambda: ImageOps.solarize(image, v),
    "Posterize": lambda: ImageOps.posterize(image, int(v)),
  }
  if name in changes:
    return changes[name]()
  return getattr(ImageEnhance, name)(image).enhance(v)


def pictures(batch, channels, size=16):
  rng = np.random.default_rng(0)
  small = rng.integers(20, 236, (batch, 4, 4, channels))
  large = np.kron(small, np.ones((1, size // 4, size // 4, 1)))
  noise = rng.integers(-15, 16, large.shape)
  return (large + noise).astype(np.uint8)


@pytest.mark.parametrize(
  "name, channels", [("randaugment", 3), ("autoaugment", 1)]
)
def test_images_equal_pillows(name, channels):
  images, key = pictures(200, channels), jax.random.key(5)
  policy = policies.make(name, height=16, width=16)
  changes = jax.jit(lambda k, x: policies.random_changes(k, x, policy))
  found = np.asarray(changes(key, jnp.asarray(images)))
  assert found.dtype == np.uint8 and found.shape == images.shape
  one = jax.jit(jax.vmap(lambda k: policies.draw(k, policy)))
  which, values = map(np.asarray, one(jax.random.split(key, 200)))
  assert len(np.unique(which)) > 12
  expected = []
  for image, steps, vs in zip(images, names(which), values):
    picture = Image.fromarray(image.squeeze())
    for step, v in zip(steps, map(float, vs)):
      picture = by_pillow(picture, step, v, policy.fill)
    expected.append(np.asarray(picture))
  gap = np.abs(found.astype(int) - np.reshape(expected, images.shape))
  # A step of rounding, and places between two pixels, which fall to either.
  assert np.mean(gap > 0) < 0.01 and np.mean(gap > 2) < 0.001


def test_an_image_depends_on_its_own_key_only():
  policy = policies.make("randaugment", height=16, width=16)
  changes = jax.jit(lambda k, x: policies.random_changes(k, x, policy))
  images, key = jnp.asarray(pictures(200, 3)), jax.random.key(5)
  whole = changes(key, images)
  other = changes(key, images.at[:100].set(0))
  np.testing.assert_array_equal(whole[100:], other[100:])
  assert not np.array_equal(whole, changes(jax.random.key(6), images))


def test_no_key_is_used_twice(key_reuse):
  policy = policies.make("autoaugment", height=8, width=8)
  draw = jax.vmap(lambda key: policies.draw(key, policy))
  which, _ = jax.eval_shape(draw, jax.random.split(jax.random.key(0), 2))
  assert which.shape == (2, 2)


def test_rows_of_other_lengths():
  """Values of steps are drawn among their own, however long other lists are."""
  one = policies.Step("Rotate", (7.0,), 1.0)
  three = policies.Step("Solarize", (1.0, 2.0, 3.0), 1.0)
  which, values = drawn(policies.Policy(((one, three, one),), 2, 0), 300)
  assert which.shape == (300, 6)
  assert (values[:, [0, 2, 3, 5]] == 7).all()
  assert set(values[:, 1]) == set(values[:, 4]) == {1, 2, 3}
  assert set(names(which[0])) == {"Rotate", "Solarize"}


def test_bad_input():
  with pytest.raises(
    ValueError, match="policy is 'trivial'; choose one of rand"
  ):
    policies.make("trivial", height=8, width=8)
  policy = policies.make("randaugment", height=8, width=8)
  with pytest.raises(ValueError, match=r"or 1 \(gray\), not 2"):
    policies.random_changes(
      jax.random.key(0), jnp.zeros((1, 8, 8, 2), jnp.uint8), policy
    )

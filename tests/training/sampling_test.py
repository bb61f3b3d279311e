"""Index streams: what is drawn, how often, and that nothing else matters."""

import numpy as np
import pytest

from ltjax.training import sampling

LABELS = np.repeat([0, 1, 2, 3], [60, 25, 14, 1])


def random(num_samples=23, batch_size=5, *, seed=0, stage="s"):
  return sampling.random(num_samples, batch_size, seed=seed, stage=stage)


def balanced(labels=LABELS, batch_size=10, *, num_classes=4, seed=0, stage="s"):
  return sampling.class_balanced(
    labels, batch_size, num_classes=num_classes, seed=seed, stage=stage
  )


@pytest.mark.parametrize(
  "samples, batch, expected", [(23, 5, 4), (20, 5, 4), (5, 5, 1), (7, 1, 7)]
)
def test_an_epoch_holds_the_full_batches(samples, batch, expected):
  assert sampling.steps_per_epoch(samples, batch, "s") == expected
  index = random(samples, batch)(0)
  assert index.shape == (expected, batch) and index.dtype == np.int32


def test_random_draws_each_sample_at_most_once_an_epoch():
  stream, dropped = random(), set()
  for epoch in range(40):
    drawn = stream(epoch).ravel()
    assert len(set(drawn.tolist())) == 20
    assert drawn.min() >= 0 and drawn.max() < 23
    dropped |= set(range(23)) - set(drawn.tolist())
  assert dropped == set(range(23))  # no sample is left out for good


def test_random_without_remainder_is_a_permutation():
  drawn = random(24, 6)(3).ravel()
  np.testing.assert_array_equal(np.sort(drawn), np.arange(24))
  assert not np.array_equal(drawn, np.arange(24))


@pytest.mark.parametrize("make", [random, balanced])
def test_a_stream_is_a_function_of_seed_stage_and_epoch(make):
  stream = make()
  later = stream(7)
  stream(0), np.random.random(5)  # neither order nor global state matters
  np.testing.assert_array_equal(stream(7), later)
  np.testing.assert_array_equal(make()(7), later)
  assert not np.array_equal(stream(8), later)
  assert not np.array_equal(make(seed=1)(7), later)
  assert not np.array_equal(make(stage="t")(7), later)


def test_golden_draws():
  """Fixed for good: they change only if old runs may no longer resume."""
  np.testing.assert_array_equal(random(8, 4)(0), GOLDEN_RANDOM)
  np.testing.assert_array_equal(balanced()(0)[0], GOLDEN_BALANCED)


GOLDEN_RANDOM = [[7, 0, 3, 2], [5, 4, 1, 6]]
GOLDEN_BALANCED = [37, 99, 16, 8, 8, 1, 86, 49, 50, 9]


def test_balanced_draws_classes_alike():
  """Pearson's statistic, 3 degrees of freedom; 16.3 has probability 0.001."""
  drawn = np.concatenate([balanced()(e).ravel() for e in range(200)])
  counts = np.bincount(LABELS[drawn], minlength=4)
  expected = len(drawn) / 4
  assert len(drawn) == 20_000
  assert np.sum((counts - expected) ** 2 / expected) < 16.3


def test_balanced_draws_the_samples_of_a_class_alike():
  """13 degrees of freedom; 34.5 has probability 0.001."""
  drawn = np.concatenate([balanced()(e).ravel() for e in range(200)])
  counts = np.bincount(drawn, minlength=100)
  assert np.all(counts > 0)
  counts = counts[85:99]  # class 2
  expected = counts.sum() / 14
  assert np.sum((counts - expected) ** 2 / expected) < 34.5


def test_random_follows_the_class_counts():
  drawn = np.concatenate([random(100, 10)(e).ravel() for e in range(3)])
  np.testing.assert_array_equal(
    np.bincount(LABELS[drawn]), 3 * np.array([60, 25, 14, 1])
  )


def test_balanced_draws_a_class_of_one_image_again_and_again():
  drawn = balanced()(0).ravel()
  assert np.sum(drawn == 99) > 10  # of 100 draws, 25 expected


def test_balanced_leaves_an_empty_class_out():
  drawn = np.concatenate(
    [balanced(num_classes=7)(epoch).ravel() for epoch in range(50)]
  )
  counts = np.bincount(LABELS[drawn], minlength=7)
  np.testing.assert_array_equal(counts[4:], 0)
  assert counts[:4].min() > 0.22 * len(drawn)


def test_balanced_ignores_the_order_of_samples_and_labels_out_of_range():
  labels = np.array([2, -1, 0, 2, 9, 0, 2, 1])  # -1 and 9 are no class
  drawn = np.unique([balanced(labels, 4, num_classes=3)(e) for e in range(50)])
  np.testing.assert_array_equal(drawn, [0, 2, 3, 5, 6, 7])


def test_balanced_epoch_is_as_long_as_a_random_one():
  index = balanced()(0)
  assert index.shape == random(100, 10)(0).shape == (10, 10)
  assert index.dtype == np.int32


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_batch_of_nothing_is_refused(batch_size):
  with pytest.raises(
    ValueError, match=rf"embedding.batch_size is {batch_size}.* 1 or more"
  ):
    sampling.steps_per_epoch(10, batch_size, "embedding")


@pytest.mark.parametrize("make", [random, balanced])
def test_a_batch_larger_than_the_set_is_refused(make):
  first = 23 if make is random else LABELS
  with pytest.raises(ValueError) as caught:
    make(first, 128, stage="refit")
  size = 23 if make is random else 100
  assert f"refit.batch_size is 128, but the stage has only {size}" in str(
    caught.value
  )
  assert f"--config.refit.batch_size to {size} or less" in str(caught.value)


def test_no_class_at_all_is_refused():
  with pytest.raises(ValueError, match=r"s: no label lies in \[0, 4\)"):
    balanced(np.full(20, -1))


SAMPLERS = {
  "square_root": {"name": "square_root"},
  "power 1": {"name": "power", "exponent": 1.0},
  "power 0": {"name": "power", "exponent": 0.0},
  "power 0.3": {"name": "power", "exponent": 0.3},
  "progressive": {"name": "progressive"},
  "reversed": {"name": "reversed"},
  "effective_number": {"name": "effective_number", "beta": 0.95},
}
GOLDEN = [99, 46, 25, 37, 43, 89, 67, 52, 94, 90]
COUNTS = np.array([60.0, 25.0, 14.0, 1.0])
# The class frequencies of each, from the formulas of the papers.
WEIGHTS = {
  "square_root": COUNTS**0.5,
  "power 1": COUNTS,
  "power 0": COUNTS**0,
  "power 0.3": COUNTS**0.3,
  "reversed": COUNTS.max() / COUNTS,
  "effective_number": COUNTS * 0.05 / (1 - 0.95**COUNTS),
}


def made(settings, labels=LABELS, *, epochs=200, seed=0, stage="s", classes=4):
  """The stream of a config's block, from its defaults."""
  defaults = {"name": "random", "exponent": 1.0, "beta": 0.9999, "defer": 0.0}
  return sampling.make(
    defaults | settings,
    labels,
    10,
    num_classes=classes,
    epochs=epochs,
    seed=seed,
    stage=stage,
  )


def histogram(stream, epochs):
  drawn = np.concatenate([stream(epoch).ravel() for epoch in epochs])
  return np.bincount(LABELS[drawn], minlength=4)


def pearson(counts, weights):
  expected = counts.sum() * weights / weights.sum()
  return np.sum((counts - expected) ** 2 / expected)


@pytest.mark.parametrize("name", WEIGHTS)
def test_classes_are_drawn_as_the_formula_says(name):
  """Pearson's statistic, 3 degrees of freedom; 16.3 has probability 0.001."""
  counts = histogram(made(SAMPLERS[name]), range(200))
  assert counts.sum() == 20_000
  assert pearson(counts, WEIGHTS[name]) < 16.3
  # The test would see another rule.
  for other, weights in WEIGHTS.items():
    if other != name:
      assert pearson(counts, weights) > 100, other


def test_progressive_ends_balanced_and_begins_by_instances():
  stream = made(SAMPLERS["progressive"], epochs=100)
  first, last = histogram(stream, [0]), histogram(stream, [99])
  assert first[0] > 2 * first[1] and last[3] > 10 >= first[3]
  # The mean over t = 0 ... T - 1 has t/T = 0.495.
  counts = histogram(stream, range(100))
  weights = 0.505 * COUNTS / 100 + 0.495 / 4
  assert pearson(counts, weights) < 16.3


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_of_a_class_are_drawn_alike(name):
  """24 degrees of freedom; 51.2 has probability 0.001."""
  stream = made(SAMPLERS[name])
  drawn = np.concatenate([stream(e).ravel() for e in range(200)])
  counts = np.bincount(drawn, minlength=100)[60:85]  # class 1
  assert pearson(counts, np.ones(25)) < 51.2


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_stream_is_a_function_of_seed_stage_and_epoch(name):
  """A resumed run asks for its epoch only: nothing before it matters."""
  settings = SAMPLERS[name]
  later = made(settings)(7)
  assert later.shape == (10, 10) and later.dtype == np.int32
  stream = made(settings)
  stream(0), stream(3), np.random.random(5)
  np.testing.assert_array_equal(stream(7), later)
  assert not np.array_equal(stream(8), later)
  assert not np.array_equal(made(settings, seed=1)(7), later)
  assert not np.array_equal(made(settings, stage="t")(7), later)


def test_golden_draws_of_a_power():
  """Fixed for good, as those above."""
  np.testing.assert_array_equal(made(SAMPLERS["square_root"])(0)[0], GOLDEN)


@pytest.mark.parametrize("defer", [0.0, 0.5])
def test_make_gives_random_and_balanced_as_they_were(defer):
  stream = made({"name": "random", "defer": defer})
  for epoch in (0, 5):
    np.testing.assert_array_equal(stream(epoch), random(100, 10)(epoch))
  stream = made({"name": "class_balanced"})
  for epoch in (0, 5):
    np.testing.assert_array_equal(stream(epoch), balanced()(epoch))


@pytest.mark.parametrize(
  "defer, epochs, begin",
  [(0.8, 200, 160), (0.5, 5, 2), (0.8, 10, 8), (0.0, 3, 0), (0.8, 1, 0)]
  + [(0.99, 3, 2)],
)
def test_resampling_is_deferred(defer, epochs, begin):
  stream = made({"name": "class_balanced", "defer": defer}, epochs=epochs)
  for epoch in range(epochs):
    expected = (balanced() if epoch >= begin else random(100, 10))(epoch)
    np.testing.assert_array_equal(stream(epoch), expected)


def test_a_progressive_sampler_counts_all_epochs_where_it_is_deferred():
  late = made({"name": "progressive", "defer": 0.5}, epochs=10)
  now = made({"name": "progressive"}, epochs=10)
  np.testing.assert_array_equal(late(7), now(7))
  assert not np.array_equal(late(4), now(4))


@pytest.mark.parametrize("name", SAMPLERS)
def test_empty_classes_and_labels_out_of_range_are_left_out(name):
  labels = np.repeat([5, 1, -1, 9], [70, 9, 20, 1])
  stream = made(SAMPLERS[name], labels, classes=7)
  drawn = labels[np.concatenate([stream(e).ravel() for e in range(20)])]
  assert set(drawn.tolist()) == {1, 5}


def test_no_label_in_range():
  with pytest.raises(ValueError, match=r"s: no label lies in \[0, 4\)"):
    made({"name": "reversed"}, np.full(20, -1))


def test_edges_that_do_not_sum_to_one_draw_the_last_class():
  """Rounding may leave the sum of probabilities just below 1."""
  stream = sampling.by_class(
    LABELS,
    10,
    lambda epoch: np.array([0.0, 0.0, 0.0, 1 - 1e-12]),
    num_classes=4,
    seed=0,
    stage="s",
  )
  np.testing.assert_array_equal(stream(0), np.full((10, 10), 99))


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"name": "balanced"}, r"sampler.name is 'balanced'.*'class_balanced'\?"),
    ({"name": "power", "exponent": np.inf}, "sampler.exponent is inf"),
    ({"name": "effective_number", "beta": 1.0}, "sampler.beta is 1.0"),
  ],
)
def test_bad_settings_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    made(settings)


def test_a_batch_larger_than_the_set_is_refused_by_all():
  with pytest.raises(ValueError, match="s.batch_size is 10, but .* 4 samples"):
    made({"name": "reversed"}, np.arange(4))

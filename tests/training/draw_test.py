"""What stages draw, of which images, and what they read with them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.training import draw, sampling


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def prepared(learner, data, epochs):
  """Returns what a step reads, and the batches of so many epochs."""
  known = jnp.arange(toys.M, dtype=jnp.int32) % 3
  state = dataclasses.replace(learner.init(), pseudo_labels=known)
  arrays, stream = data.prepare(state, "stage", epochs)
  return arrays, np.concatenate([stream(epoch) for epoch in range(epochs)])


def test_labeled_images_once_an_epoch(learner):
  data = draw.labeled(learner.samples, 12, field="embedding")
  assert (data.steps, data.batch_size, data.images_per_sample) == (3, 12, 1)
  arrays, index = prepared(learner, data, 2)
  assert index.shape == (6, 12) and index.max() < toys.N
  for epoch in np.split(index.ravel(), 2):
    assert len(set(epoch)) == 36
  np.testing.assert_array_equal(arrays["labels"], learner.task.labels)
  np.testing.assert_array_equal(arrays["counts"], toys.LABELED)
  assert arrays["counts"].dtype == jnp.float32
  assert arrays["images"] is learner.task.images


def test_everything_with_its_pseudo_labels(learner):
  data = draw.everything(learner.samples, 16, field="consistency")
  assert data.steps == (toys.N + toys.M) // 16
  arrays, index = prepared(learner, data, 1)
  assert len(set(index.ravel())) == toys.N + toys.M
  pseudo = np.arange(toys.M) % 3
  np.testing.assert_array_equal(arrays["labels"][toys.N :], pseudo)
  np.testing.assert_array_equal(arrays["counts"], toys.LABELED)
  data = draw.everything(learner.samples, 16, field="x", counts="all")
  arrays, _ = prepared(learner, data, 1)
  np.testing.assert_array_equal(
    arrays["counts"], toys.LABELED + np.bincount(pseudo, minlength=4)
  )


@pytest.mark.parametrize("make", [draw.labeled, draw.everything])
def test_a_sampler_draws_by_the_labels_that_are_known(learner, make):
  settings = {"name": "class_balanced", "defer": 0.0, "exponent": 1, "beta": 0}
  data = make(learner.samples, 40, field="x", sampler=settings)
  arrays, index = prepared(learner, data, 60)
  drawn = np.asarray(arrays["labels"])[index.ravel()]
  shares = np.bincount(drawn, minlength=4) / drawn.size
  np.testing.assert_allclose(shares, 0.25, atol=0.03)


def test_what_a_step_reads_besides(learner):
  data = draw.labeled(
    learner.samples,
    8,
    field="x",
    also=lambda state: {"head": state.head, "counts": 7},
  )
  arrays, _ = prepared(learner, data, 1)
  toys.assert_same(arrays["head"], learner.init().head)
  assert arrays["counts"] == 7


def pairs(learner, batch_size=8, ratio=1, **settings):
  samples = learner.samples
  return draw.pairs(samples, batch_size, ratio=ratio, field="semi", **settings)


def test_a_pair_has_as_many_unlabeled_images(learner):
  """An epoch is a pass over them."""
  data = pairs(learner)
  assert (data.steps, data.batch_size, data.images_per_sample) == (5, 16, 2)
  arrays, index = prepared(learner, data, 3)
  assert index.shape == (15, 16) and index.dtype == np.int32
  assert index[:, :8].max() < toys.N <= index[:, 8:].min()
  np.testing.assert_array_equal(
    np.bincount(index.ravel()), np.full(toys.N + toys.M, 3)
  )
  assert not np.array_equal(index[:5], index[5:10])
  # Their pseudo labels, if there are any, are not read.
  np.testing.assert_array_equal(arrays["labels"][toys.N :], -1)
  np.testing.assert_array_equal(arrays["counts"], toys.LABELED)


def test_more_unlabeled_images_than_labeled_ones(learner):
  data = pairs(learner, batch_size=4, ratio=3)
  assert (data.steps, data.batch_size, data.images_per_sample) == (3, 16, 4)
  _, index = prepared(learner, data, 10)
  assert index[:, :4].max() < toys.N <= index[:, 4:].min()
  # 10 labeled batches an epoch: three epochs over the labeled images in 30.
  np.testing.assert_array_equal(
    np.bincount(index[:, :4].ravel()), np.full(toys.N, 3)
  )


def test_a_sampler_of_pairs_draws_the_labeled_images_only(learner):
  settings = {"name": "class_balanced", "defer": 0.0, "exponent": 1, "beta": 0}
  _, index = prepared(learner, pairs(learner, sampler=settings), 60)
  labels = np.asarray(learner.task.labels)[index[:, :8]]
  shares = np.bincount(labels.ravel()) / labels.size
  np.testing.assert_allclose(shares, 0.25, atol=0.03)
  np.testing.assert_array_equal(
    np.bincount(index[:, 8:].ravel() - toys.N), np.full(toys.M, 60)
  )


def test_partners_have_a_sampler_of_their_own(learner):
  settings = {"name": "power", "defer": 0.0, "exponent": 0.5, "beta": 0}
  data = draw.partners(learner.samples, 8, field="glmc", sampler=settings)
  assert (data.steps, data.batch_size, data.images_per_sample) == (5, 16, 2)
  arrays, index = prepared(learner, data, 80)
  first, partners = index[:, :8], index[:, 8:]
  np.testing.assert_array_equal(np.bincount(first.ravel()), np.full(toys.N, 80))
  labels = np.asarray(arrays["labels"])[partners]
  shares = np.bincount(labels.ravel()) / labels.size
  wanted = np.sqrt(toys.LABELED) / np.sum(np.sqrt(toys.LABELED))
  np.testing.assert_allclose(shares, wanted, atol=0.03)
  # Drawn at random they are each image once, in an order of their own.
  data = draw.partners(learner.samples, 8, field="glmc")
  _, index = prepared(learner, data, 1)
  np.testing.assert_array_equal(np.bincount(index.ravel()), 2)
  assert np.mean(index[:, :8] == index[:, 8:]) < 0.2


def slow_stream(labeled, unlabeled, labeled_steps, steps, epochs):
  """All labeled batches in a row, cut anew; then the unlabeled ones."""
  count = -(-epochs * steps // labeled_steps)
  row = [batch for e in range(count) for batch in labeled(e)]
  return [
    np.concatenate([row[e * steps + s], 100 + unlabeled(e)[s]])
    for e in range(epochs)
    for s in range(steps)
  ]


@pytest.mark.parametrize(
  "labeled_steps, steps", [(3, 7), (7, 3), (4, 4), (5, 1)]
)
def test_the_labeled_stream_goes_on_across_epochs(labeled_steps, steps):
  def labeled(epoch):
    return epoch * 10 + np.arange(labeled_steps * 2).reshape(-1, 2)

  def unlabeled(epoch):
    return epoch + np.arange(steps * 3).reshape(-1, 3)

  stream = draw.join(
    labeled,
    unlabeled,
    num_labeled=100,
    labeled_steps=labeled_steps,
    unlabeled_steps=steps,
    steps=steps,
  )
  expected = slow_stream(labeled, unlabeled, labeled_steps, steps, 6)
  # In any order: a resumed run asks for a late epoch first.
  for epoch in (5, 0, 3, 1, 4, 2):
    np.testing.assert_array_equal(
      stream(epoch), expected[epoch * steps : (epoch + 1) * steps]
    )


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"batch_size": 41}, "semi.batch_size is 41, .* only 40"),
    (
      {"batch_size": 20, "ratio": 3},
      "semi.batch_size is 20 with 3 .* only 40 unlabeled .* lower",
    ),
  ],
)
def test_batches_that_do_not_fit_are_refused(learner, settings, message):
  with pytest.raises(ValueError, match=message):
    pairs(learner, **settings)


@pytest.mark.parametrize(
  "make, limit", [(draw.labeled, toys.N), (draw.everything, toys.N + toys.M)]
)
def test_a_batch_larger_than_the_set_is_refused(learner, make, limit):
  assert make(learner.samples, limit, field="x").steps == 1
  with pytest.raises(ValueError, match=f"x.batch_size is {limit + 1}, .* only"):
    make(learner.samples, limit + 1, field="x")


def test_no_unlabeled_images_is_an_error():
  with pytest.raises(ValueError, match="no unlabeled images.*supervised"):
    pairs(toys.learner(unlabeled=(0, 0, 0, 0)))


def test_the_order_is_that_of_seed_and_stage(learner):
  data = draw.labeled(learner.samples, 8, field="x")
  _, index = prepared(learner, data, 1)
  expected = sampling.random(toys.N, 8, seed=learner.seed, stage="stage")
  np.testing.assert_array_equal(index, expected(0))

"""The embedding stage: plain cross-entropy over `f` and `g'`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys


@pytest.fixture(scope="module")
def learner():
  return toys.learner(pad=1, flip=True)


def one_step(learner, stage, state=None):
  """Returns (state before, its arrays, the first batch, state after)."""
  return toys.one_step(stage, state or learner.init())


def test_golden_step(learner):
  """Numbers of the first step.

  Update them only if the step is meant to change
  (augmentation, initialization, order of batches, loss, optimizer): old runs
  then do not resume bit for bit, which the CHANGELOG has to say.
  """
  _, _, _, after = one_step(learner, toys.embedding_stage(learner))
  found = {
    "loss": after.totals["loss"],
    "accuracy": after.totals["accuracy"],
    "params": toys.norm(after.params),
    "batch_stats": toys.norm(after.batch_stats),
  }
  for name, value in GOLDEN.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


GOLDEN = {
  "loss": 1.40774,
  "accuracy": 0.375,
  "params": 3.552832,
  "batch_stats": 2.351002,
}


def test_a_step_is_sgd_on_the_mean_cross_entropy(learner):
  """Loss, gradient and update written out."""
  stage = toys.embedding_stage(learner)
  before, arrays, index, after = one_step(learner, stage)
  images = learner.transform(
    jax.random.fold_in(before.key, 0), arrays["images"][index]
  )
  labels = np.asarray(arrays["labels"])[index]

  def loss_fn(params):
    _, logits, stats = learner.model.apply(
      params, before.batch_stats, images, True
    )
    log_z = jax.nn.logsumexp(logits, -1)
    return jnp.mean(log_z - logits[np.arange(8), labels]), (logits, stats)

  (loss, (logits, stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
    before.params
  )
  expected = jax.tree.map(
    lambda w, g: w - 0.05 * (g + 5e-4 * w), before.params, grads
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    (after.params, after.batch_stats),
    (expected, stats),
  )
  np.testing.assert_allclose(after.totals["loss"], loss, rtol=1e-5)
  accuracy = np.mean(np.argmax(logits, -1) == labels)
  np.testing.assert_allclose(after.totals["accuracy"], accuracy)
  assert int(after.step) == 1


def test_steps_differ_in_their_augmentation(learner):
  stage = toys.embedding_stage(learner)
  before, arrays, index, first = one_step(learner, stage)
  later = toys.jitted(stage.step)(
    before.replace(step=before.step + 1), index, arrays
  )
  assert float(first.totals["loss"]) != float(later.totals["loss"])


def test_only_labeled_images_are_drawn(learner):
  stage = toys.embedding_stage(learner)
  _, stream = stage.prepare(learner.init())
  drawn = np.concatenate([stream(epoch).ravel() for epoch in range(5)])
  assert np.unique(drawn).tolist() == list(range(toys.N))


def test_unlabeled_images_have_no_influence(learner):
  """Whatever the pool holds, the step is the same."""
  stage = toys.embedding_stage(learner)
  before, arrays, index, after = one_step(learner, stage)
  noise = jnp.full((toys.M, 4, 4, 1), 77, jnp.uint8)
  images = arrays["images"].at[toys.N :].set(noise)
  other = toys.jitted(stage.step)(before, index, arrays | {"images": images})
  toys.assert_same(after, other)


def test_finish_leaves_the_balanced_head_and_the_memory_alone(
  learner, tmp_path
):
  start = learner.init()
  state, rows = toys.execute(
    tmp_path, learner, [toys.embedding_stage(learner)], state=start
  )
  toys.assert_same(state.balanced_head, start.balanced_head)
  toys.assert_same(state.memory, start.memory)
  toys.assert_same(state.pseudo_labels, start.pseudo_labels)
  for name in ("backbone", "head", "batch_stats"):
    assert toys.differ(getattr(state, name), getattr(start, name))
  assert [row["epoch"] for row in rows] == [1, 2]
  # The cosine's last step before each epoch ends: 4 and 9 of 10.
  np.testing.assert_allclose(
    [row["learning_rate"] for row in rows],
    [0.025 * (1 + np.cos(np.pi * step / 10)) for step in (4, 9)],
    rtol=1e-5,
  )


def test_its_length_follows_the_labeled_images(learner):
  stage = toys.embedding_stage(learner, batch_size=12, epochs=7)
  assert (stage.steps_per_epoch, stage.steps, stage.images) == (3, 21, 252)


def test_a_batch_larger_than_the_labeled_set_is_refused(learner):
  with pytest.raises(
    ValueError, match="embedding.batch_size is 41.* only 40 samples"
  ):
    toys.embedding_stage(learner, batch_size=41)

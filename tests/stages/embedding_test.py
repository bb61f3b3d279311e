"""The embedding stage: plain cross-entropy over `f` and `g'`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.losses import objective
from ltjax.stages import embedding


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

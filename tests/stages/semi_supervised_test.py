"""The stage of the semi-supervised methods: streams, loss, limits, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import semi_toys
import toys

from ltjax import objective, regularizers, sampling
from ltjax.regularizers import mean_teacher, pi_model, temporal_ensembling, vat
from ltjax.stages import embedding, semi_supervised


@pytest.fixture(scope="module")
def learner():
  return toys.learner(pad=1, flip=True)


REGULARIZERS = {
  "pi_model": pi_model.make(),
  "temporal_ensembling": temporal_ensembling.make(),
  "mean_teacher": mean_teacher.make(decay=0.6),
  "vat": vat.make(epsilon=0.5),
}
every_one = pytest.mark.parametrize("name", REGULARIZERS)


@every_one
def test_golden_step(learner, name):
  """Numbers after an epoch and a step.

  Update them only if the step is meant to change
  (augmentation, initialization, order of batches, loss, optimizer): old runs
  then do not resume bit for bit, which the CHANGELOG has to say.
  """
  stage = semi_toys.stage(learner, REGULARIZERS[name], rampup=0.8)
  found, _, _ = semi_toys.steps(stage, learner.init(), 6)
  totals, after = found[-1].totals, found[-1]
  values = [float(totals[k]) for k in ("loss", "cross_entropy", "consistency")]
  values += [toys.norm(after.params), toys.norm(after.batch_stats)]
  np.testing.assert_allclose(values, GOLDEN[name], rtol=2e-4)


GOLDEN = {
  "pi_model": [1.679009, 1.672811, 0.0041734, 3.489282, 2.314951],
  "temporal_ensembling": [1.686198, 1.673199, 0.008753, 3.490002, 2.314921],
  "mean_teacher": [1.679985, 1.673117, 0.0046249, 3.489686, 2.314940],
  "vat": [1.687332, 1.673158, 0.0095442, 3.488753, 2.315081],
}


@pytest.fixture(scope="module")
def supervised():
  """Returns the supervised step of the same recipe, compiled once."""
  learner, recipe = toys.learner(), toys.recipe()
  step = embedding.make_step(
    learner.model,
    recipe.make_optimizer(recipe.make_schedule(5)),
    transform=learner.transform,
    steps_per_epoch=5,
  )
  return jax.jit(step)


@every_one
def test_weight_0_is_the_supervised_step(name, supervised):
  """With the same batches, as without augmentation there is no other draw."""
  learner = toys.learner()
  stage = semi_toys.stage(learner, REGULARIZERS[name], weight=0.0)
  found, indices, arrays = semi_toys.steps(stage, learner.init(), 6)
  plain = toys.embedding_stage(learner).init(learner.init())
  for index in indices:
    plain = supervised(plain, index[: toys.BATCH], arrays)
  for field in ("params", "batch_stats"):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
      getattr(found[-1], field),
      getattr(plain, field),
    )
  assert float(found[-1].totals["loss"]) == pytest.approx(
    float(plain.totals["loss"]), rel=1e-5
  )
  assert float(found[-1].totals["accuracy"]) == float(plain.totals["accuracy"])


def constant(losses):
  """A regularizer whose penalty is known."""
  return regularizers.Regularizer(
    init=regularizers.nothing_to_carry,
    penalty=lambda forward, params, state, batch: (losses, ()),
    update=regularizers.no_update,
    result=regularizers.trained_network,
  )


def test_the_weight_rises_over_its_share_of_the_stage(learner):
  """Over 4 of the 10 steps; the term is the mean over all 16 images."""
  losses = jnp.arange(16.0)
  stage = semi_toys.stage(learner, constant(losses), weight=2.0, rampup=0.4)
  found, _, _ = semi_toys.steps(stage, learner.init(), 10)
  terms = []
  for before, after in zip(found, found[1:]):
    totals = after.totals
    term = float(totals["loss"] - totals["cross_entropy"])
    if int(before.step) % 5:
      term -= float(before.totals["loss"] - before.totals["cross_entropy"])
    terms.append(term)
  ramp = [np.exp(-5 * (1 - min(t / 4, 1)) ** 2) for t in range(10)]
  np.testing.assert_allclose(terms, 15 * np.array(ramp), rtol=1e-3, atol=1e-4)
  assert float(found[5].totals["consistency"]) == pytest.approx(7.5 * 5)


def test_the_objective_sees_labeled_images_counts_and_epoch(learner):
  seen = []

  def watched(logits, labels, *, counts, epoch, epochs, example_weights):
    jax.debug.callback(lambda *x: seen.append(x), labels, counts, epoch)
    assert logits.shape == (8, 4) and epochs == 2 and example_weights is None
    return jnp.mean(logits)

  stage = semi_supervised.make(
    "semi",
    learner.model,
    constant(jnp.zeros(16)),
    images=learner.task.images,
    labels=learner.task.labels,
    objective=watched,
    make_sampler=lambda batch_size, epochs, stage: sampling.random(
      toys.N, batch_size, seed=0, stage=stage
    ),
    transform=learner.transform,
    recipe=toys.recipe(),
    weight=1.0,
    seed=0,
    key=learner.key("semi"),
    report=toys.nothing,
  )
  _, indices, _ = semi_toys.steps(stage, learner.init(), 6)
  jax.effects_barrier()
  known = np.asarray(learner.task.labels)
  assert [int(epoch) for *_, epoch in seen] == [0, 0, 0, 0, 0, 1]
  for (labels, counts, _), index in zip(seen, indices):
    np.testing.assert_array_equal(labels, known[index[:8]])
    np.testing.assert_array_equal(counts, toys.LABELED)


@pytest.mark.parametrize(
  "loss",
  [
    {"name": "logit_adjustment"},
    {"weights": "inverse", "defer": 0.5},
  ],
)
def test_any_loss_can_be_combined(learner, loss):
  """The supervised part is that of the objective, and trains."""
  stage = semi_toys.stage(learner, REGULARIZERS["mean_teacher"], loss=loss)
  found, indices, arrays = semi_toys.steps(stage, learner.init(), 6)
  view, _ = semi_toys.views(learner, found[5], indices[5], arrays)
  expected = objective.make(
    toys.config().loss.to_dict() | loss,
    head="linear",
    head_scale=1.0,
    num_classes=toys.C,
  )(
    jnp.asarray(semi_toys.logits(found[5].params, view)[:8], jnp.float32),
    arrays["labels"][indices[5][:8]],
    counts=arrays["counts"],
    epoch=1,
    epochs=2,
  )
  np.testing.assert_allclose(
    found[6].totals["cross_entropy"], expected, rtol=1e-3
  )


def drawn(stage, learner, epochs):
  _, stream = stage.prepare(learner.init())
  return np.concatenate([stream(epoch) for epoch in range(epochs)])


def test_an_epoch_is_a_pass_over_the_unlabeled_images(learner):
  stage = semi_toys.stage(learner, pi_model.make())
  assert (stage.steps_per_epoch, stage.batch_size) == (5, 16)
  index = drawn(stage, learner, 3)
  assert index.shape == (15, 16) and index.dtype == np.int32
  assert index[:, :8].max() < toys.N <= index[:, 8:].min()
  np.testing.assert_array_equal(
    np.bincount(index.ravel()), np.full(toys.N + toys.M, 3)
  )
  assert not np.array_equal(index[:5], index[5:10])


def test_more_unlabeled_images_than_labeled_ones(learner):
  stage = semi_toys.stage(
    learner, pi_model.make(), unlabeled_ratio=3, batch_size=4
  )
  assert (stage.steps_per_epoch, stage.batch_size) == (3, 16)
  index = drawn(stage, learner, 10)
  assert index[:, :4].max() < toys.N <= index[:, 4:].min()
  # 10 labeled batches an epoch: three epochs over the labeled images in 30.
  np.testing.assert_array_equal(
    np.bincount(index[:, :4].ravel()), np.full(toys.N, 3)
  )


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

  stream = semi_supervised.make_stream(
    labeled,
    unlabeled,
    num_labeled=100,
    labeled_steps=labeled_steps,
    steps=steps,
  )
  expected = slow_stream(labeled, unlabeled, labeled_steps, steps, 6)
  # In any order: a resumed run asks for a late epoch first.
  for epoch in (5, 0, 3, 1, 4, 2):
    np.testing.assert_array_equal(
      stream(epoch), expected[epoch * steps : (epoch + 1) * steps]
    )


def test_a_sampler_draws_the_labeled_images_only(learner):
  stage = semi_toys.stage(learner, pi_model.make(), sampler="class_balanced")
  index = drawn(stage, learner, 60)
  labels = np.asarray(learner.task.labels)[index[:, :8]]
  shares = np.bincount(labels.ravel()) / labels.size
  np.testing.assert_allclose(shares, 0.25, atol=0.03)
  np.testing.assert_array_equal(
    np.bincount(index[:, 8:].ravel() - toys.N), np.full(toys.M, 60)
  )


def test_the_stage_leaves_one_head_in_two_buffers(learner):
  stage = semi_toys.stage(learner, pi_model.make())
  trained = stage.init(learner.init())
  state = stage.finish(learner.init(), trained)
  toys.assert_same(state.head, state.balanced_head)
  toys.assert_same(state.head, trained.params["head"])
  for a, b in zip(
    jax.tree.leaves(state.head), jax.tree.leaves(state.balanced_head)
  ):
    assert a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer()


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"weight": -0.5}, "semi.weight is -0.5; it must be 0 or more"),
    ({"weight": float("nan")}, "semi.weight is nan"),
    ({"weight": float("inf")}, "semi.weight is inf"),
    ({"rampup": 1.1}, r"semi.rampup is 1.1; .*in \[0, 1\]"),
    ({"rampup": -0.1}, "semi.rampup is -0.1"),
    ({"unlabeled_ratio": 0}, "semi.unlabeled_ratio is 0; it must be 1"),
    ({"batch_size": 41}, "semi.batch_size is 41, .* only 40"),
    (
      {"batch_size": 20, "unlabeled_ratio": 3},
      "semi.batch_size is 20 with 3 .* only 40 unlabeled .* lower",
    ),
  ],
)
def test_settings_out_of_range_are_refused(learner, settings, message):
  with pytest.raises(ValueError, match=message):
    semi_toys.stage(learner, pi_model.make(), **settings)


def test_no_unlabeled_images_is_an_error():
  bare = toys.learner(unlabeled=(0, 0, 0, 0))
  with pytest.raises(ValueError, match="no unlabeled images.*supervised"):
    semi_toys.stage(bare, pi_model.make())

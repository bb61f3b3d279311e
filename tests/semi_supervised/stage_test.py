"""The stage of the semi-supervised methods: streams, loss, limits, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import semi_toys
import toys

from ltjax.losses import objective
from ltjax.semi_supervised import (
  mean_teacher,
  pi_model,
  regularizer,
  temporal_ensembling,
  vat,
)
from ltjax.semi_supervised import stage as semi_supervised
from ltjax.training import draw, step


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
  return jax.jit(toys.embedding_stage(toys.learner()).step)


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
  return regularizer.Regularizer(
    lambda forward, params, state, views: (losses, {})
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

  algorithm = semi_supervised.algorithm(
    learner.model,
    constant(jnp.zeros(16)),
    objective=watched,
    transform=learner.transform,
    num_labeled=8,
    weight=1.0,
  )
  data = draw.pairs(learner.samples, 8, ratio=1, field="semi")
  stage = step.make(
    *("semi", algorithm, data, toys.recipe()),
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

"""The four drivers: what of the config reaches the stage."""

import jax
import numpy as np
import pytest
import semi_toys
import toys

from ltjax import config as configs
from ltjax import methods
from ltjax.methods import semi_supervised

NAMES = tuple(method.name for method in semi_supervised.METHODS)
TITLES = {
  "pi_model": "Pi-model + CE",
  "temporal_ensembling": "Temporal ensembling + CE",
  "mean_teacher": "Mean Teacher + CE",
  "vat": "VAT + CE",
}
every_method = pytest.mark.parametrize("name", NAMES)


def stages(name, learner=None, **changes):
  return methods.stages(
    learner or toys.learner(), toys.config(method=name, **changes)
  )


@every_method
def test_one_stage_and_its_row(name, tmp_path):
  learner = toys.learner()
  made = stages(name, learner)
  assert [stage.name for stage in made] == ["semi"]
  state, rows = toys.execute(tmp_path, learner, made)
  (row,) = [row for row in rows if row["kind"] == "eval"]
  assert (row["model"], row["head"]) == (TITLES[name], "balanced")
  train = [row for row in rows if row["kind"] == "train"]
  assert len(train) == 2
  assert {"loss", "accuracy", "cross_entropy", "consistency"} <= set(train[0])
  toys.assert_same(state.head, state.balanced_head)


def weight_of(name, **changes):
  """Returns the factor before the consistency term in an epoch without ramp."""
  learner = toys.learner(pad=1, flip=True)
  (stage,) = stages(name, learner, semi__rampup=0.0, **changes)
  found, _, _ = semi_toys.steps(stage, learner.init(), 7)
  parts = [
    {k: float(found[i].totals[k]) for k in found[i].totals} for i in (6, 7)
  ]
  loss, entropy, drift = (
    parts[1][k] - parts[0][k] for k in ("loss", "cross_entropy", "consistency")
  )
  return (loss - entropy) / drift


@every_method
def test_each_method_has_a_weight_of_its_own(name):
  expected = {
    "pi_model": 10,
    "temporal_ensembling": 30,
    "mean_teacher": 50,
    "vat": 1,
  }[name]
  assert configs.default().semi.weight is None
  assert weight_of(name) == pytest.approx(expected, rel=1e-2)


def test_a_weight_can_be_given():
  assert weight_of("mean_teacher", semi__weight=7.0) == pytest.approx(
    7, rel=1e-2
  )


@pytest.mark.parametrize(
  "name, change",
  [
    ("pi_model", {"loss__name": "focal"}),
    ("temporal_ensembling", {"semi__alpha": 0.1}),
    ("mean_teacher", {"semi__ema": 0.1}),
    ("mean_teacher", {"semi__teacher_batch_norm": "ema"}),
    ("vat", {"semi__epsilon": 0.5}),
    ("vat", {"semi__xi": 5.0}),
    ("vat", {"semi__iterations": 3}),
  ],
  ids=str,
)
def test_a_setting_changes_the_network(name, change, plain):
  learner = toys.learner(pad=1, flip=True)
  (stage,) = stages(name, learner, **change)
  assert toys.differ(plain(name), trained(stage, learner))


def test_settings_of_batches_and_recipe():
  learner = toys.learner()
  start = learner.init()
  (plain,) = stages("vat", learner)
  (wide,) = stages("vat", learner, semi__unlabeled_ratio=2)
  assert (plain.batch_size, wide.batch_size) == (16, 24)
  (slow,) = stages("vat", learner, semi__learning_rate=0.01)
  assert float(slow.schedule(0)) == pytest.approx(0.01)
  (balanced,) = stages("vat", learner, sampler__name="class_balanced")
  draws = [stage.prepare(start)[1](0) for stage in (plain, balanced)]
  assert not np.array_equal(draws[0][:, :8], draws[1][:, :8])
  np.testing.assert_array_equal(draws[0][:, 8:], draws[1][:, 8:])


@pytest.fixture(scope="module")
def plain():
  found = {}

  def get(name):
    if name not in found:
      learner = toys.learner(pad=1, flip=True)
      (stage,) = stages(name, learner)
      found[name] = trained(stage, learner)
    return found[name]

  return get


def trained(stage, learner):
  """Returns the network that the stage would leave after 8 steps."""
  found, _, _ = semi_toys.steps(stage, learner.init(), 8)
  return toys.host(stage.finish(learner.init(), found[-1]).backbone)


def test_ldam_with_deferred_weights(tmp_path):
  """Mean Teacher + L needs the cosine head, here refused without it."""
  with pytest.raises(ValueError, match="model.head=cosine"):
    stages("mean_teacher", loss__name="ldam", loss__weights="effective_number")


@every_method
def test_it_starts_from_the_given_state(name):
  learner = toys.learner()
  start = learner.init()
  other = start.replace(backbone=jax.tree.map(lambda x: x + 1, start.backbone))
  (stage,) = stages(name, learner)
  toys.assert_same(stage.init(other).params["backbone"], other.backbone)


def test_counts_of_pseudo_labels_are_refused():
  with pytest.raises(ValueError, match="loss.counts is 'all', but vat has no"):
    stages("vat", loss__counts="all")


@pytest.mark.parametrize(
  "name, changes, message",
  [
    ("pi_model", {"semi__weight": -1.0}, "semi.weight is -1.0"),
    ("pi_model", {"semi__epochs": 0}, "semi.epochs is 0"),
    ("temporal_ensembling", {"semi__alpha": 1.0}, "semi.alpha is 1.0"),
    ("mean_teacher", {"semi__ema": 1.0}, "semi.ema is 1.0"),
    ("mean_teacher", {"semi__teacher_batch_norm": "x"}, "batch, ema"),
    ("vat", {"semi__epsilon": 0.0}, "semi.epsilon is 0.0"),
    ("vat", {"sampler__name": "balanced"}, "balanced"),
  ],
)
def test_settings_out_of_range_are_refused(name, changes, message):
  with pytest.raises(ValueError, match=message):
    stages(name, **changes)


def test_devices_share_the_labeled_part_of_a_batch():
  learner = toys.learner(mesh=toys.sharding.make_mesh(3))
  with pytest.raises(ValueError, match="semi.batch_size is 8, .*multiple of"):
    stages("vat", learner)


def test_unlabeled_images_are_needed():
  bare = toys.learner(unlabeled=(0, 0, 0, 0))
  with pytest.raises(ValueError, match="no unlabeled images"):
    stages("mean_teacher", bare)


def test_unlabeled_images_have_an_effect():
  """Other unlabeled images, another network."""
  results = []
  for shift in (0, 50):
    learner = toys.learner(pad=1, flip=True)
    images = np.array(learner.task.images)
    images[toys.N :] = np.roll(images[toys.N :], shift, axis=1) + shift
    task = toys.dataclasses.replace(learner.task, images=jax.device_put(images))
    learner = toys.dataclasses.replace(learner, task=task)
    (stage,) = stages("mean_teacher", learner)
    results.append(trained(stage, learner))
  assert toys.differ(*results)

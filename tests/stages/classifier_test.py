"""The classifier stage: a head, or scales of one, on a frozen embedding."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax import config as configs
from ltjax import models
from ltjax.stages import classifier

UPDATE = {"batch_norm": "update"}


@pytest.fixture(scope="module")
def learner():
  return toys.learner(pad=1, flip=True)


@pytest.fixture(scope="module")
def trained(learner, tmp_path_factory):
  """A state whose embedding and statistics are not the initial ones."""
  state, _ = toys.execute(
    tmp_path_factory.mktemp("embedding"),
    learner,
    [toys.embedding_stage(learner)],
  )
  labels = jnp.asarray(learner.task.truth[::-1].copy())
  return state.replace(pseudo_labels=labels)


def test_golden_step(learner):
  """Numbers of the first step.

  Update them only if the step is meant to change
  (augmentation, initialization, order of draws, loss, optimizer): old runs
  then do not resume bit for bit, which the CHANGELOG has to say.
  """
  stage = toys.classifier_stage(learner)
  _, arrays, _, after = toys.one_step(stage, learner.init())
  found = {
    "loss": after.totals["loss"],
    "accuracy": after.totals["accuracy"],
    "params": toys.norm(after.params),
    "features": toys.norm(arrays["features"]),
  }
  for name, value in GOLDEN.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


GOLDEN = {
  "loss": 1.373551,
  "accuracy": 0.375,
  "params": 1.037717,
  "features": 9.076066,
}


def test_frozen_means_frozen(learner, trained, tmp_path):
  """Parameters and BatchNorm statistics keep every bit, and so do g' and the
  memory; g moves."""
  state, rows = toys.execute(
    tmp_path, learner, [toys.classifier_stage(learner)], state=trained
  )
  toys.assert_same(
    state.replace(balanced_head=None), trained.replace(balanced_head=None)
  )
  assert toys.differ(state.balanced_head, trained.balanced_head)
  assert rows[-1]["loss"] < rows[0]["loss"]


def test_a_fresh_head_is_new_and_a_refit_goes_on(learner, trained):
  fresh = toys.classifier_stage(learner, "classifier").init(trained)
  refit = toys.classifier_stage(learner, "refit", fresh=False).init(trained)
  toys.assert_same(refit.params, trained.balanced_head)
  assert toys.differ(fresh.params, trained.balanced_head)
  assert toys.differ(fresh.params, trained.head)
  # Another stage draws another head; the same stage, the same.
  again = toys.classifier_stage(learner, "classifier").init(trained)
  other = toys.classifier_stage(learner, "other").init(trained)
  toys.assert_same(fresh, again)
  assert toys.differ(fresh.params, other.params)


def test_no_views_means_the_plain_image(learner, trained):
  stage = toys.classifier_stage(learner, choices={"views": 0})
  arrays, stream = stage.prepare(trained)
  np.testing.assert_array_equal(
    arrays["features"],
    learner.predictor.features(trained, learner.task.images[: toys.N]),
  )
  assert arrays["features"].shape == (toys.N, toys.D)
  assert stream(0).max() < toys.N


def test_a_step_is_sgd_through_the_frozen_network(learner, trained):
  """As if features were computed in the step and no gradient entered `f`."""
  stage = toys.classifier_stage(learner, choices={"views": 0})
  before, _, index, after = toys.one_step(stage, trained)
  _, test = learner.task.transforms()
  labels = np.asarray(learner.task.labels)[index]

  def loss_fn(head):
    _, logits, _ = learner.model.apply(
      {"backbone": trained.backbone, "head": head},
      trained.batch_stats,
      test(learner.task.images[index]),
      False,
    )
    return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(8), labels])

  loss, grads = jax.value_and_grad(loss_fn)(before.params)
  expected = jax.tree.map(
    lambda w, g: w - 0.05 * (g + 5e-4 * w), before.params, grads
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    after.params,
    expected,
  )
  np.testing.assert_allclose(after.totals["loss"], loss, rtol=1e-5)


def test_rows_and_their_labels_belong_together(learner, trained):
  stage = toys.classifier_stage(learner, choices={"views": 3})
  arrays, stream = stage.prepare(trained)
  labels = np.asarray(learner.task.labels)
  np.testing.assert_array_equal(arrays["labels"], np.tile(labels, 3))
  drawn = np.concatenate([stream(epoch).ravel() for epoch in range(60)])
  assert drawn.max() < 3 * toys.N
  views = np.bincount(drawn // toys.N, minlength=3) / len(drawn)
  np.testing.assert_allclose(views, 1 / 3, atol=0.03)
  classes = np.bincount(labels[drawn % toys.N], minlength=4) / len(drawn)
  np.testing.assert_allclose(classes, 1 / 4, atol=0.03)


def test_an_epoch_is_as_long_whatever_the_views(learner):
  for views in (0, 1, 5):
    stage = toys.classifier_stage(learner, choices={"views": views})
    assert stage.steps_per_epoch == 5


def test_a_least_number_of_steps_lengthens_the_stage(learner):
  """An epoch has 5 steps on D, 10 on D and U'; the schedule spans them all."""
  for data, choices, epochs in (
    ("labeled", {"min_steps": 23}, 5),
    ("all", {"min_steps": 23}, 3),
    ("labeled", {"min_steps": 9}, 2),  # fewer than those of the recipe
  ):
    stage = toys.classifier_stage(learner, choices=choices | {"data": data})
    assert stage.epochs == epochs
    whole = toys.classifier_stage(
      learner, choices={"data": data}, epochs=epochs
    )
    steps = np.arange(whole.steps)
    np.testing.assert_array_equal(stage.schedule(steps), whole.schedule(steps))


def test_random_sampling_is_an_option(learner, trained):
  stage = toys.classifier_stage(learner, choices={"sampler": "random"})
  _, stream = stage.prepare(trained)
  images = np.sort(stream(0).ravel() % toys.N)
  np.testing.assert_array_equal(images, np.arange(toys.N))


def test_pseudo_labels_are_an_option(learner, trained):
  """On D and U': rows of all images, with the labels the state holds."""
  stage = toys.classifier_stage(learner, choices={"data": "all"})
  arrays, stream = stage.prepare(trained)
  labels = np.concatenate([learner.task.labels, trained.pseudo_labels])
  np.testing.assert_array_equal(arrays["labels"], np.tile(labels, 2))
  assert arrays["features"].shape == (2 * (toys.N + toys.M), toys.D)
  assert stage.steps_per_epoch == 10
  drawn = np.concatenate([stream(epoch).ravel() for epoch in range(60)])
  assert set(np.unique(drawn % 80)) == set(range(80))
  classes = np.bincount(labels[drawn % 80], minlength=4) / len(drawn)
  np.testing.assert_allclose(classes, 1 / 4, atol=0.03)


def test_a_bound_holds_after_each_step(learner, trained):
  """Of a class-balanced loss, written out; the bound is that of the start."""
  choices = {"loss": "class_balanced", "sampler": "random", "max_norm": 0.25}
  stage = toys.classifier_stage(learner, fresh=False, choices=choices)
  states, arrays, indices = toys.train(stage, trained, 3)
  before, after = states[:2]
  lengths = np.linalg.norm(before.params["kernel"], axis=0)
  bound = 0.75 * lengths.min() + 0.25 * lengths.max()
  features = np.asarray(arrays["features"])[indices[0]]
  labels = np.asarray(arrays["labels"])[indices[0]]
  weights = (1 - 0.9999) / (1 - 0.9999 ** np.array(toys.LABELED))
  weights = jnp.asarray((4 * weights / weights.sum())[labels], jnp.float32)

  def loss_fn(head):
    log_probs = jax.nn.log_softmax(learner.model.head_apply(head, features))
    return -jnp.mean(weights * log_probs[np.arange(8), labels])

  grads = jax.grad(loss_fn)(before.params)
  moved = jax.tree.map(
    lambda w, g: w - 0.05 * (g + 5e-4 * w), before.params, grads
  )
  factors = np.minimum(1, bound / np.linalg.norm(moved["kernel"], axis=0))
  assert np.any(factors < 1) and np.any(factors == 1)
  np.testing.assert_allclose(
    after.params["kernel"], moved["kernel"] * factors[None], rtol=1e-5
  )
  np.testing.assert_allclose(after.params["bias"], moved["bias"], rtol=1e-5)
  for state in states[1:]:
    lengths = np.linalg.norm(state.params["kernel"], axis=0)
    assert np.all(lengths <= bound * (1 + 1e-6))


def test_a_fresh_head_has_no_lengths_to_be_bounded_by(learner):
  with pytest.raises(ValueError, match="classifier.max_norm is 0.1, which"):
    toys.classifier_stage(learner, choices={"max_norm": 0.1})


@pytest.mark.parametrize("data", ["labeled", "all"])
def test_logit_adjustment_in_place_of_re_sampling(learner, trained, data):
  """The loss of a batch of random draws, adjusted by counts, written out."""
  stage = toys.classifier_stage(
    learner,
    choices={"loss": "logit_adjustment", "sampler": "random", "data": data},
  )
  before, arrays, index, after = toys.one_step(stage, trained)
  known = np.concatenate([learner.task.labels, trained.pseudo_labels])
  known = known[: toys.N if data == "labeled" else None]
  features = np.asarray(arrays["features"])[index]
  labels = known[index % len(known)]
  log_prior = np.log(np.bincount(known, minlength=4) / len(known))

  def loss_fn(head):
    logits = features @ head["kernel"] + (head["bias"] + log_prior)[None]
    return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(8), labels])

  loss, grads = jax.value_and_grad(loss_fn)(before.params)
  np.testing.assert_allclose(after.totals["loss"], loss, rtol=1e-5)
  chex.assert_trees_all_close(
    after.params,
    jax.tree.map(lambda w, g: w - 0.05 * (g + 5e-4 * w), before.params, grads),
    rtol=1e-4,
    atol=1e-6,
  )


def test_a_cosine_head_is_fitted_alike(tmp_path):
  network = models.create(
    "resnet8", num_classes=4, image_shape=(4, 4, 1), head="cosine"
  )
  toy = toys.model()._replace(
    head_init=lambda key: {"kernel": network.head_init(key)["kernel"][:6]},
    head_apply=network.head_apply,
  )
  learner = toys.learner(network=toy)
  start = learner.init()
  stage = toys.classifier_stage(learner, epochs=5)
  state, rows = toys.execute(tmp_path, learner, [stage], state=start)
  assert rows[-1]["loss"] < rows[0]["loss"]
  assert list(state.balanced_head) == ["kernel"]


def test_a_batch_larger_than_the_labeled_set_is_refused(learner):
  with pytest.raises(ValueError, match="refit.batch_size is 41.* only 40"):
    toys.classifier_maker(learner, choices={"field": "refit"}, batch_size=41)


# -- Other samplers.


def test_any_sampler_is_an_option(learner, trained):
  """Reversed: the rarest class is drawn most often, in inverse proportion."""
  stage = toys.classifier_stage(learner, choices={"sampler": "reversed"})
  _, stream = stage.prepare(trained)
  drawn = np.concatenate([stream(epoch).ravel() for epoch in range(60)])
  labels = np.asarray(learner.task.labels)[drawn % toys.N]
  expected = 1 / np.array(toys.LABELED)
  np.testing.assert_allclose(
    np.bincount(labels, minlength=4) / len(labels),
    expected / expected.sum(),
    atol=0.03,
  )


# -- Statistics that follow the batches.


def test_updated_statistics_and_nothing_else_of_f(learner, trained, tmp_path):
  stage = toys.classifier_stage(learner, choices=UPDATE)
  state, _ = toys.execute(tmp_path, learner, [stage], state=trained)
  toys.assert_same(
    state.replace(balanced_head=None, batch_stats=None),
    trained.replace(balanced_head=None, batch_stats=None),
  )
  assert toys.differ(state.batch_stats, trained.batch_stats)
  assert toys.differ(state.balanced_head, trained.balanced_head)


def test_statistics_drift_towards_a_balanced_world(trained):
  """After many balanced batches they are those of equal classes."""
  learner = toys.learner()  # images as they are
  stage = toys.classifier_stage(learner, choices=UPDATE, epochs=30)
  state, (arrays, stream) = stage.init(trained), stage.prepare(trained)
  step, mean = toys.jitted(stage.step), 0.0
  for epoch in range(30):
    for index in stream(epoch):
      state = step(state, index, arrays)
      mean += np.asarray(state.batch_stats["mean"]) / 150
  _, test = learner.task.transforms()
  images = np.asarray(test(learner.task.images[: toys.N]))
  x = images.reshape(toys.N, -1) @ np.asarray(trained.backbone["kernel"])
  labels = np.asarray(learner.task.labels)
  balanced = np.mean([x[labels == c].mean(0) for c in range(toys.C)], axis=0)

  def distance(other):
    return np.linalg.norm(mean - other)

  assert distance(balanced) < distance(x.mean(0))
  assert distance(balanced) < distance(np.asarray(trained.batch_stats["mean"]))


def test_a_step_in_training_mode_is_sgd_on_the_head_alone(learner, trained):
  """Gradients as of a loss through the network in training mode."""
  stage = toys.classifier_stage(learner, choices=UPDATE)
  before, arrays, index, after = toys.one_step(stage, trained)
  assert "features" not in arrays
  images = learner.transform(
    jax.random.fold_in(before.key, 0), learner.task.images[index]
  )
  labels = np.asarray(learner.task.labels)[index]

  def loss_fn(head):
    _, logits, stats = learner.model.apply(
      {"backbone": trained.backbone, "head": head},
      trained.batch_stats,
      images,
      True,
    )
    losses = -jax.nn.log_softmax(logits)[np.arange(8), labels]
    return jnp.mean(losses), stats

  (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(
    before.params
  )
  expected = jax.tree.map(
    lambda w, g: w - 0.05 * (g + 5e-4 * w), before.params, grads
  )
  for a, b in ((after.params, expected), (after.batch_stats, stats)):
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b
    )
  np.testing.assert_allclose(after.totals["loss"], loss, rtol=1e-5)


ADJUST = {"loss": "logit_adjustment"}


def test_defaults_are_those_of_both_blocks():
  """Each block lacks one field, which is then the default."""
  names = {f.name for f in dataclasses.fields(classifier.Settings)}
  config = configs.default()
  for field, missing in (("classifier", "data"), ("refit", "kind")):
    found = classifier.of(field, config[field])
    assert found == classifier.Settings(field)
    assert names - set(config[field]) == {missing, "field"}


def test_settings_are_those_of_the_block():
  block = configs.default().refit
  block.views, block.sampler, block.loss = 3, "random", "logit_adjustment"
  assert classifier.of("refit", block) == classifier.Settings(
    "refit", views=3, sampler="random", loss="logit_adjustment"
  )


@pytest.mark.parametrize(
  "choices, message",
  [
    ({"views": 3} | UPDATE, r"views is 3, but .*\.views=1, .*norm=frozen"),
    ({"views": 0} | UPDATE, "views is 0, but with .*batch_norm=update nothing"),
    (ADJUST, "loss is 'logit_adjustment', .*'class_balanced', .*=random"),
    ({"loss": "class_balanced"}, "loss is 'class_balanced', which adjusts"),
    ({"max_norm": 0.1, "kind": "lws"}, "max_norm is 0.1, but .*kind=lws"),
    (ADJUST | {"sampler": "square_root"}, "loss is .*'square_root', which has"),
  ],
)
def test_what_does_not_fit_is_refused(choices, message):
  for field in ("classifier", "refit"):
    with pytest.raises(ValueError, match=f"^{field}.{message}"):
      classifier.Settings(field, **choices)

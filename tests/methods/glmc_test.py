"""GLMC: its loss against NumPy, its limits, and its stages on the toys."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.augment import mixing
from ltjax.methods import glmc
from ltjax.training import draw, step

AUTHOR = {
  "beta": 1.0,
  "crops": 2,
  "cutmix_side": "up",
  "reduction": "sum",
  "first_epoch": 0,
}
PLAIN = {"views": "plain", "consistency": 0.0, "cumulative": False}
DIM = 5


@pytest.fixture(scope="module")
def learner():
  return toys.learner(pad=1, flip=True)


def settings_of(**changes):
  return glmc.Settings(**({"dim": DIM} | changes))


def stage_of(learner, *, recipe=None, **changes):
  return step.make(
    "glmc",
    glmc.algorithm(learner, settings_of(**changes)),
    draw.partners(learner.samples, toys.BATCH, field="glmc"),
    toys.recipe(**(recipe or {})),
    key=learner.key("glmc"),
    report=toys.nothing,
  )


def config_of(epochs=2, classifier=None, **changes):
  """Returns a config with the block `glmc`."""
  config = toys.config(**(classifier or {}))
  config.glmc.update(
    epochs=epochs, batch_size=toys.BATCH, learning_rate=0.05, weight_decay=5e-4
  )
  config.glmc.update(dataclasses.asdict(settings_of(**changes)))
  return config


# -- The loss.


def np_network(params, stats, images):
  """The toys' network in training mode: features, and new statistics."""
  x = np.asarray(images, np.float64).reshape(len(images), -1)
  x = x @ params["backbone"]["kernel"]
  mean, var = x.mean(0), x.var(0)
  stats = {
    "mean": 0.9 * stats["mean"] + 0.1 * mean,
    "var": 0.9 * stats["var"] + 0.1 * var,
  }
  x = (x - mean) / np.sqrt(var + 1e-5) * params["backbone"]["scale"]
  return np.maximum(x + params["backbone"]["bias"], 0), stats


def np_linear(params, x):
  return x @ params["kernel"] + params["bias"]


def np_entropy(logits, targets):
  log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  return -np.mean(np.sum(targets * log_probs, -1))


def np_cosine(a, b):
  norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
  return np.mean(np.sum(a * b, -1) / norms)


def np_loss(settings, learner, state, arrays, index):
  """Algorithm 1 with soft labels `[B, C]`; returns its terms and statistics."""
  num, params = len(index) // 2, toys.host(state.params)
  params = jax.tree.map(lambda a: a.astype(np.float64), params)
  key = jax.random.fold_in(state.key, state.step)
  views = settings.views.split(",")
  k_ratio, *keys = jax.random.split(key, 1 + settings.crops + len(views))
  ratio = float(mixing.draw_ratio(k_ratio, beta=settings.beta))
  one_hot = np.eye(toys.C)[np.asarray(arrays["labels"])[index]]
  frequency = np.array(toys.LABELED) / toys.N
  inverse = (1 / frequency) ** settings.label_power
  weights = toys.C * inverse / inverse.sum()
  stats = toys.host(state.batch_stats)
  plain, balanced, points, shares = 0, 0, [], []
  for i, name in enumerate(views):
    images = learner.transform(
      keys[i % settings.crops], arrays["images"][index]
    )
    if name == "mixup":
      mixed, share = ratio * images[:num] + (1 - ratio) * images[num:], ratio
    else:
      size = {"height": toys.SIZE, "width": toys.SIZE}
      inside = mixing.box(
        keys[settings.crops + i], ratio, side=settings.cutmix_side, **size
      )
      mixed = jnp.where(inside[None, ..., None], images[num:], images[:num])
      area = settings.cutmix_labels == "area"
      share = 1 - float(np.mean(inside)) if area else ratio
    shares.append(share)
    features, stats = np_network(params, stats, mixed)
    soft = share * one_hot[:num] + (1 - share) * one_hot[num:]
    plain += np_entropy(np_linear(params["head"], features), soft)
    logits = np_linear(params["balanced_head"], features)
    balanced += np_entropy(logits, weights * soft)
    points.append(np_linear(params["project"], features))
  predictions = [np_linear(params["predict"], p) for p in points]
  consistency = -np_cosine(predictions[0], points[1])
  consistency -= np_cosine(predictions[1], points[0])
  if settings.reduction == "mean":
    plain, balanced = plain / 2, balanced / 2
  alpha = 1 - ((int(state.step) // 5 + settings.first_epoch) / 2) ** 2
  loss = alpha * plain + (1 - alpha) * balanced
  terms = {
    "loss": loss + settings.consistency * consistency,
    "plain": plain,
    "balanced": balanced,
    "consistency": consistency,
  }
  return terms, stats, shares


@pytest.mark.parametrize(
  "changes",
  [
    {"beta": 2.0},
    AUTHOR | {"label_power": 1.2},
    {"cutmix_labels": "area", "beta": 3.0},
  ],
)
def test_the_loss_is_that_of_algorithm_1(learner, changes):
  stage = stage_of(learner, **changes)
  states, arrays, indices = toys.train(stage, learner.init(), 6)
  settings, seen = settings_of(**changes), []
  # The first step, and the first of the second epoch, where totals start anew.
  for i in (0, 5):
    wanted, stats, shares = np_loss(
      settings, learner, states[i], arrays, indices[i]
    )
    seen += shares
    for name, value in wanted.items():
      found = states[i + 1].totals[name]
      np.testing.assert_allclose(found, value, rtol=1e-4, err_msg=name)
    for name, value in stats.items():
      found = states[i + 1].batch_stats[name]
      np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-6)
  assert any(0.1 < share < 0.9 for share in seen)  # Or little was tested.


def test_golden_step(learner):
  """Numbers of the first step; see tests/stages/classifier_test.py."""
  _, _, _, after = toys.one_step(stage_of(learner), learner.init())
  found = {name: float(value) for name, value in after.totals.items()}
  found["params"] = toys.norm(after.params)
  for name, value in GOLDEN.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


GOLDEN = {
  "balanced": 1.135666,
  "consistency": 0.1747925,
  "loss": 3.108504,
  "plain": 1.435549,
  "params": 4.750432,
}


def loss_of(learner, **changes):
  """Returns the loss of a first step with its gradient, and the parameters."""
  algorithm = glmc.algorithm(learner, settings_of(**changes))
  stage, start = stage_of(learner, **changes), learner.init()
  state, (arrays, stream) = stage.init(start), stage.prepare(start)
  index = stream(0)[0]
  batch = step.Batch(
    key=jax.random.fold_in(state.key, 0),
    index=index,
    images=arrays["images"][index],
    labels=arrays["labels"][index],
    arrays=arrays,
    epoch=jnp.int32(0),
    fresh=jnp.bool_(True),
    progress=jnp.float32(0),
    epochs=2,
    steps=10,
  )

  @jax.jit
  @jax.value_and_grad
  def value(params):
    return algorithm.loss(params, state, batch)[0]

  return value, state.params


def test_the_gradient_is_the_slope(learner):
  """Without the agreement, whose targets are constants."""
  value, params = loss_of(learner, consistency=0.0)
  _, grads = value(params)
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(0), len(leaves))
  towards = jax.tree.unflatten(
    tree, [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)]
  )
  slope = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, grads, towards)))

  def moved(size):
    there = jax.tree.map(lambda p, d: p + size * d, params, towards)
    return float(value(there)[0])

  np.testing.assert_allclose(
    (moved(1e-3) - moved(-1e-3)) / 2e-3, slope, rtol=0.01
  )
  for name in ("project", "predict"):
    assert toys.norm(grads[name]) == 0


def test_targets_are_constants(learner):
  """With predictions that do not depend on points, no gradient is left."""
  value, params = loss_of(learner, consistency=1.0)
  params["predict"]["kernel"] = jnp.zeros((DIM, DIM))
  params["predict"]["bias"] = jnp.arange(1.0, DIM + 1)
  _, grads = value(params)
  assert toys.norm(grads["project"]) == 0
  assert toys.norm(grads["predict"]) > 0


def test_half_precision_is_near_single(learner):
  network = learner.model

  def apply(params, stats, images, train):
    assert images.dtype == jnp.bfloat16
    return network.apply(params, stats, images.astype(jnp.float32), train)

  half = dataclasses.replace(
    learner,
    model=network._replace(apply=apply),
    transform=lambda key, x: learner.transform(key, x).astype(jnp.bfloat16),
  )
  (single, params), (rough, _) = loss_of(learner), loss_of(half)
  exact, half = float(single(params)[0]), float(rough(params)[0])
  assert 0 < abs(half - exact) < 0.02 * abs(exact)


# -- Limits.


def test_without_mixing_and_agreement_it_is_cross_entropy():
  """One step of the embedding stage; `g` becomes its head."""
  learner = toys.learner()  # Without augmentation, whose keys differ.
  stage = stage_of(learner, **PLAIN)
  before, arrays, index, after = toys.one_step(stage, learner.init())
  plain = toys.embedding_stage(learner)
  wanted = toys.jitted(plain.step)(
    plain.init(learner.init()), index[: toys.BATCH], arrays
  )
  for name in ("backbone", "head"):
    for a, b in zip(
      *(jax.tree.leaves(s.params[name]) for s in (after, wanted)), strict=True
    ):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(
    after.totals["loss"], wanted.totals["loss"], rtol=1e-6
  )
  toys.assert_same(
    stage.finish(learner.init(), after).balanced_head, after.params["head"]
  )


@pytest.mark.parametrize(
  "first, epochs, still", [(0, 2, "balanced_head"), (1, 1, "head")]
)
def test_alpha_at_its_ends(learner, first, epochs, still):
  """`g` has no gradient in their first epoch, `g'` in the paper's last."""
  recipe = {"epochs": epochs, "weight_decay": 0.0}
  stage = stage_of(learner, recipe=recipe, first_epoch=first)
  before, _, _, after = toys.one_step(stage, learner.init())
  for name in ("head", "balanced_head"):
    differs = toys.differ(before.params[name], after.params[name])
    assert differs == (name != still)


# -- The stages.


def test_it_learns_the_toy_and_tests_the_second_head(tmp_path):
  learner = toys.learner()
  config = config_of(epochs=20, consistency=1.0)
  config.glmc.learning_rate = 0.2
  stages = list(glmc.stages(learner, config))
  assert [(s.name, s.steps, s.batch_size) for s in stages] == [
    ("glmc", 100, 16)
  ]
  state, rows = toys.execute(tmp_path, learner, stages)
  assert (rows[-1]["model"], rows[-1]["head"]) == ("GLMC", "balanced")
  assert rows[-1]["accuracy"] >= 0.85
  assert toys.differ(state.head, state.balanced_head)
  assert {"plain", "balanced", "consistency"} <= set(rows[0])


def test_max_norm_follows(tmp_path, learner):
  """From the head that GLMC leaves, within its lengths."""
  classifier = {
    "classifier__loss": "class_balanced",
    "classifier__sampler": "random",
    "classifier__max_norm": 0.1,
    "classifier__weight_decay": 0.1,
  }
  config, seen = config_of(finetune=True, classifier=classifier), []
  stages = toys.watched(list(glmc.stages(learner, config)), seen)
  _, rows = toys.execute(tmp_path, learner, stages)
  assert [s.name for s in stages] == ["glmc", "classifier"]
  assert rows[-1]["model"] == "GLMC, fine-tuned"
  first, second = (state.balanced_head["kernel"] for state in seen)
  lengths = np.linalg.norm(first, axis=0)
  bound = 0.9 * lengths.min() + 0.1 * lengths.max()
  assert np.linalg.norm(second, axis=0).max() <= bound * (1 + 1e-6)
  toys.assert_same(seen[0].backbone, seen[1].backbone)


def test_partners_follow_the_sampler(learner):
  config = config_of(
    classifier={"sampler__name": "power", "sampler__exponent": -1.0}
  )
  (stage,) = glmc.stages(learner, config)
  arrays, stream = stage.prepare(learner.init())
  index = np.concatenate([stream(epoch) for epoch in range(40)])
  labels = np.asarray(arrays["labels"])[index]
  first, partners = (
    np.bincount(part.ravel(), minlength=4) for part in np.split(labels, 2, 1)
  )
  np.testing.assert_array_equal(first, 40 * np.array(toys.LABELED))
  assert np.all(np.diff(partners) > 0)


def test_one_view_has_nothing_to_agree_with():
  with pytest.raises(
    ValueError, match="glmc.consistency is 10.0, but .*'mixup'"
  ):
    glmc.Settings(views="mixup")

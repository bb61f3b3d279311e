"""Rows of the tables against the papers' formulas, written out a second time.

What a row minimizes and how fast, from its name in `presets` on: here a wrong
sign, two swapped settings or an epoch too many would show, wherever in between.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax import config as configs
from ltjax import methods, models
from ltjax.config import rows
from ltjax.losses import objective
from ltjax.models import heads
from ltjax.optim import recipe as recipes
from ltjax.training import sampling

# CIFAR-10-LT at rho 100.
COUNTS = np.array([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])
EPOCHS = 200


def published(row, features, kernel, bias, labels, *, epoch, author):
  """Returns the loss of a batch as the code of Cao et al. computes it."""
  rule = row.split("_")
  if "ldam" in rule:  # on cosines
    x = features / np.linalg.norm(features, axis=1, keepdims=True)
    w = kernel / np.linalg.norm(kernel, axis=0)
    margins = 1 / np.sqrt(np.sqrt(COUNTS))
    margins = margins * (0.5 / np.max(margins))
    logits = x @ w
    for i, y in enumerate(labels):
      logits[i, y] -= margins[y]
    logits = 30 * logits
  else:
    logits = features @ kernel + bias
  # The rule sets beta: 0 for plain, 0.9999 for re-weighted, by epoch for DRW.
  beta = 0.0
  if "cb" in rule or ("drw" in rule and epoch // 160 == 1):
    beta = 0.9999
  weights = (1 - beta) / (1 - beta**COUNTS)
  weights = weights / np.sum(weights) * len(COUNTS)
  log_p = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
  entropy = -log_p[np.arange(len(labels)), labels]
  w = weights[labels]
  if "focal" not in rule:
    return np.sum(w * entropy) / np.sum(w)  # as torch.nn.CrossEntropyLoss
  if author:  # focused by the weighted loss
    return np.mean((1 - np.exp(-w * entropy)) * w * entropy)
  return np.mean(w * (1 - np.exp(-entropy)) * entropy)


@pytest.mark.parametrize("variant", configs.VARIANTS)
@pytest.mark.parametrize(
  "row", ["ce", "cb_ce", "ce_drw", "focal", "cb_focal", "ldam", "ldam_drw"]
)
def test_a_row_minimizes_the_published_loss(row, variant):
  config = rows.apply(configs.default(variant), row)
  chosen = objective.make(
    config.loss,
    head=config.model.head,
    head_scale=config.model.head_scale,
    num_classes=10,
  )
  head = heads.create(
    config.model.head,
    feature_dim=7,
    num_classes=10,
    scale=config.model.head_scale,
  )
  rng = np.random.default_rng(0)
  features, kernel = rng.normal(size=(32, 7)), rng.normal(size=(7, 10))
  bias, labels = rng.normal(size=10), rng.integers(0, 10, 32)
  params = {"kernel": jnp.asarray(kernel, jnp.float32)}
  if config.model.head == "linear":
    params["bias"] = jnp.asarray(bias, jnp.float32)
  assert set(params) == set(head.init(jax.random.key(0)))

  @jax.jit
  def loss(epoch):
    return chosen(
      head.apply(params, jnp.asarray(features, jnp.float32)),
      jnp.asarray(labels, jnp.int32),
      counts=jnp.asarray(COUNTS, jnp.float32),
      epoch=epoch,
      epochs=EPOCHS,
    )

  losses = {}
  for epoch in (0, 159, 160, 199):
    losses[epoch] = float(loss(epoch))
    expected = published(
      *(row, features, kernel, bias, labels),
      epoch=epoch,
      author=variant == "author_code",
    )
    np.testing.assert_allclose(losses[epoch], expected, rtol=2e-5)
  assert losses[0] == losses[159] and losses[160] == losses[199]
  assert (abs(losses[159] - losses[160]) > 1e-2) == row.endswith("drw")


def published_rate(epoch):
  """The learning rate of an epoch, which that code counts from 1."""
  epoch = epoch + 1
  if epoch <= 5:
    return 0.1 * epoch / 5
  if epoch > 180:
    return 0.1 * 0.0001
  if epoch > 160:
    return 0.1 * 0.01
  return 0.1


@pytest.mark.parametrize("block", ["pretrain", "embedding", "pseudo", "semi"])
@pytest.mark.parametrize("variant", configs.VARIANTS)
def test_the_rate_of_each_epoch_is_the_published_one(block, variant):
  steps = 97
  config = rows.apply(configs.default(variant), "ldam_drw")
  rate = recipes.of(block, config[block]).make_schedule(steps)
  for where in (0, steps - 1):
    found = rate(np.arange(EPOCHS) * steps + where)
    expected = np.array([published_rate(e) for e in range(EPOCHS)])
    if variant == "paper":  # rises step by step, to the same
      warm = slice(0, 5)
      expected[warm] = 0.1 * (np.arange(5) * steps + where + 1) / (5 * steps)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_deferred_re_sampling_draws_by_the_published_weights():
  """From epoch 160 of 200 on a sample has its class's effective weight."""
  config = rows.apply(configs.default(), "ce_drs")
  config.sampler.beta = 0.99  # on a set of 460 images
  counts = np.array([300, 100, 50, 10])
  stream = sampling.make(
    config.sampler,
    np.repeat(np.arange(4), counts),
    46,
    num_classes=4,
    epochs=EPOCHS,
    seed=0,
    stage="embedding",
  )
  labels = np.repeat(np.arange(4), counts)
  for epoch in (0, 159):
    np.testing.assert_array_equal(
      np.bincount(labels[stream(epoch).ravel()]), counts
    )
  weights = ((1 - 0.99) / (1 - 0.99**counts))[labels]
  expected = np.bincount(labels, weights) / weights.sum()
  drawn = np.concatenate([stream(epoch).ravel() for epoch in range(160, 200)])
  found = np.bincount(labels[drawn]) / len(drawn)
  np.testing.assert_allclose(found, expected, atol=0.012)
  assert np.abs(found - counts / 460).max() > 0.1


@pytest.mark.parametrize(
  "row",
  ["ldam", "ldam_drw", "ldam_drw_ssp", "pseudo_label_l", "mean_teacher_l"],
)
def test_ldam_has_the_cosine_head_in_all_stages(row):
  config = rows.apply(toys.config(), row)
  for name in toys.BLOCKS:
    config[name].warmup_epochs = 0
  network = models.create(
    **dict(config.model) | {"name": "resnet8"},
    num_classes=toys.C,
    image_shape=(toys.SIZE, toys.SIZE, 1),
  )
  learner = toys.learner(network=network)
  stages = methods.stages(learner, config)
  state = jax.eval_shape(learner.init)
  seen = []
  for stage in stages:
    if stage.steps and stage.name != "pretrain":
      params = jax.eval_shape(stage.init, state).params
      assert set(params["head"]) == {"kernel"}, stage.name
      seen.append(stage.name)
  names = {
    "pseudo_label_l": ["embedding", "pseudo/embedding"],
    "mean_teacher_l": ["semi"],
  }
  assert seen == names.get(row, ["embedding"])


def test_the_base_of_pseudo_label_counts_labels_only():
  """Also with `loss.counts=all`, and when pseudo labels are there already."""
  config = rows.apply(toys.config(), "ldam_drw_du")
  assert config.loss.counts == "all"
  for name in toys.BLOCKS:
    config[name].warmup_epochs = 0
  learner = toys.learner()
  stages = {stage.name: stage for stage in methods.stages(learner, config)}
  state = learner.init().replace(
    pseudo_labels=jnp.full((toys.M,), 3, jnp.int32)
  )
  base, _ = stages["embedding"].prepare(state)
  np.testing.assert_array_equal(base["counts"], toys.LABELED)
  final, _ = stages["pseudo/embedding"].prepare(state)
  np.testing.assert_array_equal(
    final["counts"], np.add(toys.LABELED, (0, 0, 0, toys.M))
  )

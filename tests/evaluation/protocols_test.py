"""Protocols: the numbers of the papers, and what a config may name."""

import dataclasses

import numpy as np
import pytest

from ltjax import config as configs
from ltjax.evaluation import protocols


def block(**changes):
  made = configs.default().probe
  made.update(changes)
  return made


def rates(protocol, steps_per_epoch):
  """The learning rate in each epoch's first step."""
  made = protocol.recipe.make_schedule(steps_per_epoch)
  first = np.arange(protocol.recipe.epochs) * steps_per_epoch
  return np.asarray(made(first))


@pytest.mark.parametrize("steps", [1, 7, 351])
def test_sdclr_decays_at_epochs_10_and_20_of_30(steps):
  full = protocols.PRESETS["sdclr_full"]
  expected = [30.0] * 10 + [3.0] * 10 + [0.3] * 10
  np.testing.assert_allclose(rates(full, steps), expected, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_few_shots_decay_at_epochs_40_and_60_of_100(steps):
  few = protocols.PRESETS["sdclr_fewshot"]
  expected = [30.0] * 40 + [3.0] * 20 + [0.3] * 40
  np.testing.assert_allclose(rates(few, steps), expected, rtol=1e-5)


def test_what_the_two_of_sdclr_share():
  for name in ("sdclr_full", "sdclr_fewshot"):
    recipe = protocols.PRESETS[name].recipe
    assert (recipe.optimizer, recipe.momentum) == ("sgd", 0.9)
    assert (recipe.weight_decay, recipe.nesterov) == (0.0, False)
    assert recipe.batch_size == 128
    assert protocols.PRESETS[name].select == "validation"
    assert protocols.PRESETS[name].views > 0  # crop and flip


def test_adam_on_cached_features_falls_exponentially_to_1e_6():
  adam = protocols.PRESETS["cached_adam"]
  expected = 10 ** (-2 - 4 * np.arange(500) / 500)
  np.testing.assert_allclose(rates(adam, 40), expected, rtol=1e-4)
  assert (adam.recipe.optimizer, adam.recipe.batch_size) == ("adam", 1000)
  assert adam.recipe.weight_decay == 5e-6 and adam.views == 0


@pytest.mark.parametrize(
  "name, epochs, rate, batch",
  [("simclr", 100, 0.1, 512), ("byol", 80, 0.2, 256)],
)
def test_cosine_ones(name, epochs, rate, batch):
  protocol = protocols.PRESETS[name]
  expected = rate * (1 + np.cos(np.pi * np.arange(epochs) / epochs)) / 2
  np.testing.assert_allclose(rates(protocol, 5), expected, atol=1e-6)
  assert protocol.recipe.nesterov and protocol.recipe.weight_decay == 0
  assert protocol.recipe.batch_size == batch


def test_what_each_learns_from():
  assert {p.name: p.images for p in protocols.PRESETS.values()} == {
    "sdclr_full": "pool",
    "sdclr_fewshot": "few_shot",
    "cached_adam": "pool",
    "simclr": "pool",
    "byol": "pool",
    "knn": "labeled",
    "knn_pool": "pool",
  }


def test_protocols_come_in_the_order_of_their_names():
  chosen = protocols.of(block(protocols=" knn_pool, knn ,cached_adam,"))
  assert [p.name for p in chosen] == ["knn_pool", "knn", "cached_adam"]


def test_the_default_needs_no_probe_set():
  assert [p.images for p in protocols.of(block())] == ["labeled", "few_shot"]


def test_the_rate_of_sdclr_can_be_lowered_for_it_alone():
  names = "simclr,sdclr_full,sdclr_fewshot"
  chosen = protocols.of(block(protocols=names, sdclr_learning_rate=0.5))
  assert [p.recipe.learning_rate for p in chosen] == [0.1, 0.5, 0.5]
  for protocol in chosen:
    preset = protocols.PRESETS[protocol.name]
    rate = preset.recipe.learning_rate
    recipe = dataclasses.replace(protocol.recipe, learning_rate=rate)
    assert dataclasses.replace(protocol, recipe=recipe) == preset
  assert protocols.of(block(protocols=names)) == tuple(
    protocols.PRESETS[name] for name in names.split(",")
  )


def test_custom_is_the_block_itself():
  (custom,) = protocols.of(
    block(
      protocols="custom",
      epochs=7,
      batch_size=9,
      learning_rate=0.5,
      optimizer="lars",
      images="few_shot",
      views=3,
      select="validation",
    )
  )
  assert (custom.images, custom.views) == ("few_shot", 3)
  assert (custom.select, custom.select_every) == ("validation", 1)
  assert custom.recipe.epochs == 7 and custom.recipe.batch_size == 9
  assert custom.recipe.optimizer == "lars"


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"protocols": "sdclr_ful"}, "'sdclr_ful'.* Did you mean 'sdclr_full'"),
    ({"protocols": "knn, custm"}, "'custm'.* Did you mean 'custom'"),
    ({"protocols": "svm"}, "'svm'; choose of sdclr_full, .*custom.$"),
    ({"protocols": ""}, "protocols is ''; name one or more of sdclr_full"),
    ({"protocols": " , "}, "protocols is ' , '; name one"),
    ({"protocols": "simclr,simclr"}, "'simclr' twice"),
    ({"protocols": "knn"}, "ends with 'knn'.*protocols=knn,sdclr_fewshot"),
    ({"protocols": "custom,knn_pool"}, "ends with 'knn_pool'.* none. Put"),
  ],
)
def test_names_and_settings_that_do_not_fit(changes, message):
  with pytest.raises(ValueError, match=message):
    protocols.of(block(**changes))


@pytest.mark.parametrize(
  "size, devices, batch",
  [(40, 1, 40), (40, 3, 39), (2, 4, 2), (127, 1, 127), (128, 3, 128)],
)
def test_a_set_smaller_than_a_batch_is_one_batch(size, devices, batch):
  few = protocols.PRESETS["sdclr_fewshot"]
  got = protocols.fitted(few, size, devices=devices)
  assert got.recipe.batch_size == batch
  changed = dataclasses.replace(got.recipe, batch_size=128)
  assert dataclasses.replace(got, recipe=changed) == few


def test_the_batch_of_custom_and_of_neighbors_is_left():
  (custom,) = protocols.of(block(protocols="custom"))
  assert protocols.fitted(custom, 10, devices=1) is custom
  nearest = protocols.PRESETS["knn"]
  assert protocols.fitted(nearest, 10, devices=1) is nearest

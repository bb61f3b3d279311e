"""Recipes: the numbers of the paper, and the schedule and optimizer of them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import config
from ltjax.optim import optimizers, recipe


def test_defaults_are_those_of_the_paper():
  assert dataclasses.asdict(recipe.Recipe(epochs=200)) == {
    "epochs": 200,
    "batch_size": 128,
    "learning_rate": 0.1,
    "schedule": "cosine",
    "milestones": (),
    "factor": 0.1,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 5e-4,
    "decayed": "all",
    "warmup_epochs": 0,
    "warmup_every": "step",
    "optimizer": "sgd",
    "final_learning_rate": 0.0,
  }


@pytest.mark.parametrize("variant", config.VARIANTS)
def test_every_block_of_a_preset_is_a_recipe_with_choices(variant):
  preset = config.default(variant)
  fields = {f.name for f in dataclasses.fields(recipe.Recipe)}
  for block in ("embedding", "classifier", "consistency", "refit"):
    settings = {k: v for k, v in preset[block].items() if k in fields}
    assert settings.keys() == fields
    assert recipe.Recipe(**settings).make_schedule(10)(0) > 0


def test_the_schedule_spans_all_steps_of_the_stage():
  schedule = recipe.Recipe(epochs=4).make_schedule(5)
  rates = [float(schedule(step)) for step in range(21)]
  expected = [0.05 * (1 + np.cos(np.pi * step / 20)) for step in range(21)]
  np.testing.assert_allclose(rates, expected, atol=1e-7)
  assert rates[0] == pytest.approx(0.1) and rates[20] == pytest.approx(0)


@pytest.mark.parametrize(
  "min_steps, epochs", [(0, 4), (1, 4), (20, 4), (21, 5), (25, 5), (26, 6)]
)
def test_a_least_number_of_steps_is_reached_by_whole_epochs(min_steps, epochs):
  settings = recipe.Recipe(epochs=4, warmup_epochs=2)
  found = settings.lasting(min_steps, 5)
  assert found == dataclasses.replace(settings, epochs=epochs)
  assert found.make_schedule(5)(5 * epochs) == 0


def test_the_step_schedule_decays_at_fractions_of_the_stage():
  made = recipe.Recipe(
    epochs=10, schedule="step", milestones=(0.5, 0.8), factor=0.2
  ).make_schedule(3)
  rates = [float(made(step)) for step in (0, 14, 15, 23, 24, 29)]
  np.testing.assert_allclose(rates, [0.1, 0.1, 0.02, 0.02, 0.004, 0.004])


def code_of_yang_and_xu(epoch):
  """The learning rate that their code sets before an epoch, from 0."""
  epoch = epoch + 1
  if epoch <= 5:
    return 0.1 * epoch / 5
  if epoch > 180:
    return 0.1 * 0.0001
  if epoch > 160:
    return 0.1 * 0.01
  return 0.1


LDAM = {
  "epochs": 200,
  "schedule": "step",
  "milestones": (0.8, 0.9),
  "factor": 0.01,
  "warmup_epochs": 5,
}


@pytest.mark.parametrize("steps", [1, 3, 97])
def test_golden_rates_of_all_epochs_of_yang_and_xu(steps):
  """Each of the 200 epochs: its first and its last step."""
  schedule = recipe.Recipe(warmup_every="epoch", **LDAM).make_schedule(steps)
  expected = [code_of_yang_and_xu(epoch) for epoch in range(200)]
  assert expected[:6] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])
  assert expected[159:161] == pytest.approx([0.1, 1e-3])
  assert expected[179:181] == pytest.approx([1e-3, 1e-5])
  first = np.arange(200) * steps
  np.testing.assert_allclose(schedule(first), expected, rtol=1e-6)
  np.testing.assert_allclose(schedule(first + steps - 1), expected, rtol=1e-6)


def test_warm_up_by_steps_ends_each_epoch_at_the_stair():
  steps = 4
  stairs = recipe.Recipe(warmup_every="epoch", **LDAM).make_schedule(steps)
  ramp = recipe.Recipe(**LDAM).make_schedule(steps)
  t = np.arange(20 * steps)
  last = t % steps == steps - 1
  np.testing.assert_allclose(ramp(t)[last], stairs(t)[last], rtol=1e-6)
  np.testing.assert_allclose(ramp(t)[:3], [0.005, 0.01, 0.015], rtol=1e-6)
  np.testing.assert_array_equal(ramp(t)[20:], stairs(t)[20:])


@pytest.mark.parametrize("epochs", [-1, 4, 9])
def test_a_warm_up_as_long_as_the_stage_is_refused(epochs):
  with pytest.raises(
    ValueError, match=f"embedding: warmup_epochs is {epochs}; .* 4 epochs"
  ):
    recipe.of("embedding", {"epochs": 4, "warmup_epochs": epochs})


def test_an_unknown_schedule_is_refused():
  with pytest.raises(ValueError, match="'cosin'"):
    recipe.Recipe(epochs=1, schedule="cosin").make_schedule(1)


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_optimizer_has_momentum_decay_and_schedule(nesterov):
  """Three steps against PyTorch's update written out."""
  settings = recipe.Recipe(epochs=1, nesterov=nesterov, weight_decay=0.1)
  schedule = settings.make_schedule(3)
  optimizer = settings.make_optimizer(schedule)
  params = jnp.array([1.0, -2.0])
  state = optimizer.init(params)
  w, v = np.array([1.0, -2.0]), np.zeros(2)
  for step, grad in enumerate(([0.5, 0.5], [-1.0, 2.0], [0.0, 0.0])):
    updates, state = optimizer.update(jnp.array(grad), state, params)
    params = params + updates
    g = np.array(grad) + 0.1 * w
    v = 0.9 * v + g
    w = w - float(schedule(step)) * (g + 0.9 * v if nesterov else v)
    np.testing.assert_allclose(params, w, rtol=1e-5)


def test_every_optimizer_is_chosen_by_its_name():
  w, g = jnp.full((2, 2), 2.0), jnp.full((2, 2), 3.0)
  expected = {
    "sgd": 0.1 * 3,
    "adam": 0.1,  # the gradient over its size
    "adamw": 0.1,
    "lars": 0.1 * 1e-3 * 2,  # the gradient's direction, as long as w
  }
  assert tuple(expected) == optimizers.NAMES
  for name, move in expected.items():
    settings = recipe.Recipe(epochs=1, optimizer=name, weight_decay=0.0)
    optimizer = settings.make_optimizer(settings.make_schedule(1))
    update, _ = optimizer.update(g, optimizer.init(w), w)
    np.testing.assert_allclose(update, np.full((2, 2), -move), rtol=1e-5)


def test_the_exponential_schedule_ends_at_the_final_rate():
  """That of the linear probe on cached features: 1e-2 to 1e-6."""
  made = recipe.Recipe(
    epochs=4,
    learning_rate=1e-2,
    schedule="exponential",
    final_learning_rate=1e-6,
  ).make_schedule(5)
  rates = [float(made(step)) for step in (0, 5, 10, 15, 20)]
  np.testing.assert_allclose(rates, [1e-2, 1e-3, 1e-4, 1e-5, 1e-6], rtol=1e-5)


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"optimizer": "rprop"}, "probe: optimizer is 'rprop'; .*sgd, adam"),
    ({"schedule": "exponential"}, "probe: .*'exponential' needs a final"),
    ({"final_learning_rate": 0.01}, "probe: .*no meaning in the schedule"),
    ({"optimizer": "adam", "nesterov": True}, "probe: Adam has no Nesterov"),
  ],
)
def test_settings_that_do_not_fit_name_the_block(settings, message):
  with pytest.raises(ValueError, match=message):
    recipe.of("probe", {"epochs": 4} | settings)

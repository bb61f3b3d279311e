"""SwAV: the step against NumPy, frozen prototypes, the queue, what is left."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.self_supervised import swav

BATCH, QUEUE, DIM, K = 8, 16, 5, 6
RATE, TEMPERATURE, EPSILON = 0.05, 0.3, 0.2
TAIL = np.arange(1, K + 1) ** -0.5
# Used from the third step on, when it is full.
QUEUED = {"code_queue": QUEUE, "queue_start": 0.0}


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def make_stage(learner, *, name="swav", **settings):
  defaults = {"dim": DIM, "hidden": 7, "prototypes": K, "epsilon": EPSILON}
  defaults |= {"temperature": TEMPERATURE, "freeze": 0.0}
  defaults |= {"views": toys.two_views, "key": learner.key("swav")}
  return toys.pretrain(swav, learner, name, **(defaults | settings))


@pytest.fixture(scope="module")
def plain(learner):
  """Returns a stage without a queue, and what `train` gave."""
  stage = make_stage(learner)
  return stage, *toys.train(stage, learner.init(), 6)


@pytest.fixture(scope="module")
def queued(learner):
  """Returns what `train` gave of a stage with a queue."""
  return toys.train(make_stage(learner, **QUEUED), learner.init(), 3)


def views_of(state, arrays, index):
  key = jax.random.fold_in(state.key, state.step)
  return np.concatenate(toys.two_views(key, arrays["images"][index]))


def numpy_units(params, images):
  """Both views through the network at once, normalised by their batch."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  backbone, projection = params["backbone"], params["projection"]

  def norm(x, layer):
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    return np.maximum(x * layer["scale"] + layer["bias"], 0)

  x = np.asarray(images, np.float64).reshape(len(images), -1)
  x = norm(x @ backbone["kernel"], backbone)
  x = x @ projection["first"]["kernel"] + projection["first"]["bias"]
  x = norm(x, projection["first_norm"]) @ projection["second"]["kernel"]
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).reshape(2, -1, DIM)


def numpy_codes(scores, marginal):
  """Sinkhorn's algorithm as the paper has it, on the joint distribution."""
  joint = np.exp(scores / EPSILON).T
  joint /= joint.sum()
  for _ in range(3):
    joint *= marginal[:, None] / joint.sum(1, keepdims=True)
    joint *= 1 / len(scores) / joint.sum(0, keepdims=True)
  return joint.T * len(scores)


def numpy_loss(units, prototypes, codes):
  loss = 0.0
  for view in (0, 1):
    logits = units[view] @ np.asarray(prototypes, np.float64).T / TEMPERATURE
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss -= (codes[1 - view] * log_p).sum(1).mean() / 2
  return loss


def slope(loss, x, place, step=1e-5):
  """Central difference of `loss` at one number of `x`."""
  above, below = np.array(x, np.float64), np.array(x, np.float64)
  above[place] += step
  below[place] -= step
  return (loss(above) - loss(below)) / (2 * step)


@pytest.mark.parametrize(
  "marginal, queue", [("uniform", {}), ("power", QUEUED)]
)
def test_step_equals_a_numpy_reference(learner, marginal, queue):
  """The third step: loss, metrics, prototypes and a gradient of the network."""
  stage = make_stage(
    learner,
    marginal=marginal,
    marginal_exponent=0.5,
    recipe={"weight_decay": 0.0, "momentum": 0.0, "schedule": "constant"},
    **queue,
  )
  (*_, before, after), arrays, indices = toys.train(stage, learner.init(), 3)
  images = views_of(before, arrays, indices[2])
  units = numpy_units(before.params, images)
  prototypes = np.asarray(before.params["prototypes"], np.float64)
  shares = TAIL / TAIL.sum() if marginal == "power" else np.full(K, 1 / K)

  def codes_of(units):
    if queue:
      earlier = np.asarray(before.extra["queue"], np.float64)
      units = np.concatenate([earlier, units], axis=1)
    codes = [numpy_codes(view @ prototypes.T, shares) for view in units]
    return np.stack(codes)[:, -BATCH:]

  codes = codes_of(units)
  expected = {
    "loss": numpy_loss(units, prototypes, codes),
    "code_entropy": -(codes * np.log(codes)).sum(-1).mean(),
    "prototypes_used": len(np.unique((units @ prototypes.T).argmax(-1))),
  }
  for name, value in expected.items():
    now = after.totals[name] - before.totals[name]
    np.testing.assert_allclose(now, value, rtol=1e-4, err_msg=name)

  # Prototypes move down the slope, codes held, and are of length 1 again.
  gradient = np.zeros((K, DIM))
  for place in np.ndindex(K, DIM):
    gradient[place] = slope(
      lambda p: numpy_loss(units, p, codes), prototypes, place
    )
  moved = prototypes - RATE * gradient
  moved /= np.linalg.norm(moved, axis=1, keepdims=True)
  np.testing.assert_allclose(after.params["prototypes"], moved, atol=1e-5)

  # So does the network; with the codes in the gradient it would go elsewhere.
  kernel = before.params["projection"]["second"]["kernel"]

  def loss(kernel, held):
    projection = before.params["projection"] | {"second": {"kernel": kernel}}
    units = numpy_units(before.params | {"projection": projection}, images)
    codes_now = codes if held else codes_of(units)
    return numpy_loss(units, prototypes, codes_now)

  change = after.params["projection"]["second"]["kernel"] - kernel
  held, through = np.zeros((2, *kernel.shape))
  for place in np.ndindex(*kernel.shape):
    held[place] = slope(lambda w: loss(w, True), kernel, place)
    through[place] = slope(lambda w: loss(w, False), kernel, place)
  np.testing.assert_allclose(change, -RATE * held, rtol=1e-3, atol=1e-6)
  assert not np.allclose(change, -RATE * through, rtol=0.05, atol=1e-6)


def test_golden_step(queued):
  """Update the numbers only if the step is meant to change (see CHANGELOG)."""
  (_, after, *_), *_ = queued
  found = after.totals | {
    "params": toys.norm(after.params),
    "batch_stats": toys.norm(after.batch_stats),
    "prototypes": float(jnp.sum(after.params["prototypes"])),
    "queue": float(jnp.sum(after.extra["queue"])),
  }
  for name, value in GOLDEN.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


GOLDEN = {
  "loss": 1.769265,
  "code_entropy": 1.330689,
  "prototypes_used": 4.0,
  "params": 5.384994,
  "batch_stats": 3.352396,
  "prototypes": -0.854067,
  "queue": -3.07164,
}


def test_prototypes_begin_and_stay_of_length_1(plain):
  _, states, *_ = plain
  for state in states:
    lengths = np.linalg.norm(state.params["prototypes"], axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)
  for before, after in zip(states, states[1:]):
    assert toys.differ(before.params["prototypes"], after.params["prototypes"])


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_frozen_prototypes_stay_for_their_share_of_the_steps(
  learner, weight_decay
):
  """4 of 10 steps; Adam's decay would turn them. The network moves on."""
  recipe = {"weight_decay": weight_decay, "optimizer": "adam"}
  stage = make_stage(learner, freeze=0.4, recipe=recipe)
  states, *_ = toys.train(stage, learner.init(), 5)
  start = states[0].params
  for step, state in enumerate(states[1:], 1):
    moved = toys.differ(state.params["prototypes"], start["prototypes"])
    assert moved == (step > 4)
    assert toys.differ(state.params["projection"], start["projection"])
  if not weight_decay:  # they gathered no momentum
    leaves = jax.tree_util.tree_leaves_with_path(states[4].opt_state)
    moments = [x for path, x in leaves if "prototypes" in str(path)]
    assert len(moments) == 2
    for moment in moments:
      np.testing.assert_array_equal(moment, np.zeros((K, DIM)))


def test_queue_holds_the_last_embeddings_first_in_first_out(queued):
  states, arrays, indices = queued
  units = [
    numpy_units(state.params, views_of(state, arrays, index))
    for state, index in zip(states, indices)
  ]
  assert states[0].extra["queue"].shape == (2, QUEUE, DIM)
  np.testing.assert_array_equal(states[0].extra["queue"], 0)
  for state, expected in (
    (states[1], [units[0], np.zeros_like(units[0])]),
    (states[2], [units[0], units[1]]),
    (states[3], [units[2], units[1]]),
  ):
    np.testing.assert_allclose(
      state.extra["queue"], np.concatenate(expected, axis=1), atol=1e-5
    )


def test_queue_is_used_once_it_is_full(plain, queued):
  """Until then each step is, bit for bit, that without a queue."""
  for a, b in zip(plain[1][:3], queued[0]):
    toys.assert_same(a.params, b.params)
  assert toys.differ(plain[1][3].params, queued[0][3].params)


def test_queue_is_used_once_it_started(learner, plain):
  """It is full after a step, but starts with the second epoch."""
  stage = make_stage(learner, code_queue=8, queue_start=0.5)
  states, *_ = toys.train(stage, learner.init(), 6)
  for a, b in zip(plain[1][:6], states):
    toys.assert_same(a.params, b.params)
  assert toys.differ(plain[1][6].params, states[6].params)


def test_without_a_queue_nothing_else_is_carried(plain):
  assert all(state.extra == {} for state in plain[1])


def test_loss_is_log_k_where_nothing_can_be_told(plain):
  """A projection to zero: all similarities are equal, codes are undecided."""
  stage, (before, *_), arrays, indices = plain
  projection = before.params["projection"]
  zero = jax.tree.map(jnp.zeros_like, projection["second"])
  params = before.params | {"projection": projection | {"second": zero}}
  after = toys.jitted(stage.step)(
    before.replace(params=params), indices[0], arrays
  )
  np.testing.assert_allclose(after.totals["loss"], np.log(K), rtol=1e-6)
  np.testing.assert_allclose(after.totals["code_entropy"], np.log(K), rtol=1e-6)
  assert after.totals["prototypes_used"] == 1
  for leaf in jax.tree.leaves(after.params):
    assert np.all(np.isfinite(leaf))


def test_leaves_embedding_projection_and_prototypes(learner, tmp_path):
  stage = make_stage(learner)
  after, rows = toys.execute(tmp_path, learner, [stage])
  fresh = toys.host(learner.init())
  assert toys.differ(after.backbone, fresh.backbone)
  assert toys.differ(after.batch_stats, fresh.batch_stats)
  for name in ("head", "balanced_head", "pseudo_labels", "memory"):
    toys.assert_same(getattr(after, name), getattr(fresh, name))
  assert after.pretrained.keys() == {
    *("projection", "projection_stats", "prototypes")
  }
  assert after.pretrained["prototypes"].shape == (K, DIM)
  names = {"loss", "code_entropy", "prototypes_used", "feature_std"}
  assert names | {"effective_rank"} <= rows[-1].keys()
  shapes = stage.shapes(jax.eval_shape(lambda: learner.init()))
  found = jax.eval_shape(lambda: after)
  assert jax.tree.all(
    jax.tree.map(
      lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), *[shapes, found]
    )
  )


def test_labels_are_not_seen(plain):
  stage, states, arrays, indices = plain
  lie = arrays | {"labels": jnp.zeros_like(arrays["labels"])}
  step = toys.jitted(stage.step)
  toys.assert_same(step(states[0], indices[0], lie), states[1])


def test_online_probe_reads_labels_and_f_does_not_feel_it(learner, optimized):
  stage = make_stage(learner, online_probe=True)
  (*_, probed), *_ = toys.train(stage, learner.init(), 3)
  (*_, plain), *_ = toys.train(make_stage(learner), learner.init(), 3)
  params = dict(probed.params)
  assert toys.norm(params.pop("online_probe")) > 0
  toys.assert_same(params, plain.params)


def test_learns_to_assign_images_to_many_prototypes(learner, tmp_path):
  stage = make_stage(
    learner,
    recipe={"epochs": 30, "batch_size": 20},
    temperature=0.1,
    epsilon=0.05,
    online_probe=True,
  )
  _, rows = toys.execute(tmp_path, learner, [stage])
  assert rows[-1]["loss"] < 0.6 * rows[0]["loss"] < 0.6 * 3 * np.log(K)
  assert rows[-1]["prototypes_used"] > K / 2
  assert rows[-1]["code_entropy"] < 0.5 * np.log(K)
  assert rows[-1]["online_accuracy"] > 0.8


def test_no_key_is_used_twice(learner, key_reuse):
  states, *_ = toys.train(make_stage(learner, **QUEUED), learner.init(), 1)
  assert states[-1].step == 1


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"recipe": {"batch_size": 1}}, "pretrain.batch_size is 1; .* 2 or more"),
    (
      {"recipe": {"batch_size": 41}},
      "pretrain.batch_size is 41, but the stage has only 40",
    ),
    ({"code_queue": 12}, "code_queue is 12; .* multiple of .*batch_size, 8"),
    (
      {"code_queue": 80},
      "code_queue is 80, which is full after 10 steps, .* the 10 steps",
    ),
    (
      {"code_queue": 8, "queue_start": 0.9},
      "queue_start is 0.9; the 10 steps of the stage end before it is used",
    ),
  ],
)
def test_bad_settings(learner, settings, message):
  with pytest.raises(ValueError, match=message):
    make_stage(learner, name="pretrain", **settings)


def test_images_must_be_square(learner):
  wide = toys.model()._replace(image_shape=(4, 6, 1))
  with pytest.raises(ValueError, match="'swav', .* square .* 4 x 6 pixels"):
    make_stage(dataclasses.replace(learner, model=wide))


Settings = swav.Settings


def test_uniform_shares_are_the_default_of_sinkhorn():
  assert swav.shares("uniform", 7, 0.25) is None


def test_power_law():
  """1, 2^-1/2, 3^-1/2, 4^-1/2 over their sum."""
  found = swav.shares("power", 4, 0.5)
  np.testing.assert_allclose(
    found, [0.359118, 0.253935, 0.207337, 0.179559], rtol=1e-4
  )
  assert found.dtype == np.float32


@pytest.mark.parametrize("num", [2, 128, 3000])
@pytest.mark.parametrize("exponent", [0.0, 0.25, 1.0, 30.0])
def test_power_laws_fall_and_sum_to_1(num, exponent):
  found = np.asarray(swav.shares("power", num, exponent), np.float64)
  np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)
  assert np.all(found >= 0) and np.all(np.diff(found) <= 0)
  if exponent == 0:
    np.testing.assert_allclose(found, 1 / num, rtol=1e-6)


@pytest.mark.parametrize(
  "settings, expected",
  [
    ({"code_queue": 24, "queue_start": 0.0}, 3),  # full after 3 steps
    ({"code_queue": 24, "queue_start": 0.15}, 15),  # the fourth of 20 epochs
    ({"code_queue": 160, "queue_start": 0.15}, 20),
    ({"code_queue": 8, "queue_start": 0.95}, 95),  # the last epoch
  ],
)
def test_queue_begins_started_and_full(settings, expected):
  found = Settings(**settings).queue_from(batch_size=8, epochs=20, steps=5)
  assert found == expected


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"code_queue": 12}, "code_queue is 12; it must be a multiple .* 8, or 0"),
    ({"code_queue": 800}, "full after 100 steps, .* the 100 steps"),
    (
      {"code_queue": 8, "queue_start": 0.99},
      "queue_start is 0.99; the 100 steps of the stage end before",
    ),
  ],
)
def test_queues_that_are_never_used(settings, message):
  with pytest.raises(ValueError, match=message):
    Settings(**settings).queue_from(batch_size=8, epochs=20, steps=5)

"""Students: the step against NumPy, BYOL as its limit, the teacher's tau."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from ltjax.evaluation import monitors
from ltjax.losses import consistency
from ltjax.models import projections
from ltjax.self_supervised import student_teacher, teacher

K, DIM, HIDDEN = 5, 3, 7
UNIFORM = {"score": "uniform", "inherit": False}


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


@pytest.fixture(scope="module")
def start(learner):
  """The state that FASSL's first stage would leave."""
  projection = projections.batch_norm_mlp(
    toys.D, hidden=toys.D, dim=DIM, last_norm=True
  )
  params, stats = projection.init(jax.random.key(5))
  # A bias, so that no image is at the origin, where directions are undefined.
  params["second_norm"]["bias"] = jnp.array([0.3, -0.2, 0.1])
  directions = jax.random.normal(jax.random.key(6), (K, DIM))
  return learner.init().replace(
    pretrained={
      "projection": params,
      "projection_stats": stats,
      "prototypes": directions,
    }
  )


def make_stage(learner, **settings):
  shape = {"dim": DIM, "inherit": True, "views": toys.two_views}
  chosen = {"hidden": HIDDEN, "ema": 0.9}
  for name, value in settings.items():
    own = name in teacher.Settings.__dataclass_fields__
    (chosen if own else shape)[name] = value
  return toys.pretrain(
    student_teacher,
    learner,
    "student",
    settings=teacher.Settings(**chosen),
    **shape,
  )


def follow(old, new, decay):
  return jax.tree.map(
    lambda a, b: decay * np.asarray(a) + (1 - decay) * np.asarray(b), old, new
  )


def assert_close(a, b, rtol=1e-5, atol=1e-6):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b
  )


def numpy_norm(x, params, stats, train):
  mean, var = (x.mean(0), x.var(0)) if train else (stats["mean"], stats["var"])
  return (x - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"]


def numpy_mlp(x, params, stats, train):
  x = x @ params["first"]["kernel"] + params["first"]["bias"]
  x = np.maximum(
    numpy_norm(x, params["first_norm"], stats["first_norm"], train), 0
  )
  x = x @ params["second"]["kernel"]
  if "second_norm" in params:
    x = numpy_norm(x, params["second_norm"], stats["second_norm"], train)
  return x


def numpy_embed(params, stats, images, train):
  """Backbone and projection in float64."""
  params, stats = jax.tree.map(np.float64, jax.device_get((params, stats)))
  x = np.asarray(images, np.float64).reshape(len(images), -1)
  x = x @ params["backbone"]["kernel"]
  x = np.maximum(numpy_norm(x, params["backbone"], stats["backbone"], train), 0)
  return numpy_mlp(x, params["projection"], stats["projection"], train)


def numpy_units(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def numpy_weights(z, p, score):
  """As the notes say them: standardised, clipped at 3, exponential, mean 1."""
  z, p = numpy_units(z), np.asarray(p, np.float64)
  if score == "paper":
    s = (z @ numpy_units(p).T).sum(1)
  else:
    s = -((z @ p.T) ** 2).sum(1)
  w = np.exp(-np.clip((s - s.mean()) / s.std(), -3, 3))
  return w / w.mean()


def slopes(params, path, loss):
  """Central differences of `loss(params)` in each number of one array."""
  *parents, last = path
  params = jax.tree.map(lambda x: np.array(x, np.float64), params)
  holder = params
  for name in parents:
    holder = holder[name]
  array, found = holder[last], np.zeros_like(holder[last])
  for place in np.ndindex(*array.shape):
    value = array[place]
    array[place] = value + 1e-5
    above = loss(params)
    array[place] = value - 1e-5
    found[place] = (above - loss(params)) / 2e-5
    array[place] = value
  return found


@pytest.mark.parametrize(
  "score, score_from, batch_norm",
  [("paper", "teacher", "batch"), ("energy", "frozen", "ema")],
)
def test_step_equals_a_numpy_reference(
  learner, start, score, score_from, batch_norm
):
  """The second step, in which student, teacher and first stage differ.

  The slopes are taken with targets and weights held still: no gradient flows
  through the teacher.
  """
  stage = make_stage(
    learner,
    score=score,
    score_from=score_from,
    teacher_batch_norm=batch_norm,
    recipe={"weight_decay": 0.0, "momentum": 0.0, "schedule": "constant"},
  )
  (first, before, after), arrays, indices = toys.train(stage, start, 2)
  pair = toys.two_views(
    jax.random.fold_in(before.key, 1), arrays["images"][indices[1]]
  )
  # With "batch" any statistics will do.
  stats = before.extra.get("teacher_stats", before.batch_stats)
  targets = [
    numpy_embed(before.extra["teacher"], stats, view, batch_norm == "batch")
    for view in pair
  ]
  seen = targets
  if score_from == "frozen":
    seen = [
      numpy_embed(first.params, first.batch_stats, view, False) for view in pair
    ]
  p = start.pretrained["prototypes"]
  weights = [numpy_weights(z, p, score) for z in seen]

  def distances(params):
    found = []
    for view, target in zip(pair, targets[::-1]):
      z = numpy_embed(params, before.batch_stats, view, True)
      q = numpy_mlp(
        z, params["predictor"], before.batch_stats["predictor"], True
      )
      found.append(((numpy_units(q) - numpy_units(target)) ** 2).sum(1))
    return found

  # The weight of an image is that of the view whose embedding is predicted.
  def loss(params):
    pairs = zip(weights[::-1], distances(params))
    return np.mean([np.mean(w * d) for w, d in pairs])

  def in_float64(params):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params)

  params = in_float64(before.params)
  now = {n: after.totals[n] - before.totals[n] for n in after.totals}
  np.testing.assert_allclose(now["loss"], loss(params), rtol=1e-3)
  np.testing.assert_allclose(
    now["alignment"], np.mean(distances(params)), rtol=1e-3
  )
  rarity = 1 / np.array(toys.LABELED)[np.asarray(arrays["labels"])]
  rarity = rarity[indices[1]]
  np.testing.assert_allclose(
    now["weight_correlation"],
    np.mean([np.corrcoef(w, rarity)[0, 1] for w in weights]),
    rtol=1e-3,
    atol=1e-4,
  )
  np.testing.assert_allclose(
    now["effective_sample_size"],
    np.mean([w.sum() ** 2 / (w**2).sum() for w in weights]) / toys.BATCH,
    rtol=1e-3,
  )
  for path in (
    ("predictor", "second", "kernel"),
    ("projection", "first_norm", "bias"),
    ("backbone", "bias"),
  ):
    old, new = before.params, after.params
    for name in path:
      old, new = old[name], new[name]
    expected = np.asarray(old) - 0.05 * slopes(before.params, path, loss)
    np.testing.assert_allclose(new, expected, rtol=1e-3, atol=5e-5)
    assert np.abs(np.asarray(new) - np.asarray(old)).max() > 1e-4
  encoder = {n: after.params[n] for n in ("backbone", "projection")}
  assert_close(
    after.extra["teacher"], follow(before.extra["teacher"], encoder, 0.9)
  )
  if batch_norm == "ema":
    encoder = {n: after.batch_stats[n] for n in ("backbone", "projection")}
    assert_close(after.extra["teacher_stats"], follow(stats, encoder, 0.9))
  # What is frozen keeps every bit.
  toys.assert_same(after.extra["prototypes"], p)
  if score_from == "frozen":
    toys.assert_same(after.extra["frozen"], first.extra["frozen"])


def byol(learner, stage, state, steps):
  """The step of BYOL, written out: no weights, no prototypes."""
  predictor = projections.batch_norm_mlp(
    DIM, hidden=HIDDEN, dim=DIM, last_norm=False
  )
  projection = projections.batch_norm_mlp(
    toys.D, hidden=toys.D, dim=DIM, last_norm=False
  )
  optimizer = toys.recipe().make_optimizer(toys.recipe().make_schedule(5))
  arrays, stream = stage.prepare(state)
  before = jax.jit(stage.init)(state)

  def embed(params, stats, images):
    network = {"backbone": params["backbone"], "head": arrays["head"]}
    features, _, backbone = learner.model.apply(
      network, stats["backbone"], images, True
    )
    z, projected = projection.apply(
      params["projection"], stats["projection"], features, True
    )
    return z, {"backbone": backbone, "projection": projected}

  @jax.jit
  def step(params, stats, teacher, opt_state, key, index):
    one, two = toys.two_views(key, arrays["images"][index])

    def loss_fn(params):
      z, seen = embed(params, stats, one)
      p_one, predicted = predictor.apply(
        params["predictor"], stats["predictor"], z, True
      )
      z, seen = embed(params, seen, two)
      p_two, predicted = predictor.apply(
        params["predictor"], predicted, z, True
      )
      t_one, _ = embed(teacher, stats, one)
      t_two, _ = embed(teacher, stats, two)
      distances = jnp.stack(
        [
          consistency.normalized_distance(p_one, t_two),
          consistency.normalized_distance(p_two, t_one),
        ]
      )
      return jnp.mean(distances), seen | {"predictor": predicted}

    (loss, new_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    tau = jnp.float32(0.9)
    teacher = jax.tree.map(
      lambda t, s: tau * t + (1.0 - tau) * s,
      teacher,
      {name: params[name] for name in teacher},
    )
    return loss, params, new_stats, teacher, opt_state

  now = before.params, before.batch_stats, before.extra["teacher"]
  now, losses = (*now, before.opt_state), []
  for t, index in enumerate(stream(0)[:steps]):
    loss, *now = step(*now, jax.random.fold_in(before.key, t), index)
    losses.append(loss)
  return losses, now


def test_uniform_step_is_that_of_byol(learner):
  """Bit for bit."""
  stage = make_stage(learner, **UNIFORM)
  state = learner.init()
  states, *_ = toys.train(stage, state, 3)
  losses, (params, stats, teacher, opt_state) = byol(learner, stage, state, 3)
  last = states[-1]
  toys.assert_same(last.params, params)
  toys.assert_same(last.batch_stats, stats)
  toys.assert_same(last.extra, {"teacher": teacher})
  toys.assert_same(last.opt_state, opt_state)
  assert states[1].totals["loss"] == losses[0]
  assert last.totals["weight_correlation"] == 0
  assert last.totals["effective_sample_size"] == 3


def test_weights_of_one_are_no_weights(learner, start, monkeypatch):
  """Bit for bit: what differs between the scores is the weights alone."""
  monkeypatch.setattr(teacher, "of", lambda settings, z, p: jnp.ones(len(z)))
  weighted, *_ = toys.train(make_stage(learner, score="energy"), start, 3)
  uniform, *_ = toys.train(make_stage(learner, score="uniform"), start, 3)
  for name in ("params", "batch_stats", "opt_state", "totals"):
    toys.assert_same(getattr(weighted[-1], name), getattr(uniform[-1], name))
  toys.assert_same(weighted[-1].extra["teacher"], uniform[-1].extra["teacher"])
  assert "prototypes" not in uniform[-1].extra


def test_tau_of_one_freezes_the_teacher(learner):
  stage = make_stage(learner, ema=1.0, teacher_batch_norm="ema", **UNIFORM)
  states, *_ = toys.train(stage, learner.init(), 3)
  for after in states[1:]:
    toys.assert_same(after.extra, states[0].extra)
  assert toys.differ(
    states[-1].params["backbone"], states[0].params["backbone"]
  )


def test_tau_of_zero_copies_the_student(learner):
  stage = make_stage(learner, ema=0.0, teacher_batch_norm="ema", **UNIFORM)
  states, *_ = toys.train(stage, learner.init(), 3)
  for after in states[1:]:
    for name in ("backbone", "projection"):
      toys.assert_same(after.extra["teacher"][name], after.params[name])
      toys.assert_same(
        after.extra["teacher_stats"][name], after.batch_stats[name]
      )


def test_without_an_average_embeddings_collapse(learner):
  """At a high rate, tau = 0 has the better loss and nothing to show for it."""
  state = learner.init()
  view, _ = toys.two_views(jax.random.key(9), learner.task.images[: toys.N])
  recipe = {"epochs": 25, "learning_rate": 0.3, "schedule": "constant"}
  spread, losses = {}, {}
  for ema in (0.0, 0.99):
    stage = make_stage(learner, ema=ema, recipe=recipe, **UNIFORM)
    trained = jax.jit(stage.init)(state)
    arrays, stream = stage.prepare(state)
    step = toys.jitted(stage.step)
    for epoch in range(25):
      for index in stream(epoch):
        trained = step(trained, index, arrays)
    z = numpy_embed(trained.params, trained.batch_stats, view, False)
    spread[ema] = float(monitors.feature_std(jnp.float32(z)))
    losses[ema] = float(trained.totals["loss"]) / 5
  assert spread[0.0] < 0.5 < 0.7 < spread[0.99]
  assert losses[0.0] < losses[0.99]


def test_cosine_schedule_slows_the_teacher_to_a_halt(learner):
  """Ten steps; tau of step k is 1 - (1 - 0.5) (cos(pi k / 10) + 1) / 2."""
  stage = make_stage(learner, ema=0.5, ema_schedule="cosine", **UNIFORM)
  states, *_ = toys.train(stage, learner.init(), 10)
  for k, (before, after) in enumerate(zip(states, states[1:])):
    tau = 1 - 0.5 * (np.cos(np.pi * k / 10) + 1) / 2
    encoder = {n: after.params[n] for n in ("backbone", "projection")}
    assert_close(
      after.extra["teacher"], follow(before.extra["teacher"], encoder, tau)
    )
  moves = [
    toys.norm(
      jax.tree.map(jnp.subtract, b.extra["teacher"], a.extra["teacher"])
    )
    for a, b in zip(states, states[1:])
  ]
  assert moves[-1] < 0.1 * max(moves)


def test_golden_step(learner, start):
  """Update the numbers only if the step is meant to change (see CHANGELOG)."""
  (_, after), *_ = toys.train(make_stage(learner), start, 1)
  found = after.totals | {
    "params": toys.norm(after.params),
    "batch_stats": toys.norm(after.batch_stats),
    "teacher": toys.norm(after.extra["teacher"]),
  }
  assert GOLDEN.keys() == found.keys()
  for name, value in GOLDEN.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


GOLDEN = {
  "alignment": 2.00806,
  "effective_rank": 2.740137,
  "effective_sample_size": 0.549626,
  "feature_std": 0.710476,
  "loss": 1.67178,
  "weight_correlation": 0.323081,
  "params": 6.181702,
  "batch_stats": 4.104235,
  "teacher": 4.917325,
}


def test_starts_with_equal_networks_in_buffers_of_their_own(learner, start):
  stage = make_stage(learner, score_from="frozen", teacher_batch_norm="ema")
  state = stage.init(start)
  for name in ("backbone", "projection"):
    toys.assert_same(state.extra["teacher"][name], state.params[name])
    toys.assert_same(
      state.extra["teacher_stats"][name], state.batch_stats[name]
    )
    toys.assert_same(state.extra["frozen"]["params"][name], state.params[name])
  toys.assert_same(state.params["projection"], start.pretrained["projection"])
  pointers = [
    leaf.unsafe_buffer_pointer()
    for leaf in jax.tree.leaves((start, state.extra))
  ]
  assert len(set(pointers)) == len(pointers)


def test_byol_draws_its_own_projection(learner, start):
  """And leaves no prototypes of anybody else's projection."""
  state = make_stage(learner, **UNIFORM).init(start)
  assert "second_norm" not in state.params["projection"]
  assert state.extra.keys() == {"teacher"}


@pytest.mark.parametrize("settings", [{}, UNIFORM])
def test_leaves_the_student(learner, start, settings):
  """Its f and projection, and the prototypes as they were."""
  state = start if not settings else learner.init()
  stage = make_stage(learner, **settings)
  trained = jax.jit(stage.init)(state)
  # A student that has moved.
  moved = jax.tree.map(lambda x: x + 1, (trained.params, trained.batch_stats))
  trained = trained.replace(params=moved[0], batch_stats=moved[1])
  left = stage.finish(state, trained)
  toys.assert_same(left.backbone, trained.params["backbone"])
  toys.assert_same(left.batch_stats, trained.batch_stats["backbone"])
  toys.assert_same(left.pretrained["projection"], trained.params["projection"])
  names = {"projection", "projection_stats"}
  if not settings:
    names.add("prototypes")
    toys.assert_same(
      left.pretrained["prototypes"], start.pretrained["prototypes"]
    )
  assert left.pretrained.keys() == names
  for name in ("head", "balanced_head", "pseudo_labels", "memory"):
    toys.assert_same(getattr(left, name), getattr(state, name))
  found = stage.shapes(jax.eval_shape(lambda: state))
  expected = jax.eval_shape(lambda: left)
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  assert jax.tree.leaves(found) == jax.tree.leaves(expected)


def test_labels_are_for_the_log_alone(learner, start):
  unknown = jnp.full(toys.N, -1, jnp.int32)
  known, *_ = toys.train(make_stage(learner), start, 2)
  blind, *_ = toys.train(make_stage(learner, labels=unknown), start, 2)
  for name in ("params", "extra", "opt_state"):
    toys.assert_same(getattr(known[-1], name), getattr(blind[-1], name))
  assert blind[-1].totals["weight_correlation"] == 0
  assert known[-1].totals["weight_correlation"] != 0


def test_no_key_is_used_twice(learner, start, key_reuse):
  states, *_ = toys.train(make_stage(learner, score_from="frozen"), start, 1)
  assert states[-1].step == 1


@pytest.mark.parametrize("count", [1, 64])
def test_any_number_of_prototypes(learner, start, count):
  prototypes = jnp.ones((count, DIM))
  state = start.replace(
    pretrained=start.pretrained | {"prototypes": prototypes}
  )
  stage = make_stage(learner)
  arrays, stream = stage.prepare(state)
  before = jax.eval_shape(stage.init, state)
  after = jax.eval_shape(stage.step, before, stream(0)[0], arrays)
  assert after.extra["prototypes"].shape == (count, DIM)


def test_weights_need_prototypes(learner, start):
  kept = dict(start.pretrained)
  del kept["prototypes"]
  with pytest.raises(ValueError, match="no earlier stage left prototypes"):
    make_stage(learner).init(start.replace(pretrained=kept))
  make_stage(learner, score="uniform").init(start.replace(pretrained=kept))


@pytest.mark.parametrize("score", ["paper", "energy"])
def test_scores_from_scratch_are_refused(learner, score):
  with pytest.raises(ValueError, match=f"student.score is '{score}', which"):
    make_stage(learner, score=score, inherit=False)


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"recipe": {"batch_size": 1}}, "student.batch_size is 1"),
    (
      {"recipe": {"batch_size": 41}},
      "student.batch_size is 41, but the stage has only 40",
    ),
  ],
)
def test_bad_settings(learner, settings, message):
  with pytest.raises(ValueError, match=message):
    make_stage(learner, **settings)


@pytest.mark.parametrize("settings, name", [({}, "fassl"), (UNIFORM, "byol")])
def test_images_must_be_square(learner, settings, name):
  wide = toys.model()._replace(image_shape=(4, 6, 1))
  with pytest.raises(ValueError, match=f"'{name}', .* square .* 4 x 6 pixels"):
    make_stage(dataclasses.replace(learner, model=wide), **settings)

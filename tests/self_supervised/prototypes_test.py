"""FASSL's first stage: what its loss sees, the step in NumPy, the starts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.data.host import host_images
from ltjax.losses import contrastive
from ltjax.models import projections
from ltjax.self_supervised import prototypes

K, DIM = 5, 3  # neither is the number of classes


@pytest.fixture(scope="module")
def learner():
  return toys.learner()


def make_stage(learner, **settings):
  defaults = {"count": K, "dim": DIM, "temperature": 0.3}
  defaults |= {"views": toys.two_views}
  return toys.pretrain(
    prototypes, learner, "prototypes", **(defaults | settings)
  )


def first_step(stage, state, **changes):
  """Returns the state before and after the first step, arrays and index."""
  before = jax.jit(stage.init)(state)
  before = before.replace(params=before.params | changes)
  arrays, stream = stage.prepare(state)
  index = stream(0)[0]
  return before, toys.jitted(stage.step)(before, index, arrays), arrays, index


def rotation(size, seed=0):
  """A random orthogonal matrix, with reflections."""
  return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def numpy_norm(x, params):
  x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
  return x * params["scale"] + params["bias"]


def numpy_loss(params, first, second, temperature):
  """NT-Xent of `P z` in float64, anchor by anchor."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  x = np.concatenate([np.asarray(first), np.asarray(second)])
  x = x.reshape(len(x), -1).astype(np.float64) @ params["backbone"]["kernel"]
  x = np.maximum(numpy_norm(x, params["backbone"]), 0)
  mlp = params["projection"]
  x = x @ mlp["first"]["kernel"] + mlp["first"]["bias"]
  x = np.maximum(numpy_norm(x, mlp["first_norm"]), 0) @ mlp["second"]["kernel"]
  if "second_norm" in mlp:
    x = numpy_norm(x, mlp["second_norm"])
  h = x @ params["prototypes"].T
  h /= np.linalg.norm(h, axis=1, keepdims=True)
  num, total = len(first), 0.0
  for i in range(2 * num):
    others = [h[i] @ h[j] / temperature for j in range(2 * num) if j != i]
    positive = h[i] @ h[(i + num) % (2 * num)] / temperature
    total += np.log(np.exp(others).sum()) - positive
  return total / (2 * num)


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


def test_similarities_are_inner_products():
  found = prototypes.similarities(
    jnp.array([[1.0, 2.0], [0.0, -1.0]]),
    jnp.array([[1.0, 0.0], [3.0, 1.0], [0.0, -2.0]]),
  )
  np.testing.assert_array_equal(found, [[1, 5, -4], [0, -1, 2]])


def test_similarities_of_bfloat16_are_float32():
  embeddings = jnp.full((2, 3), 300.0, jnp.bfloat16)
  found = prototypes.similarities(embeddings, jnp.ones((4, 3), jnp.bfloat16))
  assert found.dtype == jnp.float32
  np.testing.assert_array_equal(found, 900.0)


def test_loss_does_not_see_sign_rotation_or_scale(learner):
  """What the weights of the second stage are made of is left open by it."""
  stage = make_stage(learner)
  before, plain, arrays, index = first_step(stage, learner.init())
  step, p = toys.jitted(stage.step), np.asarray(before.params["prototypes"])

  def moved(prototypes):
    params = before.params | {"prototypes": jnp.asarray(prototypes)}
    return step(before.replace(params=params), index, arrays)

  loss = float(plain.totals["loss"])
  same = {
    "rotated": (rotation(K) @ p).astype(np.float32),
    "negated": -p,
    "tripled": 3 * p,
  }
  for change, changed in same.items():
    other = moved(changed)
    np.testing.assert_allclose(
      other.totals["loss"], loss, rtol=1e-5, err_msg=change
    )
    # Nor does the network: its update is the same.
    for name in ("backbone", "projection"):
      jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        other.params[name],
        plain.params[name],
      )
  # An arbitrary other P is seen.
  random = np.random.default_rng(1).normal(size=p.shape).astype(np.float32)
  assert abs(float(moved(random).totals["loss"]) - loss) > 1e-3


def test_step_equals_a_numpy_reference(learner):
  """The loss, and the update of P, the network and the projection by it."""
  stage = make_stage(learner, recipe={"weight_decay": 0.0})
  before, after, arrays, index = first_step(stage, learner.init())
  first, second = toys.two_views(
    jax.random.fold_in(before.key, 0), arrays["images"][index]
  )

  def loss(params):
    return numpy_loss(params, first, second, 0.3)

  np.testing.assert_allclose(
    after.totals["loss"], loss(before.params), rtol=1e-4
  )
  for path in (
    ("prototypes",),
    ("backbone", "kernel"),
    ("backbone", "bias"),
    ("projection", "second", "kernel"),
  ):
    old, new = before.params, after.params
    for name in path:
      old, new = old[name], new[name]
    expected = np.asarray(old) - 0.05 * slopes(before.params, path, loss)
    np.testing.assert_allclose(new, expected, rtol=1e-3, atol=2e-5)
    assert np.abs(np.asarray(new) - np.asarray(old)).max() > 1e-4


def test_golden_step(learner):
  """Update the numbers only if the step is meant to change (see CHANGELOG)."""
  _, after, *_ = first_step(make_stage(learner), learner.init())
  found = after.totals | {
    "params": toys.norm(after.params),
    "prototypes": toys.norm(after.params["prototypes"]),
    "batch_stats": toys.norm(after.batch_stats),
  }
  assert GOLDEN.keys() == found.keys()
  for name, value in GOLDEN.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


GOLDEN = {
  "effective_rank": 2.179331,
  "feature_std": 0.722584,
  "loss": 1.367731,
  "params": 5.028224,
  "prototypes": 1.241259,
  "batch_stats": 3.671652,
}


def test_identity_prototypes_are_simclr(learner):
  """With P the identity, `h = z`: the loss is NT-Xent of the embeddings."""
  stage = make_stage(learner, count=DIM)
  before, after, arrays, index = first_step(
    stage, learner.init(), prototypes=jnp.eye(DIM)
  )
  pair = toys.two_views(
    jax.random.fold_in(before.key, 0), arrays["images"][index]
  )
  projection = projections.batch_norm_mlp(
    toys.D, hidden=toys.D, dim=DIM, last_norm=True
  )
  network = {"backbone": before.params["backbone"], "head": arrays["head"]}
  features, _, _ = learner.model.apply(
    network, before.batch_stats["backbone"], jnp.concatenate(pair), True
  )
  z, _ = projection.apply(
    before.params["projection"],
    before.batch_stats["projection"],
    features,
    True,
  )
  units = projections.unit(z)
  losses = contrastive.nt_xent(
    units[: len(index)], units[len(index) :], temperature=0.3
  )
  np.testing.assert_allclose(after.totals["loss"], np.mean(losses), rtol=1e-5)


@pytest.mark.parametrize("count", [1, 64])
def test_any_number_of_prototypes(learner, count):
  """Fewer than classes (4), more than images of a batch (8) or numbers (3)."""
  stage = make_stage(learner, count=count)
  _, after, *_ = first_step(stage, learner.init())
  assert after.params["prototypes"].shape == (count, DIM)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(after.params))


def test_random_prototypes_are_those_of_a_linear_layer(learner):
  stage = make_stage(learner, count=2000)
  p = np.asarray(stage.init(learner.init()).params["prototypes"])
  bound = DIM**-0.5
  assert np.abs(p).max() <= bound and np.abs(p).max() > 0.99 * bound
  np.testing.assert_allclose(p.mean(), 0, atol=0.02)
  np.testing.assert_allclose(p.std(), bound / 3**0.5, rtol=0.03)


def clean_views(key, images):
  """Two views without any noise, so that an image can be known again."""
  del key
  x = (images.astype(jnp.float32) / 255 - 0.4) / 0.25
  return x, x


def test_feature_prototypes_are_embeddings_of_training_images(learner):
  """Each is the direction of another image, in evaluation mode."""
  stage = make_stage(learner, init="features", views=clean_views, count=toys.N)
  state = learner.init()
  before = jax.jit(stage.init)(state)
  x, _ = clean_views(None, learner.task.images[: toys.N])
  network = {"backbone": state.backbone, "head": state.head}
  features, _, _ = learner.model.apply(network, state.batch_stats, x, False)
  projection = projections.batch_norm_mlp(
    toys.D, hidden=toys.D, dim=DIM, last_norm=True
  )
  z, _ = projection.apply(
    before.params["projection"],
    before.batch_stats["projection"],
    features,
    False,
  )
  p, units = np.asarray(before.params["prototypes"]), projections.unit(z)
  np.testing.assert_allclose(np.linalg.norm(p, axis=1), 1, rtol=1e-5)
  # With as many as images, each is there once, in some order.
  for direction in np.eye(DIM):
    np.testing.assert_allclose(
      np.sort(p @ direction), np.sort(units @ direction), atol=1e-5
    )
  assert np.abs(p - np.asarray(units)).max() > 0.1


def test_feature_prototypes_of_images_on_the_host(learner):
  """They are read by index, and give the same prototypes."""
  whole = np.asarray(learner.task.images[: toys.N])

  class OnHost(host_images.HostImages):
    shape = whole.shape

    def read(self, index):
      assert len(index) == K
      return whole[index]

  state = learner.init()
  stage = make_stage(learner, init="features", images=OnHost())
  found = stage.init(state)
  expected = make_stage(learner, init="features").init(state)
  toys.assert_same(found.params, expected.params)


def test_init_is_traceable_and_the_same_each_time(learner):
  """As a resumed run needs it: shapes without arrays, and no hidden state."""
  state = learner.init()
  for init in ("random", "features"):
    stage = make_stage(learner, init=init)
    shapes = jax.eval_shape(stage.init, jax.eval_shape(lambda: state))
    assert shapes.params["prototypes"].shape == (K, DIM)
    again = make_stage(learner, init=init)
    toys.assert_same(again.init(state), stage.init(state))


@pytest.mark.parametrize("last_norm", [True, False])
def test_goes_on_with_the_projection_that_was_left(learner, last_norm):
  """That of SimCLR ends in BatchNorm, that of BYOL does not."""
  projection = projections.batch_norm_mlp(
    toys.D, hidden=7, dim=DIM, last_norm=last_norm
  )
  params, stats = projection.init(jax.random.key(3))
  state = learner.init().replace(
    pretrained={"projection": params, "projection_stats": stats}
  )
  stage = make_stage(learner, recipe={"weight_decay": 0.0})
  before, after, arrays, index = first_step(stage, state)
  toys.assert_same(before.params["projection"], params)
  pair = toys.two_views(
    jax.random.fold_in(before.key, 0), arrays["images"][index]
  )
  np.testing.assert_allclose(
    after.totals["loss"], numpy_loss(before.params, *pair, 0.3), rtol=1e-4
  )


@pytest.mark.parametrize("start", ["nothing", "a codebook"])
def test_shapes_are_those_of_what_it_leaves(learner, start):
  """Also where SwAV left prototypes of its own, of another number."""
  state = learner.init()
  if start == "a codebook":
    projection = projections.batch_norm_mlp(
      toys.D, hidden=7, dim=DIM, last_norm=False
    )
    params, stats = projection.init(jax.random.key(3))
    left = {"projection": params, "projection_stats": stats}
    state = state.replace(pretrained=left | {"prototypes": jnp.ones((9, DIM))})
  stage = make_stage(learner)
  trained = jax.jit(stage.init)(state)
  left = stage.finish(state, trained)
  expected = jax.eval_shape(lambda: left)
  found = stage.shapes(jax.eval_shape(lambda: state))
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  assert jax.tree.leaves(found) == jax.tree.leaves(expected)
  assert left.pretrained.keys() == {
    *("projection", "projection_stats", "prototypes")
  }
  toys.assert_same(left.pretrained["prototypes"], trained.params["prototypes"])
  toys.assert_same(left.backbone, trained.params["backbone"])
  toys.assert_same(left.batch_stats, trained.batch_stats["backbone"])
  for name in ("head", "balanced_head", "pseudo_labels", "memory"):
    toys.assert_same(getattr(left, name), getattr(state, name))


def test_online_probe_does_not_touch_what_is_learned(learner):
  state = learner.init()
  _, plain, *_ = first_step(make_stage(learner), state)
  _, probed, *_ = first_step(make_stage(learner, online_probe=True), state)
  assert "online_accuracy" in probed.totals
  for name in plain.params:
    toys.assert_same(plain.params[name], probed.params[name])


def test_no_key_is_used_twice(learner, key_reuse):
  stage = make_stage(learner, init="features")
  state = learner.init()
  before = stage.init(state)
  arrays, stream = stage.prepare(state)
  after = toys.jitted(stage.step)(before, stream(0)[0], arrays)
  assert after.step == 1


@pytest.mark.parametrize(
  "settings, message",
  [
    (
      {"init": "features", "count": 41},
      "count is 41 and prototypes.init is 'features', but there are only 40",
    ),
    ({"recipe": {"batch_size": 1}}, "prototypes.batch_size is 1"),
    (
      {"recipe": {"batch_size": 41}},
      "prototypes.batch_size is 41, but the stage has only 40",
    ),
  ],
)
def test_bad_settings(learner, settings, message):
  with pytest.raises(ValueError, match=message):
    make_stage(learner, **settings)


def test_images_must_be_square(learner):
  wide = toys.model()._replace(image_shape=(4, 6, 1))
  with pytest.raises(ValueError, match="'fassl', .* square .* 4 x 6 pixels"):
    make_stage(dataclasses.replace(learner, model=wide))

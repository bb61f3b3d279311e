"""VAT: the direction, the loss, and their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import semi_toys
import toys

from ltjax import models
from ltjax.semi_supervised import vat


@pytest.fixture(scope="module")
def learner():
  return toys.learner(pad=1, flip=True)


def run(learner, *, count=1, weight=3.0, **choices):
  stage = semi_toys.stage(learner, vat.make(**choices), weight=weight)
  return semi_toys.steps(stage, learner.init(), count)


def unit(x):
  return x / np.sqrt((x**2).sum((1, 2, 3), keepdims=True))


def divergence(params, view, moved):
  p = semi_toys.softmax(semi_toys.logits(params, view))
  q = semi_toys.softmax(semi_toys.logits(params, moved))
  return (p * np.log(p / q)).sum(-1)


def slow_direction(params, view, start, *, xi, iterations):
  """The power method with central differences, pixel by pixel."""
  d = unit(start)
  for _ in range(iterations):
    at = view + xi * d
    grad = np.zeros_like(view)
    for i in np.ndindex(view.shape):
      step = np.zeros_like(view)
      step[i] = 1e-5
      grad[i] = (
        divergence(params, view, at + step).sum()
        - divergence(params, view, at - step).sum()
      ) / 2e-5
    d = unit(grad)
  return d


@pytest.fixture(scope="module")
def first(learner):
  return run(learner, epsilon=0.7)


@pytest.mark.parametrize("iterations", [1, 2])
def test_consistency_equals_a_numpy_reference(learner, first, iterations):
  (before, after), (index,), arrays = (
    first if iterations == 1 else run(learner, epsilon=0.7, iterations=2)
  )
  view, _ = semi_toys.views(learner, before, index, arrays)
  key = jax.random.split(jax.random.fold_in(before.key, 0))[1]
  start = np.asarray(jax.random.normal(key, view.shape), np.float64)
  d = slow_direction(before.params, view, start, xi=0.1, iterations=iterations)
  expected = divergence(before.params, view, view + 0.7 * d).mean()
  assert expected > 1e-3
  np.testing.assert_allclose(after.totals["consistency"], expected, rtol=5e-3)
  np.testing.assert_allclose(
    after.totals["loss"],
    after.totals["cross_entropy"] + 3 * after.totals["consistency"],
    rtol=1e-5,
  )


def classify(images):
  """A linear classifier: its worst directions are known."""
  kernel = jnp.zeros((4, 2)).at[2, 0].set(1.0)
  return images.reshape(len(images), 4) @ kernel


def test_the_direction_of_a_linear_classifier():
  """Only pixel 2 matters, so one iteration finds it, to a sign."""
  view = jax.random.normal(jax.random.key(1), (5, 2, 2, 1))
  found = vat.worst_direction(
    classify,
    view,
    classify(view),
    key=jax.random.key(0),
    xi=0.01,
    iterations=1,
  )
  expected = np.tile([0, 0, 1, 0], (5, 1)).reshape(5, 2, 2, 1)
  np.testing.assert_allclose(np.abs(found), expected, atol=1e-6)


def test_each_image_has_its_own_length_1():
  """Also where gradients differ by many orders of magnitude."""
  x = jax.random.normal(jax.random.key(0), (4, 3, 3, 2))
  scale = jnp.array([1e-25, 1.0, 1e25, 0.0]).reshape(4, 1, 1, 1)
  norms = np.sqrt(np.square(vat.normalize(x * scale)).sum((1, 2, 3)))
  np.testing.assert_allclose(norms, [1, 1, 1, 0], rtol=1e-6)


def test_it_is_worse_than_a_random_direction(learner, first):
  (before, _), (index,), arrays = first
  view = jnp.asarray(
    semi_toys.views(learner, before, index, arrays)[0], jnp.float32
  )

  @jax.jit
  def predict(view):
    return learner.model.apply(before.params, before.batch_stats, view, True)[1]

  worst = vat.worst_direction(
    predict, view, predict(view), key=jax.random.key(0), xi=0.1, iterations=3
  )
  random = vat.normalize(jax.random.normal(jax.random.key(1), view.shape))

  def harm(r):
    p, q = (np.asarray(jax.nn.softmax(predict(v))) for v in (view, view + r))
    return (p * np.log(p / q)).sum(-1).mean()

  assert harm(0.1 * worst) > 3 * harm(0.1 * random)


def test_epsilon_to_0_removes_the_consistency_loss(learner):
  """It is quadratic near 0."""
  losses = [
    float(run(learner, epsilon=epsilon)[0][-1].totals["consistency"])
    for epsilon in (0.2, 0.04)
  ]
  assert 20 < losses[0] / losses[1] < 30


def test_gradient_is_that_of_the_moved_images_alone(learner, first):
  """Target and direction are constants: finite differences with both held."""
  (before, after), (index,), arrays = first
  view, _ = semi_toys.views(learner, before, index, arrays)
  labels = np.asarray(arrays["labels"])[index[:8]]
  key = jax.random.split(jax.random.fold_in(before.key, 0))[1]
  start = np.asarray(jax.random.normal(key, view.shape), np.float64)
  d = slow_direction(before.params, view, start, xi=0.1, iterations=1)
  target = semi_toys.softmax(semi_toys.logits(before.params, view))

  def loss(bias):
    params = before.params | {"head": before.params["head"] | {"bias": bias}}
    p = semi_toys.softmax(semi_toys.logits(params, view))
    q = semi_toys.softmax(semi_toys.logits(params, view + 0.7 * d))
    entropy = -np.log(p[np.arange(8), labels]).mean()
    return entropy - 3.0 * (target * np.log(q)).sum(-1).mean()

  bias = np.asarray(before.params["head"]["bias"], np.float64)
  grads = [
    (loss(bias + 1e-5 * step) - loss(bias - 1e-5 * step)) / 2e-5
    for step in np.eye(toys.C)
  ]
  np.testing.assert_allclose(
    after.params["head"]["bias"],
    bias - 0.05 * (np.array(grads) + 5e-4 * bias),
    rtol=1e-3,
    atol=1e-5,
  )


def test_statistics_are_those_of_the_labeled_images(learner, first):
  """The extra passes leave the running statistics alone."""
  (before, after), (index,), arrays = first
  view, _ = semi_toys.views(learner, before, index, arrays)
  kernel = np.asarray(before.params["backbone"]["kernel"], np.float64)
  x = view[:8].reshape(8, -1) @ kernel
  stats = {"mean": 0.1 * x.mean(0), "var": 0.9 + 0.1 * x.var(0)}
  for name, expected in stats.items():
    np.testing.assert_allclose(
      after.batch_stats[name], expected, rtol=1e-4, atol=1e-6
    )


def direction(dtype="float32"):
  """Returns `xi -> direction` of a ResNet-8, compiled once."""
  network = models.create(
    "resnet8", num_classes=4, image_shape=(8, 8, 1), dtype=dtype
  )
  params, stats = network.init(jax.random.key(0))
  view = jax.random.normal(jax.random.key(1), (4, 8, 8, 1), jnp.dtype(dtype))

  def predict(view):
    return network.apply(params, stats, view, True)[1]

  return jax.jit(
    lambda xi: vat.worst_direction(
      predict, view, predict(view), key=jax.random.key(2), xi=xi, iterations=1
    )
  )


def test_a_real_network_and_why_xi_is_not_1e_6():
  """Reverse mode alone, which is all that its convolution has."""
  found = direction()
  exact = found(1e-2)
  cosine = {
    xi: float(jnp.mean(jnp.sum(exact * found(xi), (1, 2, 3))))
    for xi in (0.1, 1e-7)
  }
  assert cosine[0.1] > 0.9 and cosine[1e-7] < 0.7, cosine


def test_images_in_bfloat16_keep_their_type():
  found = direction("bfloat16")(1.0)
  assert found.dtype == jnp.float32
  norms = np.sqrt(np.square(found).sum((1, 2, 3)))
  np.testing.assert_allclose(norms, 1, rtol=1e-5)

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import classification, margins

# CIFAR-10-LT with rho = 100.
COUNTS = (5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50)
LOSSES = (margins.ldam, margins.ldam_hinge)


def array(values):
  return jnp.asarray(values, jnp.float32)


def reference(cosines, labels, m, scale):
  losses = []
  for row, y in zip(np.asarray(cosines, np.float64), labels, strict=True):
    z = row.copy()
    z[y] -= m[y]
    z *= scale
    losses.append(np.log(np.exp(z - z.max()).sum()) + z.max() - z[y])
  return np.array(losses)


def hinge_reference(cosines, labels, m, scale):
  losses = []
  for row, y in zip(np.asarray(cosines, np.float64), labels, strict=True):
    rival = max(z for j, z in enumerate(row) if j != y)
    losses.append(scale * max(rival - row[y] + m[y], 0.0))
  return np.array(losses)


def draw(seed, batch=12, classes=10):
  rng = np.random.default_rng(seed)
  cosines = array(rng.uniform(-1, 1, (batch, classes)))
  return cosines, jnp.asarray(rng.integers(0, classes, batch), jnp.int32)


def total(loss, labels, m, scale=30.0):
  return lambda z: loss(z, labels, margins=m, scale=scale).sum()


def test_golden_margins_of_cifar_10():
  np.testing.assert_allclose(
    margins.from_counts(array(COUNTS)),
    [
      0.15811388, 0.17969700, 0.20423771, 0.23209115, 0.26382903,
      0.29976765, 0.34067519, 0.38722091, 0.44049704, 0.50000000,
    ],
    rtol=1e-6,
  )  # fmt: skip


def test_margins_go_by_the_fourth_root():
  got = margins.from_counts(array([16 * 81, 81, 16, 1]), largest=0.6)
  np.testing.assert_allclose(got, [0.1, 0.2, 0.3, 0.6], rtol=1e-6)
  np.testing.assert_array_equal(
    margins.from_counts(array([7, 7]), largest=0.3), array([0.3, 0.3])
  )
  np.testing.assert_array_equal(margins.from_counts(array([9])), [0.5])


def test_an_empty_class_has_the_largest_margin_and_leaves_the_others():
  got = margins.from_counts(array([100, 0, 10]))
  others = margins.from_counts(array([100, 10]))
  np.testing.assert_array_equal(got, [others[0], 0.5, others[1]])
  np.testing.assert_array_equal(margins.from_counts(jnp.zeros(2)), [0.5, 0.5])


def test_golden():
  # Cosines 0.5 and 0.25; the label's lowered by 0.5 and 0.25; scale 4.
  logits = 4 * jnp.array([[0.5, 0.25], [0.5, 0.25]])
  labels = jnp.array([0, 1])
  m = jnp.array([0.5, 0.25])
  # log(1 + e^1), log(1 + e^2)
  np.testing.assert_allclose(
    margins.ldam(logits, labels, margins=m, scale=4.0),
    [1.3132617, 2.1269280],
    rtol=1e-6,
  )
  np.testing.assert_array_equal(
    margins.ldam_hinge(logits, labels, margins=m, scale=4.0), [1.0, 2.0]
  )


@pytest.mark.parametrize("scale", [1.0, 10.0, 30.0])
def test_equals_a_slow_reference(scale):
  cosines, labels = draw(0)
  m = np.asarray(margins.from_counts(array(COUNTS)), np.float64)
  for loss, slow in zip(LOSSES, (reference, hinge_reference)):
    got = jax.jit(
      lambda z, y, loss=loss: loss(z, y, margins=array(m), scale=scale)
    )(scale * cosines, labels)
    assert got.shape == (12,) and got.dtype == jnp.float32
    np.testing.assert_allclose(
      got, slow(cosines, labels, m, scale), rtol=1e-5, atol=1e-5
    )


def test_without_margins_it_is_the_cross_entropy():
  cosines, labels = draw(1)
  np.testing.assert_array_equal(
    margins.ldam(30 * cosines, labels, margins=jnp.zeros(10), scale=30.0),
    classification.cross_entropy(30 * cosines, labels),
  )


def test_ldam_lies_above_its_hinge_by_at_most_log_c():
  cosines, labels = draw(2, batch=200)
  m = margins.from_counts(array(COUNTS))
  ldam, hinge = (
    loss(30 * cosines, labels, margins=m, scale=30.0) for loss in LOSSES
  )
  assert np.all(np.asarray(ldam - hinge) > -1e-5)
  assert np.all(np.asarray(ldam - hinge) < np.log(10) + 1e-5)
  # In the limit of a large scale they are one.
  far, bound = (
    loss(1e6 * cosines, labels, margins=m, scale=1e6) / 1e6 for loss in LOSSES
  )
  np.testing.assert_allclose(far, bound, atol=1e-5)


def test_a_rarer_class_needs_a_larger_lead():
  m = jnp.array([0.1, 0.5])
  led = 30 * jnp.array([[0.3, 0.0], [0.0, 0.3]])
  hinge = margins.ldam_hinge(led, jnp.array([0, 1]), margins=m, scale=30.0)
  np.testing.assert_allclose(hinge, [0.0, 6.0], rtol=1e-6)


def test_gradients():
  cosines, labels = draw(3, batch=3)
  m = margins.from_counts(array(COUNTS))
  lowered = 5.0 * cosines - 5.0 * m[None, :] * jax.nn.one_hot(labels, 10)
  np.testing.assert_allclose(
    jax.grad(total(margins.ldam, labels, m, 5.0))(5.0 * cosines),
    jax.nn.softmax(lowered) - jax.nn.one_hot(labels, 10),
    atol=1e-6,
  )
  for loss in LOSSES:
    test_util.check_grads(
      total(loss, labels, m, 5.0), (5 * cosines,), order=1, rtol=2e-2, eps=1e-2
    )
  # The hinge moves the label and its best rival, and nothing once it is met.
  logits = 30 * jnp.array([[0.4, 0.2, 0.1], [0.9, 0.1, 0.2]])
  grad = jax.grad(
    total(margins.ldam_hinge, jnp.zeros(2, int), jnp.full(3, 0.5))
  )
  np.testing.assert_array_equal(grad(logits), [[-1, 1, 0], [0, 0, 0]])


def test_huge_logits_and_one_class():
  logits = jnp.array([[1e4, -1e4], [1e4, -1e4]])
  labels = jnp.array([0, 1])
  m = jnp.array([0.5, 0.5])
  for loss, wrong in zip(LOSSES, (20015.0, 20015.0)):
    got = loss(logits, labels, margins=m, scale=30.0)
    np.testing.assert_array_equal(got, [0.0, wrong])
    np.testing.assert_array_equal(
      jax.grad(total(loss, labels, m))(logits), [[0.0, 0.0], [1.0, -1.0]]
    )
    alone = loss(
      jnp.ones((1, 1)), jnp.zeros(1, int), margins=jnp.ones(1), scale=30.0
    )
    np.testing.assert_array_equal(alone, [0.0])


def test_bfloat16_is_widened_first():
  cosines, labels = draw(4)
  m = margins.from_counts(array(COUNTS))
  narrow = (30 * cosines).astype(jnp.bfloat16)
  for loss in LOSSES:
    got = loss(narrow, labels, margins=m, scale=30.0)
    assert got.dtype == jnp.float32
    wide = loss(narrow.astype(jnp.float32), labels, margins=m, scale=30.0)
    np.testing.assert_array_equal(got, wide)


def test_label_outside_and_non_finite_logits_show():
  logits = jnp.zeros((4, 3)).at[3, 0].set(jnp.nan)
  for loss in LOSSES:
    got = loss(
      logits, jnp.array([-1, 0, 3, 1]), margins=jnp.ones(3), scale=30.0
    )
    np.testing.assert_array_equal(np.isnan(got), [True, False, True, True])


@pytest.mark.parametrize(
  "logits, labels, m",
  [
    (jnp.zeros((3, 2)), jnp.zeros((3,), int), jnp.ones(3)),
    (jnp.zeros((3, 2)), jnp.zeros((3,), int), jnp.ones(2, int)),
    (jnp.zeros((3, 2)), jnp.zeros((2,), int), jnp.ones(2)),
    (jnp.zeros((3, 2)), jnp.zeros((3,)), jnp.ones(2)),
  ],
)
def test_wrong_shapes_and_types(logits, labels, m):
  for loss in LOSSES:
    with pytest.raises(AssertionError):
      loss(logits, labels, margins=m, scale=30.0)

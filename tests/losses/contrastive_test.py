"""InfoNCE and NT-Xent: loops in NumPy, values by hand, and gradients."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import contrastive


def units(rows, dim=5, seed=0):
  x = np.random.default_rng(seed).normal(size=(rows, dim))
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def reference(queries, keys, queue, temperature):
  """One exponential after the other, in float64."""
  losses = []
  for q, k in zip(np.float64(queries), np.float64(keys)):
    positive = math.exp(q @ k / temperature)
    negatives = sum(math.exp(q @ n / temperature) for n in np.float64(queue))
    losses.append(-math.log(positive / (positive + negatives)))
  return losses


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0, 3.0])
def test_equals_numpy(temperature):
  q, k, n = units(4), units(4, seed=1), units(7, seed=2)
  losses = contrastive.info_nce(q, k, n, temperature=temperature)
  assert losses.shape == (4,) and losses.dtype == jnp.float32
  expected = reference(q, k, n, temperature)
  np.testing.assert_allclose(losses, expected, rtol=2e-5)


def test_by_hand():
  """Negatives at a right angle and opposite: e / (e + 1 + 1/e)."""
  q = jnp.array([[1.0, 0.0]])
  queue = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
  loss = contrastive.info_nce(q, q, queue, temperature=1.0)
  np.testing.assert_allclose(loss, [0.4076059644], rtol=1e-6)
  logits = contrastive.info_nce_logits(q, q, queue, temperature=0.5)
  np.testing.assert_allclose(logits, [[2.0, 0.0, -2.0]])


@pytest.mark.parametrize("size", [1, 6, 50])
def test_of_equal_embeddings_is_chance(size):
  """Where all look alike, one of 1 + K is guessed."""
  q = jnp.tile(jnp.array([[0.6, 0.8]]), (3, 1))
  queue = jnp.tile(q[:1], (size, 1))
  loss = contrastive.info_nce(q, q, queue, temperature=0.1)
  np.testing.assert_allclose(loss, math.log(1 + size), rtol=1e-6)


def test_without_negatives_is_zero():
  q = units(3)
  loss = contrastive.info_nce(q, units(3, seed=1), np.zeros((0, 5), np.float32))
  np.testing.assert_array_equal(loss, np.zeros(3))


def test_order_of_the_queue_does_not_matter():
  q, k, n = units(4), units(4, seed=1), units(7, seed=2)
  one = contrastive.info_nce(q, k, n)
  other = contrastive.info_nce(q, k, n[::-1])
  np.testing.assert_allclose(one, other, rtol=1e-6)


def test_an_example_depends_on_its_own_key_only():
  q, k, n = units(4), units(4, seed=1), units(7, seed=2)
  whole = contrastive.info_nce(q, k, n)
  k[1] = -k[1]
  changed = np.asarray(contrastive.info_nce(q, k, n) != whole)
  np.testing.assert_array_equal(changed, [False, True, False, False])


def test_gradient_is_that_of_the_reference():
  q, k, n = units(2), units(2, seed=1), units(3, seed=2)
  grad = jax.grad(lambda q: jnp.sum(contrastive.info_nce(q, k, n)))(q)
  for i in range(2):
    for d in range(5):
      ends = []
      for sign in (1, -1):
        moved = np.float64(q)
        moved[i, d] += sign * 1e-5
        ends.append(sum(reference(moved, k, n, 0.2)))
      slope = (ends[0] - ends[1]) / 2e-5
      np.testing.assert_allclose(grad[i, d], slope, rtol=1e-3, atol=1e-4)


def test_keys_and_queue_get_no_gradient():
  def loss(q, k, n):
    return jnp.sum(contrastive.info_nce(q, k, n))

  arrays = units(4), units(4, seed=1), units(7, seed=2)
  to_q, to_k, to_n = jax.grad(loss, argnums=(0, 1, 2))(*arrays)
  assert np.abs(to_q).max() > 0.01
  assert not np.any(to_k) and not np.any(to_n)


def test_smallest_temperatures_do_not_overflow():
  q = units(4)
  loss, grad = jax.value_and_grad(
    lambda q: jnp.sum(contrastive.info_nce(q, -q, q, temperature=1e-4))
  )(q)
  # The nearest negative is the query itself: a gap of 2 / temperature.
  np.testing.assert_allclose(loss, 4 * 2e4, rtol=1e-3)
  assert np.all(np.isfinite(grad))


def test_bfloat16_is_computed_in_fp32():
  as_bf16 = [
    jnp.asarray(x, jnp.bfloat16)
    for x in (units(4), units(4, seed=1), units(7, seed=2))
  ]
  loss = contrastive.info_nce(*as_bf16)
  assert loss.dtype == jnp.float32
  exact = contrastive.info_nce(*[x.astype(jnp.float32) for x in as_bf16])
  np.testing.assert_array_equal(loss, exact)


@pytest.mark.parametrize("temperature", [0.0, -0.2, float("nan")])
def test_temperature_must_be_positive(temperature):
  q = units(2)
  with pytest.raises(ValueError, match=r"must be above 0, such as 0\.2"):
    contrastive.info_nce(q, q, q, temperature=temperature)


@pytest.mark.parametrize(
  "shapes",
  [((2, 5), (3, 5), (4, 5)), ((2, 5), (2, 5), (4, 3)), ((5,), (5,), (4, 5))],
)
def test_shapes_must_fit(shapes):
  with pytest.raises(AssertionError):
    contrastive.info_nce(*[jnp.ones(shape) for shape in shapes])


# NT-Xent and what is built on it.

nt_xent = jax.jit(contrastive.nt_xent)
focal_nt_xent = jax.jit(contrastive.focal_nt_xent, static_argnames="gamma")
sup_con = jax.jit(contrastive.sup_con)


def two_views(images=5, dim=6):
  return units(images, dim, seed=3), units(images, dim, seed=4)


def views_reference(first, second, temperature, positives, gamma=0.0):
  """A loop over anchors in float64; `positives(i)` are rows of the 2B."""
  z = np.concatenate([np.float64(first), np.float64(second)])
  num = len(z)
  losses = []
  for i in range(num):
    similar = [math.exp(z[i] @ z[j] / temperature) for j in range(num)]
    total = sum(similar) - similar[i]
    terms = []
    for p in positives(i):
      prob = similar[p] / total
      terms.append(-((1 - prob) ** gamma) * math.log(prob))
    losses.append(sum(terms) / len(terms))
  half = num // 2
  return [(losses[i] + losses[i + half]) / 2 for i in range(half)]


def own_view(images):
  return lambda i: [(i + images) % (2 * images)]


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_nt_xent_equals_numpy(temperature):
  first, second = two_views()
  losses = nt_xent(first, second, temperature=temperature)
  assert losses.shape == (5,) and losses.dtype == jnp.float32
  expected = views_reference(first, second, temperature, own_view(5))
  np.testing.assert_allclose(losses, expected, rtol=2e-5)


def test_nt_xent_by_hand():
  """Both views of two images, at a right angle: e / (e + 1 + 1) each."""
  first = jnp.eye(2)
  losses = nt_xent(first, first, temperature=1.0)
  np.testing.assert_allclose(losses, [0.5514447140] * 2, rtol=1e-6)
  colder = nt_xent(first, first, temperature=0.5)
  np.testing.assert_allclose(colder, [0.2395447662] * 2, rtol=1e-6)


@pytest.mark.parametrize("images", [2, 17])
def test_nt_xent_of_equal_embeddings_is_chance(images):
  """One of 2B - 1 others is guessed: the view itself is no choice."""
  z = jnp.tile(jnp.array([[0.6, 0.8]]), (images, 1))
  losses = nt_xent(z, z, temperature=0.1)
  np.testing.assert_allclose(losses, math.log(2 * images - 1), rtol=1e-6)
  labels = jnp.arange(images) % 2
  all_alike = sup_con(z, z, labels, temperature=0.1)
  np.testing.assert_allclose(all_alike, math.log(2 * images - 1), rtol=1e-6)


def test_nt_xent_is_symmetric_and_follows_the_order():
  first, second = two_views()
  losses = nt_xent(first, second, temperature=0.2)
  swapped = nt_xent(second, first, temperature=0.2)
  np.testing.assert_allclose(losses, swapped, rtol=1e-6)
  order = np.array([3, 0, 4, 1, 2])
  turned = nt_xent(first[order], second[order], temperature=0.2)
  np.testing.assert_allclose(turned, losses[order], rtol=1e-6)


def test_nt_xent_takes_a_traced_temperature_without_a_new_trace():
  first, second = two_views()
  traces = []

  @jax.jit
  def loss(temperature):
    traces.append(1)
    return contrastive.nt_xent(first, second, temperature=temperature)

  for temperature in (0.1, 0.7):
    fixed = contrastive.nt_xent(first, second, temperature=temperature)
    np.testing.assert_allclose(loss(temperature), fixed, rtol=1e-5)
  assert len(traces) == 1


def test_nt_xent_gradient_is_that_of_the_reference_for_both_views():
  first, second = two_views(3, 4)
  weights = np.array([1.0, 2.0, -0.5])

  def loss(first, second):
    losses = nt_xent(first, second, temperature=0.3)
    return jnp.sum(weights * losses)

  def slow(views):
    losses = views_reference(*views, 0.3, own_view(3))
    return float(weights @ losses)

  grads = jax.grad(loss, argnums=(0, 1))(first, second)
  for view in range(2):
    for i in range(3):
      for d in range(4):
        ends = []
        for sign in (1, -1):
          moved = [np.float64(first), np.float64(second)]
          moved[view][i, d] += sign * 1e-5
          ends.append(slow(moved))
        slope = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(
          grads[view][i, d], slope, rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("loss", ["nt_xent", "focal_nt_xent", "sup_con"])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_cold_and_huge_stay_finite(loss, scale):
  """The other view is opposite, another image equal: the worst case."""
  z = scale * jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
  labels = (jnp.array([0, -1, 0]),) if loss == "sup_con" else ()

  def total(z):
    function = getattr(contrastive, loss)
    return jnp.sum(function(z, -z, *labels, temperature=0.01))

  value, grad = jax.value_and_grad(total)(z)
  assert np.isfinite(value) and value > 100
  assert np.all(np.isfinite(grad))


@pytest.mark.parametrize("loss", ["nt_xent", "focal_nt_xent", "sup_con"])
def test_of_bfloat16_is_in_fp32(loss):
  views = [jnp.asarray(x, jnp.bfloat16) for x in two_views()]
  labels = (jnp.array([0, -1, 0, 1, 2]),) if loss == "sup_con" else ()
  function = getattr(contrastive, loss)
  found = function(*views, *labels, temperature=0.2)
  assert found.dtype == jnp.float32
  wide = [x.astype(jnp.float32) for x in views]
  exact = function(*wide, *labels, temperature=0.2)
  np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_equals_numpy(gamma):
  first, second = two_views()
  losses = focal_nt_xent(first, second, temperature=0.2, gamma=gamma)
  expected = views_reference(first, second, 0.2, own_view(5), gamma)
  np.testing.assert_allclose(losses, expected, rtol=2e-5)


def test_focal_without_gamma_is_nt_xent():
  views = two_views()
  focal = focal_nt_xent(*views, temperature=0.2, gamma=0.0)
  plain = nt_xent(*views, temperature=0.2)
  np.testing.assert_allclose(focal, plain, rtol=1e-6)


def test_focal_spares_pairs_that_are_found():
  """The found pair keeps a smaller share of its loss than the missed one."""
  first, second = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
  second[0] = [0.0, 0.6, 0.8]
  focal = focal_nt_xent(first, second, temperature=0.3)
  plain = nt_xent(first, second, temperature=0.3)
  share = focal / plain
  assert share[1] < 0.5 * share[0] and share[2] < share[0]


def test_focal_gamma_is_checked():
  with pytest.raises(ValueError, match="gamma is -1"):
    contrastive.focal_nt_xent(*two_views(), temperature=0.2, gamma=-1)


def test_sup_con_equals_numpy():
  first, second = two_views(6)
  labels = [0, 1, 0, -1, 0, -1]

  def positives(i):
    mine = labels[i % 6]
    return [
      j
      for j in range(12)
      if j != i and (j % 6 == i % 6 or (mine >= 0 and labels[j % 6] == mine))
    ]

  assert positives(3) == [9] and positives(0) == [2, 4, 6, 8, 10]
  losses = sup_con(first, second, jnp.array(labels), temperature=0.2)
  expected = views_reference(first, second, 0.2, positives)
  np.testing.assert_allclose(losses, expected, rtol=2e-5)


@pytest.mark.parametrize(
  "labels", [[4, 0, 2, 1, 3], [-1] * 5, [-1, -2, -2, 0, 1]]
)
def test_sup_con_without_a_shared_label_is_nt_xent(labels):
  views = two_views()
  plain = nt_xent(*views, temperature=0.2)
  found = sup_con(*views, jnp.array(labels), temperature=0.2)
  np.testing.assert_allclose(found, plain, rtol=1e-6)


def test_sup_con_changes_the_images_that_share_a_label_only():
  views = two_views()
  plain = nt_xent(*views, temperature=0.2)
  labels = jnp.array([-1, 7, -1, -1, 7])
  found = sup_con(*views, labels, temperature=0.2)
  changed = np.abs(found - plain) > 1e-4
  np.testing.assert_array_equal(changed, [False, True, False, False, True])


def test_sup_con_of_one_class_has_finite_gradients():
  first, second = two_views(4)
  labels = jnp.zeros(4, jnp.int32)

  def loss(first):
    return jnp.sum(sup_con(first, second, labels, temperature=0.1))

  grad = jax.grad(loss)(first)
  assert np.all(np.isfinite(grad)) and np.abs(grad).max() > 0.01


@pytest.mark.parametrize("loss", ["nt_xent", "focal_nt_xent", "sup_con"])
def test_a_batch_of_one_is_refused(loss):
  one = jnp.ones((1, 3))
  labels = (jnp.array([0]),) if loss == "sup_con" else ()
  with pytest.raises(ValueError, match=r"1 image\(s\).* must have 2 or more"):
    getattr(contrastive, loss)(one, one, *labels, temperature=0.2)


@pytest.mark.parametrize("temperature", [0.0, -0.2, 0, float("nan")])
@pytest.mark.parametrize("loss", ["nt_xent", "focal_nt_xent"])
def test_temperature_of_views_must_be_positive(loss, temperature):
  with pytest.raises(ValueError, match=r"must be above 0, such as 0\.2"):
    getattr(contrastive, loss)(*two_views(), temperature=temperature)


def test_labels_and_views_must_fit():
  first, second = two_views()
  with pytest.raises(AssertionError):
    contrastive.nt_xent(first, second[:4], temperature=0.2)
  with pytest.raises(AssertionError):
    contrastive.sup_con(first, second, jnp.zeros(4, jnp.int32), temperature=0.2)
  with pytest.raises(AssertionError):
    contrastive.sup_con(first, second, jnp.zeros(5), temperature=0.2)

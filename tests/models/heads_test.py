import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models import heads


def test_linear_by_hand():
  head = heads.linear(2, 3)
  params = {
    "kernel": jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    "bias": jnp.array([0.5, 0.0, -0.5]),
  }
  np.testing.assert_array_equal(
    head.apply(params, jnp.array([[1.0, 10.0], [0.0, 0.0]])),
    [[41.5, 52.0, 62.5], [0.5, 0.0, -0.5]],
  )


def test_cosine_by_hand():
  head = heads.cosine(2, 3, scale=10.0)
  params = {"kernel": jnp.array([[3.0, 0.0, -1.0], [4.0, 7.0, 0.0]])}
  np.testing.assert_allclose(
    head.apply(params, jnp.array([[5.0, 0.0], [0.0, 0.01]])),
    [[6.0, 0.0, -10.0], [8.0, 10.0, 0.0]],
    rtol=1e-6,
  )


def test_cosine_ignores_norms():
  head = heads.create("cosine", feature_dim=8, num_classes=5)
  params = head.init(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (4, 8))
  logits = head.apply(params, x)
  scaled = head.apply({"kernel": 3 * params["kernel"]}, 100 * x)
  np.testing.assert_allclose(scaled, logits, rtol=1e-4, atol=1e-5)
  assert np.abs(logits).max() <= 16 * (1 + 1e-6)


def test_cosine_of_nothing_is_zero_with_zero_gradient():
  head = heads.cosine(4, 3)
  params = head.init(jax.random.key(0))
  zero = jnp.zeros((1, 4))
  np.testing.assert_array_equal(head.apply(params, zero), np.zeros((1, 3)))
  by_params = jax.grad(lambda p: head.apply(p, zero).sum())(params)
  np.testing.assert_array_equal(by_params["kernel"], np.zeros((4, 3)))
  by_x = jax.grad(lambda x: head.apply(params, x).sum())(zero)
  assert np.isfinite(by_x).all()


@pytest.mark.parametrize("name", heads.NAMES)
def test_gradients(name):
  head = heads.create(name, feature_dim=4, num_classes=3)
  params = head.init(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (2, 4))
  test_util.check_grads(head.apply, (params, x), order=1, rtol=2e-2)


@pytest.mark.parametrize("name", heads.NAMES)
@pytest.mark.parametrize("shape", [(4,), (2, 4), (3, 2, 4)])
def test_any_leading_shape_and_fp32(name, shape):
  head = heads.create(name, feature_dim=4, num_classes=3)
  params = head.init(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), shape)
  logits = head.apply(params, x.astype(jnp.bfloat16))
  assert logits.shape == (*shape[:-1], 3) and logits.dtype == jnp.float32
  one = head.apply(params, x.reshape(-1, 4)[0])
  np.testing.assert_allclose(
    head.apply(params, x).reshape(-1, 3)[0], one, rtol=1e-5, atol=1e-6
  )


def test_linear_start_values():
  params = heads.linear(400, 300).init(jax.random.key(0))
  for name in ("kernel", "bias"):
    values = np.asarray(params[name])
    assert np.abs(values).max() <= 1 / 20
    assert np.abs(values).max() > 0.98 / 20
    # Of U(-a, a) the standard deviation is a / sqrt(3).
    np.testing.assert_allclose(values.std(), 1 / 20 / np.sqrt(3), rtol=0.1)


def test_cosine_start_values_are_directions():
  params = heads.cosine(400, 300).init(jax.random.key(0))
  assert set(params) == {"kernel"}
  norms = np.linalg.norm(np.asarray(params["kernel"]), axis=0)
  np.testing.assert_allclose(norms, np.ones(300), rtol=1e-5)
  np.testing.assert_allclose(params["kernel"].mean(), 0.0, atol=1e-3)


@pytest.mark.parametrize("name", heads.NAMES)
def test_a_fresh_head_depends_on_its_key_only(name):
  head = heads.create(name, feature_dim=4, num_classes=3)
  one, same, other = (head.init(jax.random.key(k)) for k in (1, 1, 2))
  np.testing.assert_array_equal(one["kernel"], same["kernel"])
  assert not np.array_equal(one["kernel"], other["kernel"])


def test_errors():
  with pytest.raises(ValueError, match="Unknown head 'mlp'; .*linear, cosine"):
    heads.create("mlp", feature_dim=4, num_classes=3)
  for scale in (0.0, -1.0, float("nan")):
    with pytest.raises(ValueError, match=f"scale .* is {scale}; .* above 0"):
      heads.create("cosine", feature_dim=4, num_classes=3, scale=scale)


# -- Nearest class means.


def slow_ncm(x, labels, queries, kind):
  """Squared distances to class means, an image and a class at a time."""
  x, queries = np.asarray(x, np.float64), np.asarray(queries, np.float64)
  mean = x.mean(0) if kind == "cl2n" else np.zeros(x.shape[1])

  def z(v):
    v = v - mean
    return v if kind == "plain" else v / np.linalg.norm(v)

  result = np.zeros((len(queries), max(labels) + 1))
  for c in range(result.shape[1]):
    m = np.mean([z(v) for v, label in zip(x, labels) if label == c], axis=0)
    if kind == "cosine":
      m = m / np.linalg.norm(m)
    for i, query in enumerate(queries):
      result[i, c] = -np.sum((z(query) - m) ** 2)
  return result


@pytest.mark.parametrize("kind", heads.NCM_FEATURES)
@pytest.mark.parametrize("network", heads.NAMES)
def test_class_means_agree_with_a_slow_reference(kind, network):
  labels = np.array([0, 0, 0, 0, 1, 1, 2])
  x = jax.random.normal(jax.random.key(0), (7, 5)) + 1.0
  queries = jax.random.normal(jax.random.key(1), (9, 5))
  params = heads.ncm(x, jnp.asarray(labels), num_classes=3, kind=kind)
  assert set(params) == {"centroids"} | ({"mean"} if kind != "plain" else set())
  head = heads.create(network, feature_dim=5, num_classes=3)
  np.testing.assert_allclose(
    head.apply(params, queries),
    slow_ncm(x, labels, queries, kind),
    rtol=1e-5,
    atol=1e-5,
  )


def test_class_means_by_hand():
  """Mean (1, 1); centred, the two of a class lie on one axis."""
  x = jnp.array([[3.0, 1.0], [-1.0, 1.0], [1.0, 3.0], [1.0, -1.0]])
  params = heads.ncm(x, jnp.array([0, 1, 2, 3]), num_classes=4, kind="cl2n")
  np.testing.assert_allclose(params["mean"], [1.0, 1.0])
  np.testing.assert_allclose(
    params["centroids"], [[1, 0], [-1, 0], [0, 1], [0, -1]], atol=1e-6
  )
  logits = heads.linear(2, 4).apply(params, jnp.array([[101.0, 1.0]]))
  np.testing.assert_allclose(logits, [[0.0, -4.0, -2.0, -2.0]], atol=1e-5)


def test_the_greatest_cosine_is_the_nearest():
  x = jax.random.normal(jax.random.key(0), (40, 5))
  labels = jnp.arange(40) % 4
  queries = jax.random.normal(jax.random.key(1), (30, 5))
  params = heads.ncm(x, labels, num_classes=4, kind="cosine")
  logits = heads.linear(5, 4).apply(params, queries)
  unit = queries / jnp.linalg.norm(queries, axis=1, keepdims=True)
  cosines = unit @ params["centroids"].T
  np.testing.assert_allclose(logits, 2 * cosines - 2, rtol=1e-4, atol=1e-5)


def test_class_sizes_do_not_move_class_means():
  """But for `cl2n`, whose mean is of all images."""
  x = jax.random.normal(jax.random.key(0), (4, 5))
  labels = jnp.array([0, 0, 1, 1])
  more = jnp.concatenate([x, x[:2], x[:2]])
  more_labels = jnp.array([0, 0, 1, 1, 0, 0, 0, 0])
  for kind, same in (("l2", True), ("cosine", True), ("cl2n", False)):
    a = heads.ncm(x, labels, num_classes=2, kind=kind)
    b = heads.ncm(more, more_labels, num_classes=2, kind=kind)
    assert np.allclose(a["centroids"], b["centroids"], atol=1e-5) == same


def test_class_means_of_dead_features_are_finite():
  zero = jnp.zeros((3, 4), jnp.bfloat16)
  for kind in heads.NCM_FEATURES:
    params = heads.ncm(zero, jnp.array([0, 1, 2]), num_classes=3, kind=kind)
    logits = heads.linear(4, 3).apply(params, zero)
    assert logits.dtype == jnp.float32 and np.isfinite(logits).all()


def test_class_means_take_any_leading_shape():
  x = jax.random.normal(jax.random.key(0), (6, 4))
  params = heads.ncm(x, jnp.arange(6) % 3, num_classes=3, kind="cl2n")
  apply = heads.linear(4, 3).apply
  np.testing.assert_allclose(
    apply(params, x.reshape(3, 2, 4)).reshape(6, 3),
    apply(params, x),
    rtol=1e-5,
    atol=1e-6,
  )
  assert apply(params, x[0]).shape == (3,)


def test_unknown_features_are_refused():
  with pytest.raises(ValueError, match="'l1'; choose one of cl2n, l2, plain"):
    heads.ncm(jnp.ones((1, 2)), jnp.array([0]), num_classes=1, kind="l1")


@pytest.mark.parametrize("k", [1, 3, 10])
def test_nearest_neighbors_vote(k):
  rng = np.random.default_rng(k)
  x, queries = (rng.normal(size=(n, 5)).astype(np.float32) for n in (12, 300))
  labels = rng.integers(3, size=12)
  params = heads.knn(x, labels, num_classes=4, neighbors=k)
  head = heads.linear(5, 4)
  found = jax.nn.softmax(head.apply(params, jnp.asarray(queries)))
  expected = np.zeros((300, 4))
  for row, query in zip(expected, np.float64(queries)):
    cosines = x @ query / np.linalg.norm(x, axis=1)
    nearest = labels[np.argsort(-cosines)[:k]]
    votes = np.bincount(nearest, minlength=4).astype(float)
    first = next(c for c in nearest if votes[c] == votes.max())
    votes[first] += 1e-3
    row += votes / votes.sum()
  np.testing.assert_allclose(found, expected, atol=1e-6)
  shaped = head.apply(params, jnp.asarray(queries).reshape(2, 150, 5))
  assert shaped.shape == (2, 150, 4)

"""BatchNorm and its gradient, against float64 sums and against Flax's."""

import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.devices import sharding
from ltjax.models.layers import batch_norm, convolution


def draw(shape, seed=0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  x = rng.normal(2.0, 3.0, shape).astype(dtype)
  channels = np.arange(1, shape[-1] + 1)
  return x, 0.5 * channels.astype(np.float32), channels.astype(np.float32) - 2


def reference(x, scale, bias, grad):
  """The result and its three gradients in float64, by the chain rule."""
  x, scale, bias, grad = (
    np.asarray(a, np.float64) for a in (x, scale, bias, grad)
  )
  axes, count = tuple(range(x.ndim - 1)), x[..., 0].size
  mean, var = x.mean(axes), x.var(axes)
  inverse = (var + 1e-5) ** -0.5
  u = (x - mean) * inverse
  by_u = grad * scale
  by_var = (by_u * (x - mean)).sum(axes) * -0.5 * inverse**3
  by_mean = -(by_u * inverse).sum(axes)
  by_x = by_u * inverse + by_var * 2 * (x - mean) / count + by_mean / count
  return u * scale + bias, by_x, (grad * u).sum(axes), grad.sum(axes)


SHAPES = [(6, 5, 4, 3), (7, 2), (3, 1, 1, 3), (4, 3, 2, 2, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_result_and_gradients_equal_the_chain_rule(shape):
  x, scale, bias = draw(shape)
  grad = np.random.default_rng(1).normal(size=shape).astype(np.float32)

  @jax.jit
  def run(x, scale, bias, grad):
    y, back = jax.vjp(lambda *a: batch_norm.normalize(*a)[0], x, scale, bias)
    return y, *back(grad)

  found = run(x, scale, bias, grad)
  for got, want in zip(found, reference(x, scale, bias, grad), strict=True):
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)


def test_golden():
  x = jnp.array([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0], [2.0, -2.0]])
  y, mean, var = batch_norm.normalize(x, jnp.array([1.0, 2.0]), jnp.ones(2))
  np.testing.assert_allclose(mean, [2, 1])
  np.testing.assert_allclose(var, [2, 4.5])
  want = [
    [-0.4142100, 1.0],
    [1.0, 1.0],
    [2.4142100, 3.8284240],
    [1.0, -1.8284240],
  ]
  np.testing.assert_allclose(y, want, atol=1e-5)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@jax.numpy_dtype_promotion("standard")  # Flax's bfloat16 needs it.
def test_equals_flax(train, dtype):
  x, scale, bias = draw((8, 4, 4, 3))
  x = jnp.asarray(x, dtype)
  theirs = nn.BatchNorm(
    use_running_average=not train,
    momentum=0.9,
    epsilon=1e-5,
    dtype=dtype,
    use_fast_variance=False,
  )
  ours = batch_norm.BatchNorm(train=train, dtype=dtype)
  variables = {
    "params": {"scale": scale, "bias": bias},
    "batch_stats": {"mean": bias + 1, "var": scale + 1},
  }
  start = jax.eval_shape(ours.init, jax.random.key(0), x)
  chex.assert_trees_all_equal_shapes_and_dtypes(
    start, jax.eval_shape(theirs.init, jax.random.key(0), x)
  )

  def run(net):
    @jax.jit
    def both(params, x):
      def loss(params, x):
        stats = {"batch_stats": variables["batch_stats"]}
        y, new = net.apply(
          {"params": params, **stats}, x, mutable=["batch_stats"]
        )
        return jnp.sum(jnp.sin(y.astype(jnp.float32))), (y, new)

      return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)

    return both(variables["params"], x)

  mine, other = run(ours), run(theirs)
  chex.assert_trees_all_equal_shapes_and_dtypes(mine, other)
  tolerance = 1e-4 if dtype == jnp.float32 else 2e-2
  for got, want in zip(jax.tree.leaves(mine), jax.tree.leaves(other)):
    np.testing.assert_allclose(
      got.astype(jnp.float32),
      want.astype(jnp.float32),
      rtol=tolerance,
      atol=tolerance,
    )


def test_statistics_are_averages_of_nine_tenths():
  x, *_ = draw((8, 4, 4, 3))
  norm = batch_norm.BatchNorm(train=True, dtype=jnp.float32)
  variables = norm.init(jax.random.key(0), x)
  np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros(3))
  np.testing.assert_array_equal(variables["batch_stats"]["var"], np.ones(3))
  _, new = norm.apply(variables, x, mutable=["batch_stats"])
  mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
  np.testing.assert_allclose(new["batch_stats"]["mean"], 0.1 * mean, rtol=1e-4)
  np.testing.assert_allclose(
    new["batch_stats"]["var"], 0.9 + 0.1 * var, rtol=1e-4
  )


def test_evaluation_changes_no_statistics():
  x, *_ = draw((8, 4, 4, 3))
  norm = batch_norm.BatchNorm(train=False, dtype=jnp.float32)
  variables = norm.init(jax.random.key(0), x)
  y, new = norm.apply(variables, x, mutable=["batch_stats"])
  chex.assert_trees_all_equal(new["batch_stats"], variables["batch_stats"])
  np.testing.assert_allclose(y, x / np.sqrt(1 + 1e-5), rtol=1e-5)


@pytest.mark.parametrize("zero", [True, False])
def test_starts_at_its_scale(zero):
  norm = batch_norm.BatchNorm(train=False, dtype=jnp.float32, zero=zero)
  params = norm.init(jax.random.key(0), jnp.ones((2, 3)))["params"]
  np.testing.assert_array_equal(params["scale"], np.full(3, 1 - zero))
  np.testing.assert_array_equal(params["bias"], np.zeros(3))


def test_variance_survives_a_large_mean():
  x = 1e4 + jax.random.normal(jax.random.key(0), (64, 4, 4, 1))
  y, _, var = jax.jit(batch_norm.normalize)(x, jnp.ones(1), jnp.zeros(1))
  # E[x^2] - E[x]^2 would be off by several units here, or negative.
  np.testing.assert_allclose(y.std(), 1.0, atol=1e-2)
  np.testing.assert_allclose(var, 1.0, atol=0.2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("value", [0.0, 3.0, 1e4])
def test_constant_channel_is_finite(value, dtype):
  x = jnp.full((4, 2, 2, 1), value, dtype)

  @jax.jit
  def run(x, scale, bias):
    y, back = jax.vjp(lambda *a: batch_norm.normalize(*a)[0], x, scale, bias)
    return y, *back(jnp.ones_like(y))

  y, by_x, by_scale, by_bias = run(x, jnp.ones(1), jnp.zeros(1))
  np.testing.assert_array_equal(y.astype(jnp.float32), np.zeros(x.shape))
  np.testing.assert_array_equal(by_x.astype(jnp.float32), np.zeros(x.shape))
  assert float(by_scale[0]) == 0 and float(by_bias[0]) == 16


def test_statistics_of_a_batch_carry_no_gradient():
  x, scale, bias = map(jnp.asarray, draw((4, 3)))

  def loss(x):
    _, mean, var = batch_norm.normalize(x, scale, bias)
    return jnp.sum(mean) + jnp.sum(var)

  np.testing.assert_array_equal(jax.grad(loss)(x), np.zeros((4, 3)))


def test_statistics_are_of_the_global_batch():
  x, scale, bias = draw((8, 3))
  want = batch_norm.normalize(*map(jnp.asarray, (x, scale, bias)))
  mesh = sharding.make_mesh(4)
  split = jax.device_put(x, sharding.batched(mesh))
  found = jax.jit(batch_norm.normalize)(split, scale, bias)
  for got, expected in zip(found, want):
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_seeds_under_vmap_are_apart():
  x, scale, bias = draw((2, 6, 4))
  scales, biases = jnp.stack([scale, -scale]), jnp.stack([bias, bias])

  def gradient(x, scale, bias):
    def loss(x):
      return jnp.sum(batch_norm.normalize(x, scale, bias)[0] ** 3)

    return jax.grad(loss)(x)

  together = jax.vmap(gradient)(jnp.asarray(x), scales, biases)
  for seed in range(2):
    apart = gradient(jnp.asarray(x[seed]), scales[seed], biases[seed])
    np.testing.assert_allclose(together[seed], apart, rtol=1e-4, atol=1e-4)


def test_the_gradient_keeps_one_array_of_the_size_of_its_input():
  """Which is what it is for: the input alone, not its centred copies."""
  x, scale, bias = map(jnp.asarray, draw((8, 4, 4, 3)))
  _, back = jax.vjp(lambda *a: batch_norm.normalize(*a)[0], x, scale, bias)
  saved = [a for a in jax.tree.leaves(back) if isinstance(a, jax.Array)]
  assert sum(a.size == x.size for a in saved) == 1


def test_only_the_input_waits_for_the_gradient(optimized):
  """XLA would keep `x - mean` beside `x`; compiled as users do, it does not."""
  layers = 6

  def loss(x, kernel, scale, bias):
    for _ in range(layers):
      x = convolution.convolve(x, kernel, 1)
      x = jax.nn.relu(batch_norm.normalize(x, scale, bias)[0])
    return jnp.sum(x)

  shapes = ((64, 16, 16, 8), (3, 3, 8, 8), (8,), (8,))
  arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  lowered = jax.jit(jax.grad(loss, (1, 2, 3))).lower(*arguments)
  planned = lowered.compile().memory_analysis().temp_size_in_bytes
  # Each layer keeps what it convolves and what it normalises, and a gradient
  # and its likes are on their way; a third array a layer would make it 19.
  arrays = planned / (4 * arguments[0].size)
  assert 2 * layers <= arrays < 2 * layers + 3

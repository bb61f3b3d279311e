import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltjax import optimizers, schedules


def reference(w, grads, rates, *, momentum, weight_decay, nesterov):
  """PyTorch's SGD, as its documentation writes it, without dampening."""
  w, velocity, trace = np.float64(w), None, []
  for g, rate in zip(grads, rates, strict=True):
    g = g + weight_decay * w
    if momentum:
      velocity = g.copy() if velocity is None else momentum * velocity + g
      g = g + momentum * velocity if nesterov else velocity
    w = w - rate * g
    trace.append(w)
  return trace


@pytest.mark.parametrize(
  "momentum, weight_decay, nesterov",
  [
    (0.9, 5e-4, False),
    (0.9, 5e-4, True),
    (0.9, 0.0, False),
    (0.0, 0.1, False),
    (0.5, 0.1, True),
  ],
)
def test_three_steps_equal_pytorch(momentum, weight_decay, nesterov):
  rng = np.random.default_rng(0)
  w, grads = rng.normal(size=(2, 3)), rng.normal(size=(3, 2, 3))
  rates = [0.1, 0.075, 0.025]
  settings = dict(
    momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
  )
  schedule = schedules.make("cosine", learning_rate=0.1, total_steps=3)
  tx = optimizers.sgd(schedule, **settings)
  params = {"w": jnp.asarray(w, jnp.float32)}
  state = tx.init(params)
  expected = reference(w, grads, rates, **settings)
  for g, want in zip(grads, expected, strict=True):
    updates, state = jax.jit(tx.update)(
      {"w": jnp.asarray(g, jnp.float32)}, state, params
    )
    params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["w"], want, rtol=1e-5, atol=1e-6)


def test_golden():
  # g = 1 + 0.1 * 2 = 1.2, w = 2 - 0.12 = 1.88; then g = 1.188,
  # v = 0.9 * 1.2 + 1.188 = 2.268, w = 1.88 - 0.2268 = 1.6532.
  tx = optimizers.sgd(0.1, weight_decay=0.1)
  w = jnp.float32(2.0)
  state = tx.init(w)
  for expected in (1.88, 1.6532):
    update, state = tx.update(jnp.float32(1.0), state, w)
    w = optax.apply_updates(w, update)
    np.testing.assert_allclose(w, expected, rtol=1e-6)


def test_decay_reaches_biases_and_scales():
  tx = optimizers.sgd(1.0, momentum=0.0, weight_decay=0.5)
  params = {"bn": {"scale": jnp.ones(3)}, "bias": jnp.full(2, 4.0)}
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(zeros, tx.init(params), params)
  np.testing.assert_array_equal(updates["bn"]["scale"], np.full(3, -0.5))
  np.testing.assert_array_equal(updates["bias"], np.full(2, -2.0))


def test_defaults_are_those_of_the_paper():
  w = jnp.float32(1.0)
  default, spelled = (
    tx.update(w, tx.init(w), w)[0]
    for tx in (
      optimizers.sgd(0.1),
      optimizers.sgd(0.1, momentum=0.9, weight_decay=5e-4, nesterov=False),
    )
  )
  assert default == spelled
  np.testing.assert_allclose(default, -0.10005, rtol=1e-6)


@pytest.mark.parametrize(
  "kwargs, message",
  [
    ({"momentum": 1.0}, r"\[0, 1\), not 1.0"),
    ({"momentum": -0.1}, r"\[0, 1\), not -0.1"),
    ({"momentum": float("nan")}, r"\[0, 1\), not nan"),
    ({"weight_decay": -1e-4}, "0 or more and finite, not -0.0001"),
    ({"weight_decay": float("inf")}, "0 or more and finite, not inf"),
    ({"momentum": 0.0, "nesterov": True}, "Nesterov needs a momentum above 0"),
  ],
)
def test_errors(kwargs, message):
  with pytest.raises(ValueError, match=message):
    optimizers.sgd(0.1, **kwargs)

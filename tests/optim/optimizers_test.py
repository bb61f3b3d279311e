import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltjax.optim import optimizers, schedules


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
    ({"momentum": 1.0}, r"momentum is 1.0; it must be in \[0, 1\)"),
    ({"momentum": -0.1}, r"momentum is -0.1; .* in \[0, 1\)"),
    ({"momentum": float("nan")}, r"momentum is nan; .* in \[0, 1\)"),
    (
      {"weight_decay": -1e-4},
      "weight_decay is -0.0001; it must be 0 or more and finite",
    ),
    (
      {"weight_decay": float("inf")},
      "weight_decay is inf; .* 0 or more and finite",
    ),
    ({"momentum": 0.0, "nesterov": True}, "Nesterov needs a momentum above 0"),
  ],
)
def test_errors(kwargs, message):
  with pytest.raises(ValueError, match=message):
    optimizers.sgd(0.1, **kwargs)


def run(tx, w, grads):
  """Returns the parameters after each update."""
  params, trace = jax.tree.map(jnp.float32, w), []
  state = tx.init(params)
  for g in grads:
    updates, state = jax.jit(tx.update)(
      jax.tree.map(jnp.float32, g), state, params
    )
    params = optax.apply_updates(params, updates)
    trace.append(params)
  return trace


@pytest.mark.parametrize("decay, b", [(0.0, 0.9), (0.1, 0.9), (0.1, 0.5)])
def test_adam_equals_pytorch(decay, b):
  """As PyTorch's documentation writes it: the decay joins the gradient."""
  rng = np.random.default_rng(1)
  w, grads = rng.normal(size=(2, 3)), rng.normal(size=(4, 2, 3))
  tx = optimizers.adam(0.1, momentum=b, weight_decay=decay)
  m, v = np.zeros_like(w), np.zeros_like(w)
  for t, (g, got) in enumerate(zip(grads, run(tx, w, grads), strict=True), 1):
    g = g + decay * w
    m, v = b * m + (1 - b) * g, 0.999 * v + 0.001 * g**2
    w = w - 0.1 * (m / (1 - b**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(got, w, rtol=1e-4, atol=1e-5)


def test_adam_is_not_adamw():
  # With decay alone, coupled Adam still takes a step of the learning rate;
  # a decoupled one would take lr * decay * w.
  (after,) = run(optimizers.adam(0.1, weight_decay=0.01), 2.0, [0.0])
  np.testing.assert_allclose(after, 1.9, rtol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lars_adapts_layers_and_leaves_biases_to_sgd(decay):
  rng = np.random.default_rng(2)
  w = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}
  grads = [jax.tree.map(lambda x: rng.normal(size=x.shape), w)] * 3
  tx = optimizers.lars(0.5, momentum=0.9, weight_decay=decay)
  velocity = {"kernel": 0.0, "bias": 0.0}
  for g, got in zip(grads, run(tx, w, grads), strict=True):
    kernel = g["kernel"] + decay * w["kernel"]
    ratio = np.linalg.norm(w["kernel"]) / np.linalg.norm(kernel)
    moves = {"kernel": 1e-3 * ratio * kernel, "bias": g["bias"]}
    for name, move in moves.items():
      velocity[name] = 0.9 * velocity[name] + 0.5 * move
      w[name] = w[name] - velocity[name]
      np.testing.assert_allclose(got[name], w[name], rtol=1e-5, atol=1e-6)


def test_lars_moves_layers_of_no_weight():
  """As a head that starts from zeros: the ratio of norms would be 0."""
  (after,) = run(
    optimizers.lars(0.5, weight_decay=0.0), np.zeros((2, 2)), [np.ones((2, 2))]
  )
  np.testing.assert_allclose(after, np.full((2, 2), -0.5), rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_lars_does_not_feel_the_size_of_the_gradient(scale):
  w, g = np.eye(2), np.array([[1.0, 2.0], [3.0, 4.0]])
  one, other = (
    run(optimizers.lars(0.5, weight_decay=0.0), w, [g * s])[0]
    for s in (1.0, scale)
  )
  np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_by_name_is_bit_for_bit_sgd(nesterov):
  rng = np.random.default_rng(3)
  w, grads = rng.normal(size=(2, 3)), rng.normal(size=(3, 2, 3))
  schedule = schedules.make("cosine", learning_rate=0.1, total_steps=3)
  settings = {"momentum": 0.9, "weight_decay": 5e-4, "nesterov": nesterov}
  named = run(optimizers.make("sgd", schedule, **settings), w, grads)
  plain = run(optimizers.sgd(schedule, **settings), w, grads)
  for a, b in zip(named, plain, strict=True):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_nesterov_reaches_lars():
  w, grads = np.eye(2), [np.ones((2, 2))] * 2
  one, other = (
    run(optimizers.make("lars", 0.5, nesterov=n), w, grads)[-1]
    for n in (False, True)
  )
  assert not np.allclose(one, other)


@pytest.mark.parametrize("name", ["adam", "lars"])
@pytest.mark.parametrize(
  "kwargs, message",
  [
    ({"momentum": 1.0}, r"momentum is 1.0; it must be in \[0, 1\)"),
    (
      {"weight_decay": -1e-4},
      "weight_decay is -0.0001; it must be 0 or more and finite",
    ),
  ],
)
def test_errors_of_the_others(name, kwargs, message):
  with pytest.raises(ValueError, match=message):
    optimizers.make(name, 0.1, **kwargs)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_kernels_alone_are_decayed_where_asked(name):
  params = {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.full(2, 2.0)}
  still = jax.tree.map(jnp.zeros_like, params)
  moves = {}
  for decayed in optimizers.DECAYED:
    made = optimizers.make(name, 0.1, weight_decay=0.5, decayed=decayed)
    moves[decayed], _ = made.update(still, made.init(params), params)
  np.testing.assert_array_equal(moves["kernels"]["bias"], np.zeros(2))
  assert float(moves["all"]["bias"][0]) < 0
  np.testing.assert_array_equal(
    moves["kernels"]["kernel"], moves["all"]["kernel"]
  )
  with pytest.raises(ValueError, match="'bias'; choose one of all, kernels"):
    optimizers.make(name, 0.1, decayed="bias")


def test_adamw_takes_the_decay_past_the_division():
  """Without a gradient the weights shrink by the learning rate's share."""
  made, w = optimizers.adamw(0.1, weight_decay=0.5), jnp.full((2, 2), 2.0)
  update, _ = made.update(jnp.zeros_like(w), made.init(w), w)
  np.testing.assert_allclose(update, np.full((2, 2), -0.1), rtol=1e-6)


def test_errors_of_names():
  with pytest.raises(ValueError, match="'rmsprop'; choose one of sgd, adam"):
    optimizers.make("rmsprop", 0.1)
  with pytest.raises(ValueError, match="Adam has no Nesterov"):
    optimizers.make("adam", 0.1, nesterov=True)
  with pytest.raises(ValueError, match="Nesterov needs a momentum above 0"):
    optimizers.make("lars", 0.1, nesterov=True, momentum=0.0)


@pytest.mark.parametrize("name", optimizers.NAMES)
def test_a_schedule_may_begin_further_on(name):
  """The first step then is as by a schedule that is at its rate."""
  w, g = jnp.full((2, 2), 2.0), jnp.full((2, 2), 3.0)
  schedule = schedules.make("cosine", learning_rate=0.1, total_steps=10)
  made = optimizers.make(name, schedule)
  later, _ = made.update(g, optimizers.at_step(made.init(w), 7), w)
  constant = optimizers.make(name, lambda step: schedule(step + 7))
  expected, _ = constant.update(g, constant.init(w), w)
  np.testing.assert_allclose(later, expected, rtol=1e-6)
  first, _ = made.update(g, optimizers.at_step(made.init(w), 0), w)
  assert abs(float(first[0, 0])) > 2 * abs(float(later[0, 0]))

"""The online probe: softmax regression, which passes no gradient on.

In a stage, step by step, it is tested with `pretext`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import toys

from ltjax.self_supervised import online_probe

F, C = 5, 3


def drawn(num=7):
  rng = np.random.default_rng(0)
  params = {"kernel": rng.normal(size=(F, C)), "bias": rng.normal(size=C)}
  labels = rng.integers(0, C, num).astype(np.int32)
  labels[2] = labels[5] = -1
  params = jax.tree.map(jnp.float32, params)
  return params, jnp.float32(rng.normal(size=(num, F))), jnp.asarray(labels)


def test_loss_and_accuracy_equal_numpy():
  params, features, labels = drawn()
  w, x = jax.tree.map(np.float64, (params, features))
  x = 4 * x / np.linalg.norm(x, axis=1, keepdims=True)
  logits = x @ w["kernel"] + w["bias"]
  log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  known = np.flatnonzero(np.asarray(labels) >= 0)
  right = logits.argmax(1) == labels
  loss, accuracy = jax.jit(online_probe.loss)(params, features, labels)
  expected = -np.mean([log_p[i, labels[i]] for i in known])
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_allclose(accuracy, right[known].mean(), rtol=1e-6)


def test_features_get_no_gradient_and_the_probe_does():
  params, features, labels = drawn()
  slopes = jax.jit(
    jax.grad(lambda p, x: online_probe.loss(p, x, labels)[0], argnums=(0, 1))
  )
  of_params, of_features = slopes(params, features)
  np.testing.assert_array_equal(of_features, 0)
  assert toys.norm(of_params) > 0.1


def test_without_a_label_there_is_nothing_to_learn():
  params, features, labels = drawn()
  found = jax.jit(online_probe.loss)(
    params, features, jnp.full_like(labels, -1)
  )
  assert found == (0, 0)


def test_begins_at_zero():
  params = online_probe.init(F, C)
  assert {k: v.shape for k, v in params.items()} == {
    "kernel": (F, C),
    "bias": (C,),
  }
  assert toys.norm(params) == 0

"""The views of pre-training follow the task and the config."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.methods import views

BLACK = jnp.zeros((8, 4, 4, 1), jnp.uint8)


def test_views_follow_the_task():
  """The size of the network, the task's normalisation."""
  pair = jax.jit(views.two(toys.learner(), toys.config()))
  first, second = pair(jax.random.key(0), BLACK)
  np.testing.assert_allclose(first, -0.4 / 0.25, rtol=1e-5)
  np.testing.assert_allclose(second, -0.4 / 0.25, rtol=1e-5)
  bf16 = views.two(toys.learner(), toys.config(model__dtype="bfloat16"))
  for view in jax.eval_shape(bf16, jax.random.key(0), BLACK):
    assert view.dtype == jnp.bfloat16 and view.shape == (8, 4, 4, 1)


@pytest.mark.parametrize(
  "changes",
  [
    {"pretrain__crop_scale": (0.9, 1.0)},
    {"pretrain__interpolation": "cubic"},
    {"pretrain__jitter": (0.8, 0.4, 0.4, 0.1)},
    {"pretrain__grayscale": 1.0},
    {"pretrain__blur": 1.0},
  ],
)
def test_every_setting_reaches_the_views(changes):
  """It makes another program, numbers included, which need not be compiled."""
  learner = toys.learner()
  task = dataclasses.replace(learner.task, mean=(0.4,) * 3, std=(0.2,) * 3)
  learner = dataclasses.replace(learner, task=task)
  images = jnp.zeros((4, 8, 8, 3), jnp.uint8)

  def program(**settings):
    view = views.one(learner, toys.config(**settings), boosted=False)
    return str(jax.make_jaxpr(view)(jax.random.key(1), images))

  assert program() == program() != program(**changes)


def test_mirrors_only_where_the_task_says_so():
  settings = {
    "pretrain__crop_scale": (1.0, 1.0),
    "pretrain__jitter": (0.0, 0.0, 0.0, 0.0),
  }
  images = jnp.asarray(toys.pictures([0] * 16))
  key = jax.random.key(2)
  made = [
    np.asarray(
      jax.jit(
        views.one(
          toys.learner(flip=flip), toys.config(**settings), boosted=False
        )
      )(key, images)
    )
    for flip in (False, True)
  ]
  still = np.isclose(made[0], made[1], atol=1e-5).all((1, 2, 3))
  turned = np.isclose(made[0], made[1][:, :, ::-1], atol=1e-5).all((1, 2, 3))
  assert (still | turned).all() and still.any() and turned.any()


def test_boosted_views_take_a_strength():
  config = toys.config(pretrain__boost_ops=1)
  images = jnp.asarray(toys.pictures([0, 1, 2, 3] * 4))
  pair = jax.jit(views.two(toys.learner(), config, boosted=True))
  key = jax.random.key(3)
  plain = jax.jit(views.two(toys.learner(), config))(key, images)
  weak, strong = (pair(key, images, jnp.full(16, s)) for s in (0.0, 1.0))
  np.testing.assert_allclose(weak[0], plain[0], atol=1e-5)
  assert not np.allclose(strong[0], plain[0])

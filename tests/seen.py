"""Steps of weak and strong views, drawn: what a plug-in sees of one."""

import jax
import jax.numpy as jnp
import numpy as np
import toys

from ltjax.semi_supervised import weak_strong as views

B, U, K = 4, 6, 2


class Batch:
  """Of a step in the middle of a stage."""

  def __init__(self, *, progress=0.5, epoch=1, fresh=False):
    self.progress = jnp.asarray(progress, jnp.float32)
    self.epoch, self.epochs, self.steps = epoch, 2, 20
    self.fresh = jnp.asarray(fresh)


class State:
  """Of a step: its number, the statistics and what is averaged."""

  def __init__(self, step, params, batch_stats):
    self.step = jnp.asarray(step, jnp.int32)
    self.batch_stats = batch_stats
    self.extra = {"average": params, "batch_stats": batch_stats}


def drawn(
  learner, carried, *, seed=0, labeled_views=1, step=0, scale=4.0, **batch
):
  """Returns a `Seen`; logits are of the toy's head on drawn features.

  Args:
    learner: of the toys.
    carried: what the plug-in carries.
    seed: of features and labels.
    labeled_views: V.
    step: its number.
    scale: of logits.
    **batch: of `Batch`.
  """
  rng = np.random.default_rng(seed)
  state = learner.init()
  params = {
    "backbone": state.backbone,
    "head": jax.tree.map(lambda x: scale * x, state.head),
    "balanced_head": state.balanced_head,
  }

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape).astype(np.float32))

  features = views.Views(
    normal(labeled_views, B, toys.D), normal(U, toys.D), normal(K, U, toys.D)
  )
  shape = learner.model.image_shape
  return views.Seen(
    params=params,
    images=views.Views(
      normal(labeled_views, B, *shape), normal(U, *shape), normal(K, U, *shape)
    ),
    features=features,
    logits=jax.tree.map(
      lambda x: 2 * learner.model.head_apply(params["head"], x), features
    ),
    labels=jnp.asarray(rng.integers(0, toys.C, B), jnp.int32),
    index=jnp.asarray(rng.permutation(toys.M)[:U], jnp.int32),
    counts=jnp.asarray(toys.LABELED, jnp.float32),
    carried=carried,
    key=jax.random.key(seed),
    batch=Batch(**batch),
    state=State(step, params, state.batch_stats),
    batch_stats=state.batch_stats,
  )


def softmax(z):
  """In float64, over the last axis."""
  z = np.asarray(z, np.float64)
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def entropy(q, z):
  """The cross-entropy of `[..., C]` targets, `[...]`."""
  return -(np.asarray(q, np.float64) * np.log(softmax(z))).sum(-1)


def one_hot(labels):
  return np.eye(toys.C)[np.asarray(labels)]


def host(seen):
  """Returns labeled `[V, B, C]`, weak and strong logits in float64."""
  return tuple(np.asarray(z, np.float64) for z in seen.logits)

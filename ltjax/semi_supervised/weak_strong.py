"""Weak and strong views: what a weak one is taken for teaches a strong one.

The step that FixMatch and all that grew from it share. A batch has B labeled
images x and U unlabeled ones u; the network sees weak views of both and K
strong views of u, and a `Plugin` makes a loss of what it says of them. Tested
is the average of the weights over the steps.

BatchNorm sees all views together, as in the code of FixMatch for PyTorch, or
`apart`: labeled images alone move its statistics, and with a weight of 0 the
step is the supervised one. Statistics are averaged like weights, which does
for networks of momentum 0.9 what a momentum of 0.999 does in others' code.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax import models
from ltjax.optim import ema
from ltjax.training import state as states
from ltjax.training import step
from ltjax.training.state import ModelState, TrainState

PyTree = Any
Transform = Callable[[jax.Array, jax.Array], jax.Array]
BATCH_NORMS = ("joint", "apart")


class Views(NamedTuple):
  """Images, features or logits, by view.

  Attributes:
    labeled: of x, `[V, B, ...]`: weak, and as many strong ones as are asked.
    weak: of u, `[U, ...]`.
    strong: of u, `[K, U, ...]`.
  """

  labeled: jax.Array
  weak: jax.Array
  strong: jax.Array


class Seen(NamedTuple):
  """What a plug-in sees of a step.

  Attributes:
    params: what is trained: `backbone`, `head` and the plug-in's own.
    images: as the network takes them.
    features: fp32 `[..., D]`.
    logits: of `head`, fp32 `[..., C]`.
    labels: int32 `[B]` of x.
    index: int32 `[U]`, which images of the pool u are.
    counts: float32 `[C]`, labeled images of each class.
    carried: what the plug-in carries.
    key: its random key.
    batch, state: of the step, before it; `state.extra` has the averages,
      `average` and `batch_stats`.
    batch_stats: of BatchNorm after this step's pass.
  """

  params: PyTree
  images: Views
  features: Views
  logits: Views
  labels: jax.Array
  index: jax.Array
  counts: jax.Array
  carried: PyTree
  key: jax.Array
  batch: step.Batch
  state: TrainState
  batch_stats: PyTree


@dataclasses.dataclass(frozen=True)
class Plugin:
  """What makes a method of the shared step.

  Attributes:
    loss: `Seen -> (loss [], metrics, carried)`, with scalars by the names of
      `metrics`, and what is carried to the next step.
    metrics: names, beside `accuracy` on the labeled images.
    heads: `() -> params` that are trained beside backbone and head.
    init: `model_state -> carried` before the first step.
    labeled_views: V, the weak view and strong ones.
    test: `(params, batch_stats, carried) -> head` to test, of averages.
  """

  loss: Callable[[Seen], tuple[jax.Array, dict[str, jax.Array], PyTree]]
  metrics: tuple[str, ...] = ("cross_entropy", "consistency", "mask")
  heads: Callable[[], dict[str, PyTree]] = dict
  init: Callable[[ModelState], PyTree] = lambda state: {}
  labeled_views: int = 1
  test: Callable[[PyTree, PyTree, PyTree], PyTree] = (
    lambda params, batch_stats, carried: params["head"]
  )


def agreement(
  logits: jax.Array, targets: jax.Array, weights: jax.Array
) -> jax.Array:
  """The mean over all views of `w H(q, softmax(z))`, fp32 `[]`.

  Args:
    logits: z of the strong views, `[K, U, C]`.
    targets: q, `[U, C]` of sum 1, constants.
    weights: w, `[U]`.
  """
  losses = -jnp.sum(targets[None] * jax.nn.log_softmax(logits), -1)
  return jnp.mean(weights[None] * losses)


def measured(
  supervised: jax.Array, consistency: jax.Array, weights: jax.Array
) -> dict[str, jax.Array]:
  """Returns the usual metrics of a plug-in.

  Args:
    supervised, consistency: losses, `[]`.
    weights: of the guesses, `[U]`; their mean is the `mask`.
  """
  return {
    "cross_entropy": supervised,
    "consistency": consistency,
    "mask": jnp.mean(weights),
  }


def hard(logits: jax.Array) -> jax.Array:
  """Returns the most probable class of `[U, C]` as float32 one-hot `[U, C]`."""
  return jax.nn.one_hot(jnp.argmax(logits, -1), logits.shape[-1])


def sharpened(logits: jax.Array, temperature: float) -> jax.Array:
  """Returns `softmax(z / T)`, or for T = 0 the most probable class, `[U, C]`.

  Args:
    logits: z, `[U, C]`.
    temperature: T, 0 or more.
  """
  return jax.nn.softmax(logits / temperature) if temperature else hard(logits)


def algorithm(
  model: models.Model,
  plugin: Plugin,
  *,
  weak: Transform,
  strong: Transform,
  num_labeled: int,
  pool_start: int,
  strong_views: int = 1,
  decay: float = 0.999,
  batch_norm: str = "joint",
) -> step.Algorithm:
  """Returns the algorithm of a plug-in.

  Args:
    model: the network.
    plugin: the loss and what it carries.
    weak, strong: `(key, uint8 [B, H, W, C]) -> float [B, H, W, C]`.
    num_labeled: B; the first so many of a batch are labeled, see `draw.pairs`.
    pool_start: where the pool begins among all images: N, or 0 if it holds the
      labeled ones too.
    strong_views: K, 1 or more.
    decay: of the averages, in [0, 1), lower in the first steps
      (`ema.decay_at`).
    batch_norm: one of `BATCH_NORMS`.

  Source: Sohn et al. (2020), "FixMatch", Algorithm 1.
  """

  def looked_at(key: jax.Array, images: jax.Array) -> Views:
    x, u = images[:num_labeled], images[num_labeled:]
    k_x, k_u, *keys = jax.random.split(
      key, 1 + plugin.labeled_views + strong_views
    )
    of_x, of_u = keys[: plugin.labeled_views - 1], keys[-strong_views:]
    return Views(
      jnp.stack([weak(k_x, x), *(strong(k, x) for k in of_x)]),
      weak(k_u, u),
      jnp.stack([strong(k, u) for k in of_u]),
    )

  def forward(params, batch_stats, views: Views):
    shape = views.strong.shape
    labeled = views.labeled.reshape(-1, *shape[2:])
    others = jnp.concatenate([views.weak, views.strong.reshape(-1, *shape[2:])])
    if batch_norm == "joint":
      images = jnp.concatenate([labeled, others])
      *found, stats = model.apply(params, batch_stats, images, True)
    else:
      *first, stats = model.apply(params, batch_stats, labeled, True)
      *second, _ = model.apply(params, batch_stats, others, True)
      found = [jnp.concatenate(pair) for pair in zip(first, second)]
    features, logits = (
      Views(
        x[: len(labeled)].reshape(*views.labeled.shape[:2], -1),
        x[len(labeled) :][: shape[1]],
        x[len(labeled) + shape[1] :].reshape(*shape[:2], -1),
      )
      for x in found
    )
    return features, logits, stats

  def init(state: ModelState):
    params, batch_stats, _ = step.network(state)
    params |= plugin.heads()
    return (
      params,
      batch_stats,
      {
        "average": params,
        "batch_stats": batch_stats,
        "plugin": plugin.init(state),
      },
    )

  def loss(params, state: TrainState, batch: step.Batch):
    k_views, k_plugin = jax.random.split(batch.key)
    views = looked_at(k_views, batch.images)
    features, logits, stats = forward(params, state.batch_stats, views)
    labels = batch.labels[:num_labeled]
    total, metrics, carried = plugin.loss(
      Seen(
        params,
        views,
        features,
        logits,
        labels,
        batch.index[num_labeled:] - pool_start,
        batch.arrays["counts"],
        state.extra["plugin"],
        k_plugin,
        batch,
        state,
        stats,
      )
    )
    right = jnp.argmax(logits.labeled[0], -1) == labels
    metrics = {"accuracy": jnp.mean(right)} | metrics
    found = jax.lax.stop_gradient(carried)
    return total, step.Outcome(stats, metrics, found=found)

  def follow(params, state: TrainState, batch, outcome: step.Outcome):
    del batch
    now = ema.decay_at(state.step + 1, decay=decay)
    old = state.extra
    stats = outcome.batch_stats
    return {
      "average": ema.update(old["average"], params, decay=now),
      "batch_stats": ema.update(old["batch_stats"], stats, decay=now),
      "plugin": outcome.found,
    }

  def keep(state: ModelState, trained: TrainState) -> ModelState:
    average = states.copy(trained.extra)
    params, stats = average["average"], average["batch_stats"]
    kept = step.keep_network(
      state,
      trained.replace(params=params, batch_stats=stats),  # type: ignore[attr-defined]
    )
    head = plugin.test(params, stats, average["plugin"])
    return kept.replace(balanced_head=states.copy(head))  # type: ignore[attr-defined]

  return step.Algorithm(
    loss,
    ("accuracy", *plugin.metrics),
    init=init,
    follow=follow,
    keep=keep,
    layer_decay=model.layer_decay,
  )

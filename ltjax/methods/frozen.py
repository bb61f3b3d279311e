"""A frozen backbone: features once, and then any method on them.

What a method sees in the place of images are features `[N, V, 1, D]`: of each
image the plain view, of those to learn from `V - 1` augmented ones, of which
training draws, and of those to test on the views of `eval.views`. All that is
left of the network is its head, and what `model.tune=feature_adapter` puts
before it, so that a method takes little. The model that a run leaves is the
whole network again, and takes images.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data import task as tasks
from ltjax.devices import sharding
from ltjax.methods import registry
from ltjax.methods.learner import Learner
from ltjax.models import pretrained
from ltjax.settings.fields import setting
from ltjax.training import feature_store, inference
from ltjax.training.state import ModelState


@dataclasses.dataclass(frozen=True)
class Settings:
  """The features of a frozen backbone."""

  views: int = setting(
    0, "augmented views an image to learn from", least=0, size=True
  )
  cache: str = setting(
    "auto", "folder that keeps features; auto: the user's; off: none", size=True
  )


FEATURES = registry.Block(
  "features", Settings, when={"model.tune": pretrained.FROZEN}
)


def on_features(
  learner: Learner, config: Any, *, outlined: bool = False
) -> Learner:
  """Returns the learner of what is left of a network with a frozen backbone.

  Where the backbone is trained, that is the given one.

  Args:
    learner: of the images.
    config: uses the block `features`.
    outlined: whether features are zeros, as a dry run needs no others.

  Raises:
    ValueError: if a setting is out of its range.
    OSError: if the features cannot be kept.
  """
  parts = learner.model.frozen
  if parts is None:
    return learner
  check(config)
  task, mesh, block = learner.task, learner.mesh, config.features
  views, seen = 1 + block.views, learner.predictor.views
  model, dim = parts.behind(views), learner.model.feature_dim
  if not outlined:
    train_transform, test_transform = task.transforms()
    predictor = inference.Predictor(
      parts.backbone,
      test_transform=test_transform,
      train_transform=train_transform,
      batch_size=config.eval.batch_size,
      mesh=mesh,
      views=seen,
    )
    store = feature_store.Store(
      predictor,
      dataclasses.replace(learner.init(), backbone={}),
      described=_described(config.model, task),
      place=feature_store.folder(block.cache),
    )

  def bank(images: Any, title: str, others: Sequence[Any] = ()) -> jax.Array:
    shape = (len(images), 1 + len(others), 1, dim)
    if outlined:
      return np.broadcast_to(np.float32(0), shape)  # pyrefly: ignore
    found = np.empty(shape, np.float32)
    found[:, 0, 0] = store.features(images, title=title)
    for view, given in enumerate(others, 1):
      found[:, view, 0] = store.features(
        images, title=f"{title}, view {view}", **given
      )
    return sharding.replicate(found, mesh)

  key = learner.key("features")
  augmented = [{"key": jax.random.fold_in(key, n)} for n in range(1, views)]
  tested = [{"view": view} for view in range(seen.count)]

  task = dataclasses.replace(
    task,
    images=bank(task.images, "to learn from", augmented),
    test_images=bank(task.test_images, "test", tested),
    validation_images=bank(task.validation_images, "validation", tested),
    probe_images=bank(task.probe_images, "probe"),
    crop_size=0,
  )
  predictor = inference.Predictor(
    model,
    test_transform=plain,
    train_transform=drawn,
    batch_size=max(config.eval.batch_size, 1024),
    mesh=mesh,
    views=seen._replace(apply=other),
  )
  return dataclasses.replace(
    learner, model=model, task=task, predictor=predictor, transform=drawn
  )


def check(config: Any) -> None:
  """Raises ValueError unless a run can do with features in place of images.

  Args:
    config: of a run with a frozen backbone.
  """
  registry.check_ranges(config)
  needs = {
    f"method={config.method}": config.method == "glmc",
    f"pretrain.name={config.pretrain.name}": config.pretrain.name != "none",
  }
  for name, images in needs.items():
    if images:
      raise ValueError(
        f"{name} needs images, and model.tune={config.model.tune} leaves"
        " features of them: set model.tune to all or last_block, or choose"
        " another method."
      )


def plain(features: jax.Array) -> jax.Array:
  """Returns the features of the plain images, `[B, V, 1, D]` to `[B, 1, 1, D]`.

  Args:
    features: of all views.
  """
  return features[:, :1]


def other(view: jax.Array, features: jax.Array) -> jax.Array:
  """Returns the features of a view behind the plain one, `[B, 1, 1, D]`.

  Args:
    view: `[]` int32, from 0.
    features: of all views.
  """
  return jax.lax.dynamic_index_in_dim(features, 1 + view, axis=1)


def drawn(key: jax.Array, features: jax.Array) -> jax.Array:
  """Returns the features of a random view of each image, `[B, 1, 1, D]`.

  Where there are augmented views, the plain one is not among those drawn.

  Args:
    key: a random key.
    features: `[B, V, 1, D]`.
  """
  count, views = features.shape[:2]
  if views == 1:
    return features
  view = jax.random.randint(key, (count,), 1, views)
  return jnp.take_along_axis(features, view[:, None, None, None], axis=1)


def whole(learner: Learner, state: ModelState) -> ModelState:
  """Returns the state with the backbone, if it was frozen.

  Args:
    learner: of the images.
    state: of a run on features.
  """
  if learner.model.frozen is None:
    return state
  return state.replace(  # type: ignore[attr-defined]
    batch_stats=learner.init().batch_stats
  )


def _described(settings: Any, task: tasks.Task) -> str:
  """Returns all that features depend on but the weights and the images."""
  names = ("name", "image_size", "dtype")
  found = {name: settings[name] for name in names}
  names = ("mean", "std", "pad", "pad_mode", "flip")
  names += ("augment", "crop_size", "resize")
  return str(found | {name: getattr(task, name) for name in names})

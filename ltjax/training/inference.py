"""Inference: features and probabilities of whole image sets.

One compilation: the last, partial batch is filled up with the first image and
the surplus cut off. BatchNorm uses its running statistics. Images may be on the
device or on the host, see `ltjax.training.prefetch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from ltjax import models, require
from ltjax.augment import ensemble
from ltjax.data.host import host_images
from ltjax.devices import memory, sharding
from ltjax.training import prefetch
from ltjax.training.state import ModelState

PyTree = Any
# `(name, what, function, *arguments, **options)`: compiles a jitted function.
Compile = Callable[..., Any]


class Predictor:
  """Runs a network in evaluation mode over images.

  Args:
    model: the network.
    test_transform: `images uint8 [B, H, W, C] -> float [B, H, W, C]`.
    train_transform: the same with a random key as its first argument.
    batch_size: images in a batch, at least 1; rounded up to a multiple of the
      device count; below 1 a ValueError.
    mesh: the devices.
    views: of test-time ensembling, see `ensembled`.
  """

  def __init__(
    self,
    model: models.Model,
    *,
    test_transform: Callable[[jax.Array], jax.Array],
    train_transform: Callable[[jax.Array, jax.Array], jax.Array],
    batch_size: int,
    mesh: Mesh,
    views: ensemble.Views = ensemble.PLAIN,
  ):
    require.at_least("eval.batch_size", batch_size, 1)
    self.model = model
    self.transform = train_transform
    self.views = views
    self._batch_size = -(-batch_size // mesh.size) * mesh.size
    self._mesh = mesh
    self._compile: Compile | None = None

    @functools.partial(jax.jit, static_argnames="augment")
    def features(
      backbone, batch_stats, head, images, index, key, augment, view=None
    ):
      batch = prefetch.bind(images, index)[index]
      if view is not None:
        batch = views.apply(view, batch)
      elif augment:
        batch = train_transform(key, batch)
      else:
        batch = test_transform(batch)
      features, _, _ = model.apply(
        {"backbone": backbone, "head": head}, batch_stats, batch, False
      )
      return features

    self._features = features
    self._probabilities = jax.jit(
      lambda head, *features: jax.nn.softmax(
        ensemble.mean([model.head_apply(head, x) for x in features])
      )
    )

  def batch(self, num: int) -> memory.Batch:
    """Returns how the batches are called in which images are passed."""
    size = min(self._batch_size, -(-num // self._mesh.size) * self._mesh.size)
    return memory.Batch(f"A pass over {num:,} images", "eval.batch_size", size)

  def lower(self, state: ModelState, images: Any) -> Any:
    """Returns the program of a batch, lowered from shapes, not compiled."""
    size = self.batch(len(images)).size
    return self._features.lower(
      state.backbone,
      state.batch_stats,
      state.head,
      prefetch.outline(images, size, self._mesh),
      self._index(size),
      None,
      augment=False,
    )

  def _index(self, size: int) -> jax.ShapeDtypeStruct:
    """Returns the shape of the index of a batch."""
    placed = sharding.batched(self._mesh)
    return jax.ShapeDtypeStruct((size,), jnp.int32, sharding=placed)

  @contextlib.contextmanager
  def rehearsing(self, compile_pass: Compile) -> Iterator[None]:
    """Within this context passes are compiled, not run; features are random."""
    self._compile = compile_pass
    try:
      yield
    finally:
      self._compile = None

  def features(
    self,
    state: ModelState,
    images: jax.Array | host_images.HostImages,
    *,
    key: jax.Array | None = None,
    view: int | None = None,
  ) -> jax.Array:
    """Returns the embeddings `f(x)` of all images, float32 `[N, D]`.

    Args:
      state: the network's parameters and statistics.
      images: uint8 `[N, H, W, C]`; an OutOfMemoryError if a batch does not fit.
      key: with a key, images are augmented as in training (an own draw for
        every image); without, transformed as in testing.
      view: one of `views` in place of the plain image.
    """
    num = len(images)
    if num == 0:
      return jnp.zeros((0, self.model.feature_dim), jnp.float32)
    size = self.batch(num).size
    indices = [
      np.arange(first, first + size, dtype=np.int32)
      for first in range(0, num, size)
    ]
    indices = [np.where(index < num, index, 0) for index in indices]
    outputs, seen = [], {} if view is None else {"view": np.int32(view)}
    if self._compile is not None:
      self._compile(
        f"a pass over {num:,} images{'' if key is None else ', augmented'}"
        f"{', in another view' if seen else ''}",
        self.batch(num),
        self._features,
        *(state.backbone, state.batch_stats, state.head),
        prefetch.outline(images, size, self._mesh),
        self._index(size),
        key,
        augment=key is not None,
        **seen,
      )
      shape = (num, self.model.feature_dim)
      drawn = jax.random.normal(jax.random.key(0), shape, jnp.float32)
      return sharding.replicate(drawn, self._mesh)
    given = prefetch.ahead(images, indices, self._mesh)
    with memory.explained(self.batch(num)):
      for batch, (index, rows) in enumerate(zip(indices, given, strict=True)):
        outputs.append(
          self._features(
            state.backbone,
            state.batch_stats,
            state.head,
            rows,
            sharding.put(index, sharding.batched(self._mesh)),
            None if key is None else jax.random.fold_in(key, batch),
            augment=key is not None,
            **seen,
          )
        )
      stacked = outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs)
      return sharding.replicate(stacked[:num], self._mesh)

  def probabilities(
    self,
    state: ModelState,
    images: jax.Array | host_images.HostImages,
    *,
    head: PyTree,
    key: jax.Array | None = None,
  ) -> jax.Array:
    """Returns the class probabilities of all images, float32 `[N, C]`.

    Args:
      state, images, key: as of `features`.
      head: the head to use, `state.head` (g') or `state.balanced_head` (g).
    """
    return self.classify(head, self.features(state, images, key=key))

  def ensembled(
    self,
    state: ModelState,
    images: jax.Array | host_images.HostImages,
    *,
    head: PyTree,
  ) -> jax.Array:
    """Returns class probabilities by the mean logits of all `views`.

    Of the plain image alone they are those of `probabilities`.

    Args:
      state, images, head: as of `probabilities`.
    """
    found = (
      self.features(state, images, view=view) for view in self.views.averaged
    )
    return self._probabilities(head, *found)

  def classify(self, head: PyTree, features: jax.Array) -> jax.Array:
    """Returns class probabilities, float32 `[N, C]`, of features `[N, D]`."""
    return self._probabilities(head, features)


class FeatureCache:
  """Features of image sets by the embedding that was asked last."""

  def __init__(self, predictor: Predictor):
    self._predictor = predictor
    self._embedding: list[jax.Array] = []
    self._found: list[tuple[object, jax.Array]] = []

  def features(
    self, state: ModelState, images: jax.Array | host_images.HostImages
  ) -> jax.Array:
    """As `Predictor.features`, kept until `f` changes.

    Sets and embeddings are told by what they are, not by their values: another
    copy is another one.
    """
    embedding = jax.tree.leaves((state.backbone, state.batch_stats))
    if [id(x) for x in embedding] != [id(x) for x in self._embedding]:
      self._embedding, self._found = embedding, []
    for known, features in self._found:
      if known is images:
        return features
    features = self._predictor.features(state, images)
    self._found.append((images, features))
    return features

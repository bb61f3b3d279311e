"""What is measured: a network, a set of random bytes, transforms, a state."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from ltjax import models
from ltjax.augment import transforms, views
from ltjax.devices import sharding
from ltjax.optim import recipe as recipes
from ltjax.training import inference
from ltjax.training import state as states

NUM_CLASSES = 10
LEARNING_RATE = 0.01  # Keeps the loss of random labels finite.


@dataclasses.dataclass(frozen=True)
class Subject:
  """A network and what it is trained on.

  Attributes:
    model: the network.
    batch_size: B, images in a step.
    steps: steps in an epoch; the set has `steps * B` images.
    dtype: of the computation.
    mesh: the devices.
    images: uint8 `[steps * B, H, W, C]`, random.
    labels: int32 `[steps * B]`.
    state: a fresh network; the second half of the set is its pseudo-labeled.
    transform: the training transform: pad, crop, flip, normalise.
    test_transform: normalises.
    two_views: the two views of contrastive learning.
    unroll: steps in a round of the loop over steps, see `ltjax.training.fit`.
  """

  model: models.Model
  batch_size: int
  steps: int
  dtype: str
  mesh: Mesh
  images: jax.Array
  labels: jax.Array
  state: states.ModelState
  transform: Callable[[jax.Array, jax.Array], jax.Array]
  test_transform: Callable[[jax.Array], jax.Array]
  two_views: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
  unroll: int = 1

  @property
  def count(self) -> int:
    """Images in the set, and in an epoch."""
    return self.steps * self.batch_size

  def recipe(self, epochs: int) -> recipes.Recipe:
    """Returns SGD with momentum for so many epochs."""
    return recipes.Recipe(
      epochs=epochs, batch_size=self.batch_size, learning_rate=LEARNING_RATE
    )

  def predictor(self) -> inference.Predictor:
    """Returns the network in evaluation mode, in a config's usual batches."""
    return inference.Predictor(
      self.model,
      test_transform=self.test_transform,
      train_transform=self.transform,
      batch_size=min(500, self.count),
      mesh=self.mesh,
    )


def make(
  *,
  model: str,
  batch_size: int,
  image: int,
  dtype: str,
  steps: int,
  channels: int = 3,
  devices: int = 0,
  unroll: int = 1,
) -> Subject:
  """Builds what is measured.

  Args:
    model: name of the network.
    batch_size: images in a step.
    image: pixels of a side.
    dtype: `float32` or `bfloat16`.
    steps: steps in an epoch.
    channels: 3 for colour.
    devices: how many to use; 0 for all.
    unroll: steps in a round of the loop over steps.

  Raises:
    ValueError: if a setting is out of range; names the flag.
  """
  given = {"batch_size": batch_size, "steps": steps, "unroll": unroll}
  for name, value in given.items():
    if value < 1:
      raise ValueError(f"--{name} is {value}; it must be 1 or more.")
  mesh = sharding.make_mesh(devices) if devices else sharding.make_mesh()
  if batch_size % mesh.size:
    raise ValueError(
      f"--batch_size is {batch_size}, which {mesh.size} devices cannot share"
      f" evenly; set it to a multiple of {mesh.size}, or --devices."
    )
  shape = (image, image, channels)
  network = models.create(
    model, num_classes=NUM_CLASSES, image_shape=shape, dtype=dtype
  )
  count = steps * batch_size
  bytes_ = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
  labels = (np.arange(count) % NUM_CLASSES).astype(np.int32)
  params, batch_stats = network.init(jax.random.key(0))
  state = states.ModelState(
    backbone=params["backbone"],
    batch_stats=batch_stats,
    head=params["head"],
    balanced_head=params["head"],
    pseudo_labels=jnp.asarray(labels[(count + 1) // 2 :]),
    memory=jnp.zeros((count, NUM_CLASSES), jnp.float32),
  )
  half = (0.5,) * channels
  train, test = transforms.make(mean=half, std=half, dtype=jnp.dtype(dtype))
  look = functools.partial(
    views.contrastive, size=image, mean=half, std=half, dtype=jnp.dtype(dtype)
  )
  images, labels, state = sharding.replicate((bytes_, labels, state), mesh)
  return Subject(
    model=network,
    batch_size=batch_size,
    steps=steps,
    dtype=dtype,
    mesh=mesh,
    images=images,
    labels=labels,
    state=state,
    transform=train,
    test_transform=test,
    two_views=functools.partial(views.two, view=look),
    unroll=unroll,
  )

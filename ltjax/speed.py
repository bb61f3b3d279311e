"""Speed: what the library costs on top of JAX.

A *bare* loop runs the same
network, loss and SGD on one fixed batch of floats, and nothing else. ltjax's own
loop draws indices, gathers bytes, crops, flips and normalises them, sums
metrics and watches the loss. The two take turns, a few seconds each, so that a
busy machine slows both alike; each turn gives one ratio, and medians are told.
Processor time is compared beside: on a CPU it hardly feels other processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np
import optax

from ltjax import fit, inference, models, sampling, sharding
from ltjax import recipe as recipes
from ltjax import state as states
from ltjax.augment import crop_flip
from ltjax.losses import classification
from ltjax.stages import classifier, embedding, pseudo_label

NUM_CLASSES = 10
REFIT_EPOCHS = 10
REFIT_VIEWS = 10


def measure(
  *,
  model: str = "resnet8",
  batch_size: int = 128,
  image: int = 32,
  channels: int = 3,
  dtype: str = "float32",
  steps: int = 8,
  repeats: int = 5,
) -> dict[str, Any]:
  """Times the bare loop, ltjax's loop, pseudo-labelling and a refit.

  Args:
    model: name of the network.
    batch_size: images in a step.
    image: pixels of a side.
    channels: 3 for colour.
    dtype: `float32` or `bfloat16`.
    steps: steps in a turn (an epoch); the set has `steps * batch_size` images.
    repeats: turns of each loop; the first, which compiles, comes on top.

  Returns:
    JSON values: the settings and `devices`; images per second `bare`, `ltjax`
    and `pseudo_label`; `ratio`, the median over turns of ltjax's speed through
    the bare one's, with `ratios` of all turns; `processor_ratio`, that of the
    median processor times; `bare_compile_seconds` and `ltjax_compile_seconds`; `refit_features_seconds` (the cache of
    augmented views) and `refit_fit_seconds` of a classifier refit of so many
    `refit_epochs` and `refit_views`, compiled before.

  Raises:
    ValueError: if a setting is out of range.
  """
  numbers = {"batch_size": batch_size, "steps": steps, "repeats": repeats}
  for name, value in numbers.items():
    if value < 1:
      raise ValueError(f"--{name} is {value}; it must be 1 or more.")
  mesh = sharding.make_mesh()
  sharding.check_batch(batch_size, mesh, "bench")
  shape = (image, image, channels)
  network = models.create(
    model, num_classes=NUM_CLASSES, image_shape=shape, dtype=dtype
  )
  rng = np.random.default_rng(0)
  count = steps * batch_size
  images = rng.integers(0, 256, (count, *shape), np.uint8)
  labels = (np.arange(count) % NUM_CLASSES).astype(np.int32)
  images, labels = sharding.replicate((images, labels), mesh)
  params, batch_stats = sharding.replicate(
    network.init(jax.random.key(0)), mesh
  )
  state = states.ModelState(
    backbone=params["backbone"],
    batch_stats=batch_stats,
    head=params["head"],
    balanced_head=params["head"],
    pseudo_labels=jnp.zeros((0,), jnp.int32),
    memory=jnp.zeros((0, NUM_CLASSES), jnp.float32),
  )

  def test_transform(images):
    half = (0.5,) * channels
    return crop_flip.normalize(images, half, half, jnp.dtype(dtype))

  def train_transform(key, images):
    return test_transform(crop_flip.random_crop_flip(key, images))

  # One recipe for both loops; the learning rate keeps random labels finite.
  recipe = recipes.Recipe(
    epochs=repeats + 1, batch_size=batch_size, learning_rate=0.01
  )
  batch = jax.jit(test_transform)(images[:batch_size])
  batch = jax.device_put(batch, sharding.batched(mesh))
  bare = _bare(
    network,
    recipe.make_optimizer(recipe.make_schedule(steps)),
    states.copy((params, batch_stats)),
    (batch, labels[:batch_size]),
    steps,
  )
  stage = embedding.make(
    "embedding",
    network,
    images=images,
    labels=labels,
    transform=train_transform,
    recipe=recipe,
    seed=0,
    key=jax.random.key(1),
    report=lambda state: [],
  )
  assert stage.prepare is not None
  ours = _epochs(stage, state, stage.prepare(state), mesh)
  turns = [
    (*_seconds(bare.__next__), *_seconds(ours.__next__))
    for _ in range(repeats + 1)
  ]
  first, timed = turns[0], turns[1:]
  bare_s, bare_cpu, ours_s, ours_cpu = map(
    statistics.median, zip(*timed, strict=True)
  )
  ratios = [turn[0] / turn[2] for turn in timed]

  predictor = inference.Predictor(
    network,
    test_transform=test_transform,
    train_transform=train_transform,
    batch_size=min(500, count),
    mesh=mesh,
  )

  def assign() -> jax.Array:
    return pseudo_label.assign(predictor, state, images)

  _seconds(assign)
  assign_s = statistics.median(_seconds(assign)[0] for _ in range(repeats))
  features_s, fit_s = _refit(predictor, state, images, labels, batch_size, mesh)
  return {
    **numbers,
    "model": model,
    "image": image,
    "channels": channels,
    "dtype": dtype,
    "devices": [str(d) for d in mesh.devices.flat],
    "bare": count / bare_s,
    "ltjax": count / ours_s,
    "ratio": statistics.median(ratios),
    "ratios": ratios,
    "processor_ratio": bare_cpu / ours_cpu,
    "bare_compile_seconds": max(first[0] - bare_s, 0.0),
    "ltjax_compile_seconds": max(first[2] - ours_s, 0.0),
    "pseudo_label": count / assign_s,
    "refit_images": count,
    "refit_epochs": REFIT_EPOCHS,
    "refit_views": REFIT_VIEWS,
    "refit_features_seconds": features_s,
    "refit_fit_seconds": fit_s,
  }


def _bare(
  model: models.Model,
  optimizer: optax.GradientTransformation,
  variables: Any,
  batch: tuple[jax.Array, jax.Array],
  steps: int,
) -> Iterator[None]:
  """Runs `steps` steps on one batch every time it is asked."""

  def step(params, batch_stats, opt_state, images, labels):
    def loss_fn(params):
      _, logits, stats = model.apply(params, batch_stats, images, True)
      return jnp.mean(classification.cross_entropy(logits, labels)), stats

    grads, stats = jax.grad(loss_fn, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), stats, opt_state

  call = jax.jit(step, donate_argnums=(0, 1, 2))
  carry = (*variables, optimizer.init(variables[0]))
  while True:
    for _ in range(steps):
      carry = call(*carry, *batch)
    jax.block_until_ready(carry)
    yield


def _epochs(
  stage: fit.Stage,
  state: states.ModelState,
  prepared: tuple[Any, sampling.Stream],
  mesh: Mesh,
) -> Iterator[None]:
  """Runs an epoch of a stage every time it is asked."""
  assert stage.init is not None
  train = states.copy(stage.init(state))
  for tick in fit.fit(stage, train, *prepared, mesh=mesh):
    if tick.epoch_done:
      jax.block_until_ready(tick.state)
      yield


def _refit(
  predictor: inference.Predictor,
  state: states.ModelState,
  images: jax.Array,
  labels: jax.Array,
  batch_size: int,
  mesh: Mesh,
) -> tuple[float, float]:
  """Returns the seconds for features and for fitting, after a warm-up."""
  make = classifier.Maker(
    predictor,
    images=images,
    labels=labels,
    num_classes=NUM_CLASSES,
    recipe=recipes.Recipe(epochs=REFIT_EPOCHS, batch_size=batch_size),
    views=REFIT_VIEWS,
    seed=0,
  )
  stage = make.make(
    "refit", fresh=False, key=jax.random.key(2), report=lambda state: []
  )
  assert stage.prepare is not None
  seconds = []
  for _ in range(2):  # The first compiles.
    began = time.perf_counter()
    prepared = jax.block_until_ready(stage.prepare(state))
    between = time.perf_counter()
    for _ in _epochs(stage, state, prepared, mesh):
      pass
    seconds = [between - began, time.perf_counter() - between]
  return seconds[0], seconds[1]


def _seconds(run: Callable[[], Any]) -> tuple[float, float]:
  """Returns the wall and the processor seconds of a call, its results ready."""
  wall, processor = time.perf_counter(), time.process_time()
  jax.block_until_ready(run())
  return time.perf_counter() - wall, time.process_time() - processor

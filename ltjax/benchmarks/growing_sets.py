"""What is done with growing sets, on growing devices, and how cost should grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import json
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import sampling
from ltjax.augment import crop_flip
from ltjax.benchmarks import growth
from ltjax.benchmarks import measure as measuring
from ltjax.data import splits
from ltjax.evaluation import metrics

BATCH = 128
CLASSES = 10
MOST_CLASSES = 10_000
LEAST = 10_000  # Index entries; below, overheads are all there is.
LEAST_IMAGES = 1000
MOST_IMAGES = 100_000
POOL_OF_CLASSES = 1_000_000  # Labels among which many classes are found.


def streams(largest: int) -> Iterator[growth.Case]:
  """Yields index streams over growing sets, and over growing classes.

  Args:
    largest: index entries.
  """
  sizes = growth.sizes(LEAST, largest)
  for name in ("random", "class_balanced", "square_root"):
    yield growth.Case(
      f"an epoch's order, {name}",
      "index entries",
      sizes,
      lambda n, name=name: growth.on_host(_stream(name, n, CLASSES)),
    )
  pool = min(largest, POOL_OF_CLASSES)
  yield growth.Case(
    f"an epoch's order of {pool:,}, class_balanced",
    "classes",
    growth.sizes(CLASSES, min(pool, MOST_CLASSES)),
    lambda c: growth.on_host(_stream("class_balanced", pool, c)),
    limit=0.0,
  )


def bookkeeping(largest: int) -> Iterator[growth.Case]:
  """Yields what is kept of each image: splits, labels, predictions.

  Args:
    largest: images.
  """
  sizes = growth.sizes(LEAST, largest)
  yield growth.Case(
    "split", "images", sizes, lambda n: growth.on_host(_split(n))
  )
  yield growth.Case("pseudo labels, assigned", "images", sizes, _assignment)
  yield growth.Case("pseudo labels, assessed", "images", sizes, _assessment)
  yield growth.Case(
    f"memory, a step of {BATCH}", "images", sizes, _memory, limit=0.0
  )


def images(largest: int) -> Iterator[growth.Case]:
  """Yields the augmentation of growing sets, batch by batch.

  Args:
    largest: at most so many images.
  """
  yield growth.Case(
    "augmentation",
    "images",
    growth.sizes(LEAST_IMAGES, min(largest, MOST_IMAGES), points=3),
    _augmentation,
  )


def devices(largest: int) -> Iterator[growth.Case]:
  """Yields an epoch of one batch size on growing devices.

  On a CPU the devices are parts of it, so the time should stay; several
  accelerators should make it fall.

  Args:
    largest: at most so many devices.
  """
  on_cpu = jax.devices()[0].platform == "cpu"
  most = min(largest, 4 if on_cpu else len(jax.devices()))
  counts = tuple(2**i for i in range(most.bit_length()))
  if len(counts) > 1:
    yield growth.Case("epoch", "devices", counts, _epoch_on, limit=0.0)


def _labels(count: int, num_classes: int) -> np.ndarray:
  """Returns the labels of a set, more of the first classes."""
  draws = np.random.default_rng(0).random(count) ** 2
  return (draws * num_classes).astype(np.int32)


def _stream(name: str, count: int, num_classes: int) -> Callable[[], Any]:
  labels = _labels(count, num_classes)
  settings = {"name": name, "exponent": 1.0, "beta": 0.9999, "defer": 0.0}
  return lambda: sampling.make(
    settings,
    labels,
    BATCH,
    num_classes=num_classes,
    epochs=1,
    seed=0,
    stage="scaling",
  )(0)


def _split(count: int) -> Callable[[], Any]:
  labels = np.arange(count) % CLASSES
  largest = count // CLASSES // 6
  return lambda: splits.build(
    labels,
    num_classes=CLASSES,
    labeled={"max_count": largest, "rho": 10.0},
    unlabeled={"factor": 5.0},
    validation={},
    seed=0,
  )


def _assignment(count: int) -> growth.Work:
  probabilities = jnp.zeros((count, CLASSES), jnp.float32)
  labels = jnp.zeros(BATCH, jnp.int32)

  def assign(probabilities, labels):
    new = jnp.argmax(probabilities, axis=-1).astype(jnp.int32)
    known = jnp.concatenate([labels, new])
    return known, jnp.bincount(known, length=CLASSES)

  return growth.on_device(assign, probabilities, labels)


def _assessment(count: int) -> growth.Work:
  labels = _labels(count, CLASSES)
  groups = {"many": (0, 1, 2), "few": (7, 8, 9)}
  return growth.on_host(
    lambda: metrics.pseudo_labels(
      labels, labels, num_classes=CLASSES, groups=groups
    )
  )


def _memory(count: int) -> growth.Work:
  """The rows of a batch, read and written in place, as a step does."""
  index = jnp.asarray(np.random.default_rng(0).permutation(count)[:BATCH])

  def touch(memory, index):
    return memory.at[index].set(0.9 * memory[index] + 0.1)

  call = jax.jit(touch, donate_argnums=0)
  memory = jnp.zeros((count, CLASSES), jnp.float32)
  planned = growth.usage.of_compiled(call.lower(memory, index).compile())

  def run():
    nonlocal memory
    memory = call(memory, index)
    return memory

  return growth.Work(run, planned)


def _augmentation(count: int) -> growth.Work:
  pixels = jnp.zeros((count, 32, 32, 3), jnp.uint8)
  half = (0.5,) * 3

  def augment(pixels, key, first):
    index = first + jnp.arange(BATCH)
    cut = crop_flip.random_crop_flip(key, pixels[index])
    return crop_flip.normalize(cut, half, half)

  call, key = jax.jit(augment), jax.random.key(0)
  compiled = call.lower(pixels, key, 0).compile()

  def run():
    return [call(pixels, key, first) for first in range(0, count, BATCH)][-1]

  return growth.Work(run, growth.usage.of_compiled(compiled))


def _epoch_on(count: int) -> growth.Done:
  """An epoch on so many devices; those of a CPU take another process."""
  settings = {"model": "resnet8", "only": ("epoch",), "devices": count}
  if jax.devices()[0].platform != "cpu":
    result = measuring.measure(**settings)
  else:
    command = [sys.executable, "-m", "ltjax.bench", "--json", "--only=epoch"]
    done = subprocess.run(
      [*command, f"--devices={count}"],
      env=os.environ | {"JAX_NUM_CPU_DEVICES": str(count)},
      stdout=subprocess.PIPE,
      text=True,
      check=True,
    )
    result = json.loads(done.stdout)
  row = result["loops"]["epoch"]
  seconds = row["images"] / row["images_per_second"]["median"]
  return growth.Done(seconds, row["memory_bytes"])

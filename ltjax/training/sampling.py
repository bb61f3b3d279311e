"""Index streams: which samples a step sees.

Each stream is a pure function of (seed, stage, epoch), so a checkpoint needs no
iterator state: the position in the stream is the step, and a resumed run draws
what the uninterrupted run would have drawn. `random` has each sample once an
epoch, so class `j` appears with probability `n_j / N`; `class_balanced` draws
with replacement, a class with probability `1 / C` and then one of its samples
uniformly. `by_class` does so with any probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
import zlib

import numpy as np

from ltjax import require
from ltjax.training import class_probabilities

Stream = Callable[[int], np.ndarray]


def generator(seed: int, stage: str, epoch: int) -> np.random.Generator:
  """Returns the generator that belongs to (seed, stage, epoch).

  Args:
    seed, epoch: 0 or more.
    stage: the stage's name.
  """
  return np.random.default_rng([seed, zlib.crc32(stage.encode()), epoch])


def steps_per_epoch(num_samples: int, batch_size: int, name: str) -> int:
  """Returns the full batches in an epoch; the few samples left over wait.

  Args:
    num_samples, batch_size: samples in the set and in a batch; a larger batch
      is a ValueError.
    name: the stage, for the error.
  """
  require.at_least(f"{name}.batch_size", batch_size, 1)
  if batch_size > num_samples:
    raise ValueError(
      f"{name}.batch_size is {batch_size}, but the stage has only"
      f" {num_samples} samples; set --config.{name}.batch_size to"
      f" {num_samples} or less, or enlarge the set."
    )
  return num_samples // batch_size


def random(
  num_samples: int, batch_size: int, *, seed: int, stage: str
) -> Stream:
  """Each sample at most once an epoch, in a new order every epoch.

  It is `epoch -> int32 [num_samples // B, B]`, distinct indices; the remainder
  of the permutation is dropped.

  Args:
    num_samples: size of the set.
    batch_size: `B`.
    seed, stage: of the run; the stage's name. Two stages draw independently.
  """
  steps = steps_per_epoch(num_samples, batch_size, stage)

  def epoch_indices(epoch: int) -> np.ndarray:
    order = generator(seed, stage, epoch).permutation(num_samples)
    return (
      order[: steps * batch_size].astype(np.int32).reshape(steps, batch_size)
    )

  return epoch_indices


def class_balanced(
  labels: np.ndarray,
  batch_size: int,
  *,
  num_classes: int,
  seed: int,
  stage: str,
) -> Stream:
  """Draws every class with the same probability, with replacement.

  It is `epoch -> int32 [N // B, B]`. Classes without a sample (it can happen to
  pseudo labels) are left out, and the others share the draws.

  Args:
    labels: `[N]` integers in `[0, num_classes)`; none in range is a ValueError.
    batch_size: `B`.
    num_classes: `C`.
    seed, stage: of the run; the stage's name.
  """
  labels = np.asarray(labels)
  steps = steps_per_epoch(len(labels), batch_size, stage)
  flat, starts, sizes = _members(labels, num_classes, stage)
  there = np.flatnonzero(sizes)
  starts, sizes = starts[there], sizes[there]

  def epoch_indices(epoch: int) -> np.ndarray:
    rng = generator(seed, stage, epoch)
    chosen = rng.integers(len(there), size=(steps, batch_size))
    within = rng.integers(sizes[chosen])
    return flat[starts[chosen] + within]

  return epoch_indices


def by_class(
  labels: np.ndarray,
  batch_size: int,
  probabilities: Callable[[int], np.ndarray],
  *,
  num_classes: int,
  seed: int,
  stage: str,
) -> Stream:
  """Draws a class with a given probability, then one of its samples.

  With replacement; it is `epoch -> int32 [N // B, B]`.

  Args:
    labels: `[N]` integers; those outside `[0, num_classes)` are never drawn;
      none in range is a ValueError.
    batch_size, num_classes, seed, stage: as of `class_balanced`.
    probabilities: `epoch -> [C]`, of sum 1, 0 for classes without a sample.
  """
  labels = np.asarray(labels)
  steps = steps_per_epoch(len(labels), batch_size, stage)
  flat, starts, sizes = _members(labels, num_classes, stage)
  there = np.flatnonzero(sizes)

  def epoch_indices(epoch: int) -> np.ndarray:
    rng = generator(seed, stage, epoch)
    shape = (steps, batch_size)
    # The last edge, 1 but for rounding, is left out: no draw falls beyond it.
    edges = np.cumsum(probabilities(epoch)[there])[:-1]
    chosen = there[np.searchsorted(edges, rng.random(shape), side="right")]
    return flat[starts[chosen] + rng.integers(sizes[chosen])]

  return epoch_indices


def make(
  settings: Mapping[str, Any],
  labels: np.ndarray,
  batch_size: int,
  *,
  num_classes: int,
  epochs: int,
  seed: int,
  stage: str,
) -> Stream:
  """Builds the stream, `epoch -> int32 [N // B, B]`, of a `sampler` block.

  With `defer` the first `round(defer * epochs)` epochs draw as `random` does,
  the others by the sampler, at least the last one: deferred re-sampling, DRS.

  Args:
    settings: `name`, one of `class_probabilities.NAMES`; `exponent` of "power";
      `beta` of "effective_number"; `defer` in `[0, 1)`.
    labels, batch_size, num_classes, seed, stage: as of `class_balanced`.
    epochs: how many epochs the stage has.

  Raises:
    ValueError: if the name is unknown, a number out of range, or there is
      nothing to draw from.

  Source: Kang et al. (2020), Section 3; for the deferral Cao et al. (2019),
    Section 3.3.
  """
  labels = np.asarray(labels)
  at_random = random(len(labels), batch_size, seed=seed, stage=stage)
  if settings["name"] == "random":
    return at_random
  _, _, sizes = _members(labels, num_classes, stage)
  choices = {"num_classes": num_classes, "seed": seed, "stage": stage}
  if settings["name"] == "class_balanced":
    resampled = class_balanced(labels, batch_size, **choices)
  else:
    rule = class_probabilities.over_epochs(settings, sizes, epochs=epochs)
    resampled = by_class(labels, batch_size, rule, **choices)
  begin = min(round(settings["defer"] * epochs), epochs - 1)

  def epoch_indices(epoch: int) -> np.ndarray:
    return (resampled if epoch >= begin else at_random)(epoch)

  return epoch_indices


def _members(
  labels: np.ndarray, num_classes: int, stage: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Sorts samples by class; tells each class's beginning and size, `[C]`."""
  # One stable sort, and not a search a class: linear however many there are.
  known = np.flatnonzero((labels >= 0) & (labels < num_classes))
  if not len(known):
    raise ValueError(f"{stage}: no label lies in [0, {num_classes}).")
  order = np.argsort(labels[known], kind="stable")
  flat = known[order].astype(np.int32)
  sizes = np.bincount(labels[known], minlength=num_classes)
  return flat, np.cumsum(sizes) - sizes, sizes

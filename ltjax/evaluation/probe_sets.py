"""Probe sets: the labeled images that an embedding is judged with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ltjax.data import task as tasks
from ltjax.training import sampling


def choose(
  kind: str, task: tasks.Task, *, shots: int, seed: int, protocol: str
) -> tuple[Any, np.ndarray]:
  """Returns the images to learn a classifier from, with their labels.

  Images are uint8 `[P, H, W, C]`, where those of the task are, labels int32
  `[P]` on the host. No pool, or a class with too few, is a ValueError.

  Args:
    kind: `labeled`, the long-tailed labeled set; `few_shot`, equally many of
      its images a class; `pool`, the set that `data.probe` describes.
    task: the data.
    shots: images a class of `few_shot`; 0 for those of the smallest class.
    seed: which images are drawn for `few_shot`.
    protocol: who needs them, for errors.
  """
  if kind == "pool":
    images, labels = task.probe_images, np.asarray(task.probe_labels)
    if not len(labels):
      raise ValueError(
        f"The protocol {protocol} learns from a balanced set of labeled images,"
        " and there is none: set --config.data.probe.images=train, or take a"
        " protocol that needs none, such as"
        " --config.probe.protocols=sdclr_fewshot."
      )
  else:
    labels = np.asarray(task.labels)
    images = task.images[: len(labels)]
  counts = np.bincount(labels, minlength=task.num_classes)
  if not counts.all():
    name = task.class_names[int(np.argmin(counts))]
    raise ValueError(
      f"The protocol {protocol} needs a labeled image of every class; {name}"
      " has none. Change data.labeled or data.probe, or leave the class out of"
      " the set."
    )
  if kind == "few_shot":
    index = few_shot(
      labels, shots=shots, class_names=task.class_names, seed=seed
    )
    images, labels = images[index], labels[index]
  return images, labels.astype(np.int32)


def few_shot(
  labels: np.ndarray, *, shots: int, class_names: Sequence[str], seed: int
) -> np.ndarray:
  """Draws equally many images of each class: int64 `[shots * C]`, by class.

  Args:
    labels: integers `[N]` in `[0, C)`.
    shots: images a class; 0 for as many as the smallest class has; more than
      that are a ValueError.
    class_names: one name a class.
    seed: which ones.

  Source: Jiang et al. (2021), who take the size of the smallest class.
  """
  counts = np.bincount(labels, minlength=len(class_names))
  smallest = int(np.argmin(counts))
  least = int(counts[smallest])
  if shots > least:
    raise ValueError(
      f"probe.shots is {shots}, but {class_names[smallest]} has only {least}"
      f" labeled images; set --config.probe.shots to {least} or less (0: those"
      " of the smallest class), or give the class more in data.labeled."
    )
  rng = sampling.generator(seed, "probe/few_shot", 0)
  return np.concatenate(
    [
      rng.permutation(np.flatnonzero(labels == c))[: shots or least]
      for c in range(len(class_names))
    ]
  )

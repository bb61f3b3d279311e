"""What stages draw: the labeled images, all of them, or pairs.

Each of the four returns the `step.Data` of a stage, whose step then reads

- `images` uint8 `[N + M, H, W, C]`, the labeled ones first,
- `labels` int32, of those that are drawn; -1 where unknown,
- `counts` float32 `[C]`, the images of each class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data.host import host_images
from ltjax.training import sampling, step
from ltjax.training.state import ModelState

RANDOM: Mapping[str, Any] = types.MappingProxyType(
  {"name": "random", "exponent": 1.0, "beta": 0.9999, "defer": 0.0}
)
COUNTS = ("labeled", "all")


@dataclasses.dataclass(frozen=True)
class Samples:
  """Images and what is known of them.

  Attributes:
    images: uint8 `[N + M, H, W, C]`, the labeled ones first.
    labels: int32 `[N]`, -1 where unknown.
    num_classes: C.
    seed: of the run, from which the order derives.
  """

  images: jax.Array | host_images.HostImages
  labels: jax.Array
  num_classes: int
  seed: int

  def sampler(
    self,
    settings: Mapping[str, Any],
    labels: jax.Array,
    batch_size: int,
    *,
    name: str,
    epochs: int,
  ) -> sampling.Stream:
    """Returns the batches of a stage, see `sampling.make`.

    Args:
      settings, labels, batch_size: as of `sampling.make`.
      name, epochs: of the stage.
    """
    return sampling.make(
      settings,
      np.asarray(labels),
      batch_size,
      num_classes=self.num_classes,
      epochs=epochs,
      seed=self.seed,
      stage=name,
    )

  def counts(self, labels: jax.Array) -> jax.Array:
    """Returns float32 `[C]`: how often each class is among int32 labels.

    Those below 0 are of none.
    """
    known = jnp.where(labels < 0, self.num_classes, labels)
    counts = jnp.bincount(known, length=self.num_classes)
    return counts.astype(jnp.float32)


def labeled(
  samples: Samples,
  batch_size: int,
  *,
  field: str,
  sampler: Mapping[str, Any] = RANDOM,
  also: Callable[[ModelState], dict[str, Any]] = lambda state: {},
) -> step.Data:
  """Draws labeled images; an epoch is as many draws as there are.

  Args:
    samples: the images; others than the labeled ones are not drawn.
    batch_size: B, no more than images, else a ValueError.
    field: the config block, for errors.
    sampler: as the config's block `sampler`.
    also: `model_state -> arrays` that the step reads besides.
  """
  return _singles(
    samples,
    batch_size,
    num=len(samples.labels),
    field=field,
    sampler=sampler,
    known=lambda state: samples.labels,
    counted=lambda state: samples.labels,
    also=also,
  )


def everything(
  samples: Samples,
  batch_size: int,
  *,
  field: str,
  sampler: Mapping[str, Any] = RANDOM,
  counts: str = "labeled",
  also: Callable[[ModelState], dict[str, Any]] = lambda state: {},
) -> step.Data:
  """Draws labeled and pseudo-labeled images alike.

  Args:
    samples, batch_size, field, sampler, also: as of `labeled`, as are errors.
    counts: those of the `labeled` images, or of `all`.
  """

  def known(state: ModelState) -> jax.Array:
    return jnp.concatenate([samples.labels, state.pseudo_labels])

  return _singles(
    samples,
    batch_size,
    num=len(samples.images),
    field=field,
    sampler=sampler,
    known=known,
    counted=known if counts == "all" else lambda state: samples.labels,
    also=also,
  )


def _singles(
  samples: Samples,
  batch_size: int,
  *,
  num: int,
  field: str,
  sampler: Mapping[str, Any],
  known: Callable[[ModelState], jax.Array],
  counted: Callable[[ModelState], jax.Array],
  also: Callable[[ModelState], dict[str, Any]],
) -> step.Data:
  def prepare(state: ModelState, name: str, epochs: int):
    labels = known(state)
    arrays = {
      "images": samples.images,
      "labels": labels,
      "counts": samples.counts(counted(state)),
    }
    stream = samples.sampler(
      sampler, labels, batch_size, name=name, epochs=epochs
    )
    return arrays | also(state), stream

  steps = sampling.steps_per_epoch(num, batch_size, field)
  return step.Data(steps, batch_size, prepare)


def pairs(
  samples: Samples,
  batch_size: int,
  *,
  ratio: int,
  field: str,
  sampler: Mapping[str, Any] = RANDOM,
  steps: int = 0,
  pseudo_labels: bool = False,
) -> step.Data:
  """Draws labeled images, and `ratio` times as many unlabeled ones with them.

  Both streams have epochs of their own, passes over the labeled and over the
  unlabeled images, and go on across those of the stage. Labeled images come
  first.

  Args:
    samples, field, sampler: as of `labeled`, as are errors.
    batch_size: labeled images in a step.
    ratio: unlabeled images to a labeled one, 1 or more.
    steps: in an epoch of the stage; 0 for one pass over the unlabeled images.
    pseudo_labels: whether images of the pool that have a pseudo label are drawn
      as labeled ones too; drawn with replacement then, all equally likely.
  """
  num_labeled = len(samples.labels)
  num_unlabeled = len(samples.images) - num_labeled
  if num_unlabeled == 0:
    raise ValueError(
      "There are no unlabeled images for a consistency term. Raise"
      " data.unlabeled.factor, name a pool in data.unlabeled.source, or choose"
      " --config.method=supervised, which needs none."
    )
  labeled_steps = sampling.steps_per_epoch(num_labeled, batch_size, field)
  if batch_size * ratio > num_unlabeled:
    raise ValueError(
      f"{field}.batch_size is {batch_size} with {ratio} unlabeled images to a"
      f" labeled one, but there are only {num_unlabeled} unlabeled images;"
      f" lower {field}.batch_size or {field}.unlabeled_ratio, or enlarge the"
      " pool."
    )
  unlabeled_steps = num_unlabeled // (batch_size * ratio)
  steps = steps or unlabeled_steps

  def prepare(state: ModelState, name: str, epochs: int):
    unknown = jnp.full((num_unlabeled,), -1, samples.labels.dtype)
    labels = jnp.concatenate(
      [samples.labels, state.pseudo_labels if pseudo_labels else unknown]
    )
    arrays = {
      "images": samples.images,
      "labels": labels,
      "counts": samples.counts(labels),
    }
    first = samples.sampler(
      sampler,
      samples.labels,
      batch_size,
      name=name,
      epochs=-(-epochs * steps // labeled_steps),
    )
    if pseudo_labels:
      first = _with_replacement(samples, labels, batch_size, name)
    return arrays, join(
      first,
      sampling.random(
        num_unlabeled,
        batch_size * ratio,
        seed=samples.seed,
        stage=name + "/unlabeled",
      ),
      num_labeled=num_labeled,
      labeled_steps=labeled_steps,
      unlabeled_steps=unlabeled_steps,
      steps=steps,
    )

  return step.Data(steps, batch_size * (1 + ratio), prepare, 1 + ratio)


def _with_replacement(
  samples: Samples, labels: jax.Array, batch_size: int, name: str
) -> sampling.Stream:
  """Draws images of known labels, `epoch -> int32 [N // B, B]`."""
  places = np.flatnonzero(np.asarray(labels) >= 0).astype(np.int32)
  shape = (len(samples.labels) // batch_size, batch_size)

  def stream(epoch: int) -> np.ndarray:
    rng = sampling.generator(samples.seed, name, epoch)
    return places[rng.integers(len(places), size=shape)]

  return stream


def partners(
  samples: Samples,
  batch_size: int,
  *,
  field: str,
  sampler: Mapping[str, Any] = RANDOM,
) -> step.Data:
  """Draws labeled images, and with each a labeled partner to mix it with.

  An epoch is one pass over the labeled images. The partners of a batch come
  last, drawn by another stream of the same length.

  Args:
    samples, field: as of `labeled`, as are errors.
    batch_size: pairs in a step.
    sampler: as of `labeled`, of the partners.
  """
  singles = labeled(samples, batch_size, field=field)
  others = labeled(samples, batch_size, field=field, sampler=sampler)

  def prepare(state: ModelState, name: str, epochs: int):
    arrays, stream = singles.prepare(state, name, epochs)
    _, partner = others.prepare(state, name + "/partners", epochs)
    return arrays, lambda epoch: np.concatenate(
      [stream(epoch), partner(epoch)], axis=1
    )

  return step.Data(singles.steps, 2 * batch_size, prepare, 2)


def join(
  labeled: sampling.Stream,
  unlabeled: sampling.Stream,
  *,
  num_labeled: int,
  labeled_steps: int,
  unlabeled_steps: int,
  steps: int,
) -> sampling.Stream:
  """Joins two streams, each of which has epochs of its own.

  It is `epoch -> int32 [steps, B_l + B_u]`, a function of the epoch alone:
  batch `t` of the stage has the batches `t` of both, counted over all epochs.

  Args:
    labeled: `epoch -> int32 [labeled_steps, B_l]`.
    unlabeled: `epoch -> int32 [unlabeled_steps, B_u]`, from 0.
    num_labeled: `N`, where the unlabeled images begin.
    labeled_steps, unlabeled_steps, steps: batches in an epoch, of the labeled,
      of the unlabeled and in all.
  """

  def within(stream: sampling.Stream, length: int, epoch: int) -> np.ndarray:
    begin, end = epoch * steps, (epoch + 1) * steps
    first, last = begin // length, (end - 1) // length
    drawn = np.concatenate([stream(e) for e in range(first, last + 1)])
    return drawn[begin - first * length :][:steps]

  def stream(epoch: int) -> np.ndarray:
    x = within(labeled, labeled_steps, epoch)
    u = within(unlabeled, unlabeled_steps, epoch)
    return np.concatenate([x, num_labeled + u], axis=1).astype(np.int32)

  return stream

"""Drawing a split: the labeled, unlabeled and validation images of a run.

The images of each class are put in order once, shuffled with a generator of
`(seed, class)`, or as they lie in the file. The labeled set takes from the
front, the unlabeled set goes on from there, and validation takes from the back.
So the three are disjoint, no set depends on whether another is drawn behind it,
and asking for more images adds to a set without replacing any. A set whose
images a file names (`index_files`) is taken first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ltjax import require
from ltjax.data.splits import (
  generators,
  index_files,
  irrelevant,
  probe_set,
  record,
  settings,
  shortage,
)
from ltjax.data.splits import plan as plan_lib

Split = record.Split
check = record.check


def build(
  labels: np.ndarray,
  *,
  num_classes: int,
  labeled: Mapping,
  unlabeled: Mapping,
  validation: Mapping,
  probe: Mapping | None = None,
  seed: int,
  order: str = "shuffled",
  pool_labels: np.ndarray | None = None,
  irrelevant_labels: np.ndarray | None = None,
  class_names: Sequence[str] | None = None,
  held: np.ndarray | None = None,
) -> record.Split:
  """Draws a labeled, an unlabeled and a validation set from a training set.

  Settings left out keep the defaults of `settings.LABELED`, `UNLABELED`,
  `VALIDATION` and `PROBE`, as `data.labeled.rho` of a config.

  Args:
    labels: `[N]` integers, the classes of the training images.
    num_classes: `C`.
    labeled: `profile` and its parameters, see `profiles.counts`; or an
      `index_file`, whose counts take the profile's place.
    unlabeled: How many unlabeled images of each class, and where from.

      * `source`: `train`, or the name of the pool that `pool_labels` is of.
      * `factor`: Unlabeled images per labeled one. Zero: no unlabeled set.
      * `profile`: `same` (`factor` times the labeled counts; the same profile
        with its own `max_count` or `rho` if one is given), `reversed` (that,
        the most populated class getting the smallest number), `middle` and
        `head_tail` (that, the largest numbers going to the classes in the
        middle of the labeled ranking, or to its two ends), `uniform`,
        `exponential` (`max_count` or `factor` times the largest class; `rho` or
        the labeled one), `rescaled` (`profiles.rescaled` to `total` or `factor`
        times all labeled images), `explicit` (`counts`) or `natural` (all that
        is left of the source; with `total`, that many of it at random).
      * `uniform`: "Uniform unlabeled data" is two things in the literature.
        `per_class`: `max_count` images of each class (3000 each in ACR, CoSSL,
        DASO), else `factor` times the largest labeled class. `total`: `total`
        or `max_count` images in all, evenly over the classes (3000 in all, 300
        each in USB), else `factor` times all labeled images.
      * `relevance`: Share of the images which have one of the classes; the
        total stays. The rest are `irrelevant` ones, drawn at random.
    validation: `per_class` images of each class, or an `index_file`.
    probe: Labeled images for evaluation alone, see `probe_set.add`, or None.
    seed: Of the shuffles, at least 0.
    order: `shuffled`, or `file`: the first images of each class in the order of
      the file (DARP, ABC, CDMAD, ACR).
    pool_labels: `[P]` integers, the classes of an external pool, -1 if unknown.
    irrelevant_labels: `[Q]` integers, of the images of other classes, where
      there are any; their values only tell one set from another.
    class_names: `[C]` names for messages.
    held: Indices of validation images that are chosen already, or None.

  Raises:
    ValueError: Labels that are not integers in range; settings that are wrong
      or do not go together; a class without a labeled image or with too few
      images, with the largest setting that fits.
    FileNotFoundError: There is no such index file.
  """
  names = tuple(class_names or map(str, range(num_classes)))
  if len(names) != num_classes:
    raise ValueError(f"{len(names)} class names for {num_classes} classes")
  labels = _labels(labels, "labels", num_classes, low=0)
  if pool_labels is not None:
    pool_labels = _labels(pool_labels, "pool labels", num_classes, low=-1)
  if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
    raise ValueError(f"seed is {seed!r}: it must be an integer")
  require.at_least("seed", seed, 0)
  require.choice("data.order", order, generators.ORDERS)
  asked = (
    settings.complete("labeled", labeled, settings.LABELED),
    settings.complete("unlabeled", unlabeled, settings.UNLABELED),
    settings.complete("validation", validation, settings.VALIDATION),
  )
  ours, chosen, given = index_files.apply(
    asked[0], asked[2], labels=labels, names=names, held=held
  )
  blocks = (ours, asked[1], chosen)
  external = blocks[1]["source"] != "train"
  if external != (pool_labels is not None):
    raise ValueError(
      f"data.unlabeled.source is {blocks[1]['source']!r} but "
      f"{'no' if external else 'a'} pool was given"
    )

  available = np.bincount(labels, minlength=num_classes)
  for c in np.flatnonzero(available == 0):
    raise ValueError(
      f"class {c} ({names[c]}) has no image in the training set: give it some "
      "or leave the class out"
    )
  plan = plan_lib.make(*blocks, available=available)
  pool = None
  if pool_labels is not None:
    known = pool_labels[pool_labels >= 0]
    pool = np.bincount(known, minlength=num_classes)
    wanted = 0 if plan.unlabeled is None else plan.unlabeled.sum()
    if wanted and not len(known):
      raise ValueError(
        f"data.unlabeled.profile is {blocks[1]['profile']!r} but the pool has "
        "no labels to select by: use profile 'natural' (with total for less "
        "than all of it)"
      )
  shortage.check(plan, blocks, available=available, pool=pool, names=names)

  free = np.ones(len(labels), bool)
  free[np.concatenate(given)] = False
  # What the files give need not be drawn.
  to_label = plan.labeled - np.bincount(
    labels[given.labeled], minlength=num_classes
  )
  to_hold = plan.validation - np.bincount(
    labels[given.validation], minlength=num_classes
  )
  ours, theirs, held_out = [given.labeled], [], [given.validation]
  for c in range(num_classes):
    images = generators.of_class(labels, c, order=order, seed=[int(seed), c])
    images = images[free[images]]
    n, v = int(to_label[c]), int(to_hold[c])
    ours.append(images[:n])
    held_out.append(images[len(images) - v :])
    if plan.unlabeled is not None:
      m = int(plan.unlabeled[c])
      source = images[n:]
      if pool_labels is not None:
        source = generators.of_class(
          pool_labels, c, order=order, seed=[int(seed), c, 1]
        )
      theirs.append(source[:m])
  others = plan.irrelevant
  if plan.unlabeled is None:
    taken = np.zeros(0, np.int64)
    if pool_labels is None:
      taken = np.concatenate(ours + held_out)
    size = len(labels if pool_labels is None else pool_labels)
    left = np.setdiff1d(np.arange(size), taken)
    total = blocks[1]["total"] or len(left)
    wanted = int(blocks[1]["relevance"] * total + 1e-9)
    others = total - wanted
    theirs = [
      generators.of_rest(
        left, wanted, order=order, seed=[int(seed), num_classes]
      )
    ]
  strangers = irrelevant.draw(
    others,
    irrelevant_labels,
    unlabeled=blocks[1],
    order=order,
    seed=[int(seed), num_classes, 1],
  )

  indices = [np.sort(np.concatenate(p)) for p in (ours, theirs, held_out)]
  if blocks[1]["factor"] > 0 and not len(indices[1]) + len(strangers):
    raise ValueError(
      "the unlabeled set is empty: ask for more in data.unlabeled, or set "
      "data.unlabeled.factor to 0 to do without"
    )
  truth = (labels if pool_labels is None else pool_labels)[indices[1]]
  unknown = len(truth) > 0 and truth.min() < 0

  def tally(classes: np.ndarray) -> tuple[int, ...]:
    return tuple(np.bincount(classes, minlength=num_classes).tolist())

  split = record.Split(
    labeled=indices[0],
    unlabeled=indices[1],
    validation=indices[2],
    labeled_counts=tally(labels[indices[0]]),
    unlabeled_counts=() if unknown else tally(truth),
    validation_counts=tally(labels[indices[2]]),
    unlabeled_from="train" if pool_labels is None else "pool",
    irrelevant=strangers,
    arguments=dict(
      num_classes=int(num_classes),
      labeled=settings.recorded(asked[0]),
      unlabeled=settings.recorded(asked[1]),
      validation=settings.recorded(asked[2]),
      seed=int(seed),
      order=order,
    ),
    fingerprint=record.fingerprint(
      labels, pool_labels, irrelevant_labels if len(strangers) else None
    ),
  )
  return probe_set.add(split, labels, probe or {}, class_names=names)


def _labels(
  labels: np.ndarray, name: str, num_classes: int, *, low: int
) -> np.ndarray:
  labels = np.asarray(labels)
  if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(
      f"{name} must be a vector of integers: they are {labels.dtype} of shape "
      f"{labels.shape}"
    )
  wrong = np.flatnonzero((labels < low) | (labels >= num_classes))
  if len(wrong):
    i = wrong[0]
    raise ValueError(
      f"{name}[{i}] is {labels[i]}: with {num_classes} classes they must be "
      f"from {low} to {num_classes - 1}"
    )
  return labels.astype(np.int64)

"""A finished run asked what to look at next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from ltjax import require
from ltjax.data import task as tasks
from ltjax.methods import build, frozen
from ltjax.models import pretrained
from ltjax.report import page as report
from ltjax.runs import finished, pictures
from ltjax.runs import trained as trained_lib
from ltjax.suggest import label_errors, ranking
from ltjax.trust import calibration, cross_validation

BY = ("margin", "entropy", "rare", "coreset")
_WITH_FILES = ("folder", "list", "csv")

Row = dict[str, Any]


class Suggested(NamedTuple):
  """Pictures to label, and those that could not be read.

  Attributes:
    rows: `image`, `score`, `class`, `probability`, the most telling first.
    errors: `image` and `error`.
  """

  rows: list[Row]
  errors: list[Row]


class Checked(NamedTuple):
  """Labels that may be wrong.

  Attributes:
    rows: `image` (a path, or the number in the set's training images), `class`
      of the label, `probability` of it, `seems` and `seems_probability`.
    pixels: uint8 `[H, W, C]` of the image of a row, by its place.
    about: a sentence on what was looked at.
  """

  rows: list[Row]
  pixels: Callable[[int], np.ndarray]
  about: str


def suggest(
  workdir: str | Path,
  files: Sequence[Path],
  *,
  number: int = 100,
  by: str = "margin",
  head: str = "balanced",
  calibrated: bool = False,
  data_dir: str | None = None,
) -> Suggested:
  """Chooses pictures whose labels would tell most.

  Args:
    workdir: the run's folder.
    files: unlabeled pictures.
    number: how many to choose.
    by: one of `BY`; `coreset` reads the run's labeled images again.
    head: `balanced` for g, `random` for g'.
    calibrated: whether by the run's calibration.
    data_dir: where data sets live, for `coreset`; None for the default.

  Raises:
    FileNotFoundError, ValueError: if there is no finished run, a choice does
      not fit, or no picture can be read.
  """
  require.choice("--by", by, BY)
  require.at_least("--number", number, 1)
  trained = trained_lib.load(workdir)
  change = calibration.load(workdir, head).apply if calibrated else None
  if by == "coreset" and trained.views.averaged[0] is not None:
    raise ValueError(
      f"--by=coreset compares plain images, and eval.views is"
      f" {trained.views.name!r}; choose another --by."
    )
  known = np.zeros((0, 0), np.float32)
  if by == "coreset":
    known = finished.reopen(workdir, data_dir).features()
  features, logits, kept, errors = [], [], [], []
  for chunk, batch, wrong in pictures.batches(
    trained, files, pictures.BATCH_SIZE
  ):
    x, z = trained.run(batch, head)
    good = [i for i in range(len(chunk)) if i not in wrong]
    logits.append(z[good])
    if by == "coreset":
      features.append(x[good])
    kept += [str(chunk[i]) for i in good]
    errors += [
      {"image": str(path), "error": wrong[i]}
      for i, path in enumerate(chunk)
      if i in wrong
    ]
  if not kept:
    raise ValueError(
      f"None of the {len(files)} pictures can be read; the first:"
      f" {errors[0]['image']}: {errors[0]['error']}"
    )
  found = special.softmax(np.concatenate(logits), axis=1)
  found = found if change is None else change(found)
  if by == "coreset":
    chosen, scores = ranking.coreset(np.concatenate(features), known, number)
  else:
    few = report.read_summary(Path(workdir))["groups"]["few"]
    every = (
      ranking.rare(found, few) if by == "rare" else getattr(ranking, by)(found)
    )
    chosen = np.argsort(-every, kind="stable")[:number]
    scores = every[chosen]
  best = found.argmax(1)
  rows = [
    {
      "image": kept[i],
      "score": round(float(score), 6),
      "class": trained.classes[best[i]],
      "probability": round(float(found[i, best[i]]), 6),
    }
    for i, score in zip(chosen, scores)
  ]
  return Suggested(rows, errors)


def check_labels(
  workdir: str | Path,
  *,
  number: int = 100,
  head: str = "balanced",
  data_dir: str | None = None,
) -> Checked:
  """Finds labels of a run that may be wrong.

  With a frozen backbone all labeled images are looked at, by linear classifiers
  of their features that did not see them (five folds). A network that was
  trained has seen them, so that only its validation images are left.

  Args:
    workdir: the run's folder.
    number: how many to tell at most.
    head: of a network that was trained, as of `suggest`.
    data_dir: where data sets live; None for the default.

  Raises:
    FileNotFoundError, ValueError: as `finished.reopen`; or if there are no
      images that the network did not learn from.
  """
  require.at_least("--number", number, 1)
  run = finished.reopen(workdir, data_dir)
  task = run.task
  if run.config.model.tune in pretrained.FROZEN:
    learner = build.build_learner(run.config, task, run.mesh)
    bank = frozen.on_features(learner, run.config).task.images
    x = pretrained.standardized(np.asarray(bank[: task.num_labeled, 0, 0]))
    labels = np.asarray(task.labels)
    found, held = cross_validation.probabilities(
      x,
      labels,
      num_classes=task.num_classes,
      groups=task.labeled_groups,
      seed=run.config.seed,
    )
    part, index = "images", np.flatnonzero(held)
    about = (
      f"{len(index):,} of {len(labels):,} labeled images, by linear classifiers"
      " of the features of those in other folds (5)"
    )
    if len(index) < len(labels):
      about += "; the others are alone in their class"
    numbers = task.split.labeled
  else:
    try:
      found, labels = run.probabilities("validation", head=head)
    except ValueError:
      raise ValueError(
        "Labels are checked by a model that did not learn from them, and this"
        " run has no such images: train it with"
        " --config.data.validation.per_class above 0, or a run on frozen"
        " features (--config.model.tune=head), whose images are checked by"
        " cross-validation."
      ) from None
    part, index = "validation_images", np.arange(len(labels))
    about = (
      f"{len(index):,} validation images, by the network, which did not see"
      " them; of its training images it knows the labels"
    )
    numbers = task.split.validation
  suspects = label_errors.find(found[index], labels[index])
  names = _paths(run, part, data_dir)
  chosen = index[suspects.images[:number]]
  rows = [
    {
      "image": str(names[i]) if names else int(numbers[i]),
      "class": task.class_names[labels[i]],
      "probability": round(float(found[i, labels[i]]), 6),
      "seems": task.class_names[c],
      "seems_probability": round(float(found[i, c]), 6),
    }
    for i, c in zip(chosen, suspects.classes)
  ]
  about = f"{len(suspects.images):,} suspects among {about}."
  images = getattr(task, part)
  return Checked(rows, lambda place: _pixels(images, int(chosen[place])), about)


def _pixels(images: Any, index: int) -> np.ndarray:
  return np.asarray(images[index : index + 1])[0]


def _paths(
  run: finished.Reopened, part: str, data_dir: str | None
) -> list[Path] | None:
  """Returns the files of the images of a part, if they are files."""
  data = run.config.data
  if data.source.partition(":")[0] not in _WITH_FILES:
    return None
  images: Any = getattr(run.task, part)
  if not hasattr(images, "files"):
    # The same set unread: it then knows its files.
    config = run.config.copy_and_resolve_references()
    config.data.storage = "host"
    config.data.image_size = data.image_size or run.task.images.shape[1]
    config.data.copies = "ignore"
    try:
      task: tasks.Task = build.build_task(config, run.mesh, data_dir)
    except ValueError:
      return None
    if task.split.hash != run.task.split.hash:
      return None
    images = getattr(task, part)
  return images.files()

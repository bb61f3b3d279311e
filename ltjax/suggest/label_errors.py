"""Which labels may be wrong: confident learning."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ltjax.evaluation import checks


class Suspects(NamedTuple):
  """Labels that may be wrong, the likeliest first.

  Attributes:
    images: int64 `[S]`.
    classes: int64 `[S]`, what they seem to be.
    scores: `[S]`, the probability of that less the one of the label.
    joint: `[C, C]`, estimated shares of images by label and true class.
  """

  images: np.ndarray
  classes: np.ndarray
  scores: np.ndarray
  joint: np.ndarray


def find(probabilities: np.ndarray, labels: np.ndarray) -> Suspects:
  """Finds labels that contradict confident predictions.

  A picture counts as of class j if its probability of j is at least

      t_j = mean of p_j over the images labeled j,

  and of several such j as of the most probable. Those of another class than
  their label are the suspects. A rare class has a low t_j, as its images have
  low probabilities, so that none is called wrong for being rare.

  Args:
    probabilities: `[N, C]`, of a model that did not see the image's label.
    labels: `[N]` integers.

  Raises:
    ValueError: if arrays do not fit.

  Source: Northcutt, Jiang & Chuang (2021), "Confident learning: estimating
    uncertainty in dataset labels", equations 1 to 3; off-diagonals of the
    confident joint as errors (`C_confusion`), ranked by normalized margin.
  """
  given = checks.distributions(probabilities)
  truth = checks.labels(labels, "labels", *given.shape, low=0)
  counts = np.bincount(truth, minlength=given.shape[1])
  own = given[np.arange(len(truth)), truth]
  limits = np.full(len(counts), np.inf)  # of a class without images
  sums = np.bincount(truth, own, minlength=len(counts))
  np.divide(sums, counts, out=limits, where=counts > 0)
  # A mean of equal numbers may round to above them.
  confident = np.where(given >= limits - 1e-12, given, -np.inf)
  seems = confident.argmax(1)
  counted = np.isfinite(confident.max(1))
  table = np.zeros((len(counts),) * 2)
  np.add.at(table, (truth[counted], seems[counted]), 1)
  # Brought to the number of each label; a label without any as it is.
  sums = table.sum(1, keepdims=True)
  table = np.where(sums > 0, table / np.maximum(sums, 1), np.eye(len(counts)))
  joint = table * counts[:, None] / max(len(truth), 1)
  found = np.flatnonzero(counted & (seems != truth))
  scores = given[found, seems[found]] - own[found]
  order = np.argsort(-scores, kind="stable")
  return Suspects(found[order], seems[found][order], scores[order], joint)

"""Probabilities that mean what they say: temperature and class biases.

`q = softmax(log p / T + b)`, fitted on validation images by maximum likelihood,
which is convex in `1 / T` and `b`. Calibrated probabilities belong to a world
with the shares of the classes that the validation images have.

    temperature   T alone: no prediction changes
    bias          T and a bias for each class
    prior         T and `b = a log pi`, pi the labeled shares: logit adjustment
                  with a fitted strength, for when validation images are few
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special

from ltjax import require
from ltjax.evaluation import checks
from ltjax.runs import workdir as workdirs

KINDS = ("temperature", "bias", "prior")
FILE = "calibration.json"
_BOUNDS = (0.05, 20.0)  # of 1 / T
_LEAST = 1e-30  # of a probability, which fp32 may have rounded to 0


@dataclasses.dataclass(frozen=True)
class Calibration:
  """A fitted map of probabilities.

  Attributes:
    kind: one of `KINDS`.
    temperature: T, above 0; above 1 where the model was too sure.
    bias: `[C]`, b; mean 0.
    shares: `[C]`, of the classes among the images that it was fitted on.
  """

  kind: str
  temperature: float
  bias: tuple[float, ...]
  shares: tuple[float, ...]

  def apply(self, probabilities: np.ndarray) -> np.ndarray:
    """Returns calibrated probabilities, float64 `[T, C]`.

    Args:
      probabilities: `[T, C]`.

    Raises:
      ValueError: if they are no distributions, or of other classes.
    """
    given = checks.distributions(probabilities)
    if given.shape[1] != len(self.bias):
      raise ValueError(
        f"probabilities are of {given.shape[1]} classes, the calibration of"
        f" {len(self.bias)}; fit one on this model."
      )
    return special.softmax(
      _logs(given) / self.temperature + np.asarray(self.bias), axis=1
    )


class Reliability(NamedTuple):
  """Confidence beside accuracy, by bins of equal width that have images.

  Attributes:
    confidence: mean of the greatest probabilities of each bin.
    accuracy: share of its images that are right.
    count: its images.
  """

  confidence: np.ndarray
  accuracy: np.ndarray
  count: np.ndarray


def fit(
  probabilities: np.ndarray,
  labels: np.ndarray,
  *,
  kind: str = "temperature",
  prior: Sequence[float] | np.ndarray | None = None,
  penalty: float = 1.0,
) -> Calibration:
  """Fits a calibration by L-BFGS.

  It minimizes `sum_i -log q_i[y_i] + penalty / 2 ((1 / T - 1)^2 + |b|^2)`, with
  1 / T in [0.05, 20]. The penalty is worth about an image; it keeps a class
  without images, or a set that is all right, from an infinite answer.

  Args:
    probabilities: `[V, C]`, of validation images.
    labels: `[V]` integers, their true classes.
    kind: one of `KINDS`.
    prior: pi, `[C]` above 0, for `prior`.
    penalty: its strength, above 0.

  Raises:
    ValueError: if there are no images, or a setting does not fit.

  Source: Guo et al. (2017), "On calibration of modern neural networks", Section
    4.2; Alexandari et al. (2020), "Maximum likelihood with bias-corrected
    calibration is hard-to-beat at label shift adaptation", for the bias.
  """
  require.choice("calibration", kind, KINDS)
  require.within("penalty", penalty, "(0, inf)")
  given, labels = _checked(probabilities, labels)
  logs, num_classes = _logs(given), given.shape[1]
  design = np.zeros((num_classes, 0))
  if kind == "bias":
    design = np.eye(num_classes)
  if kind == "prior":
    design = _log_prior(prior, num_classes)[:, None]
  true = logs[np.arange(len(labels)), labels].sum()
  counts = np.bincount(labels, minlength=num_classes)

  def loss(found: np.ndarray) -> tuple[float, np.ndarray]:
    scores = found[0] * logs + design @ found[1:]
    weights = special.softmax(scores, axis=1)
    off = np.array([found[0] - 1, *found[1:]])
    value = special.logsumexp(scores, axis=1).sum()
    value -= found[0] * true + counts @ (design @ found[1:])
    slope = [(weights * logs).sum() - true]
    slope += list(design.T @ (weights.sum(0) - counts))
    return value + penalty / 2 * off @ off, np.array(slope) + penalty * off

  found = optimize.minimize(
    loss,
    np.array([1.0, *[0.0] * design.shape[1]]),
    jac=True,
    method="L-BFGS-B",
    bounds=[_BOUNDS, *[(None, None)] * design.shape[1]],
    options={"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-8},
  ).x
  bias = design @ found[1:] if design.size else np.zeros(num_classes)
  return Calibration(
    kind=kind,
    temperature=float(1 / found[0]),
    bias=tuple((bias - bias.mean()).tolist()),
    shares=tuple((counts / counts.sum()).tolist()),
  )


def cross_fitted(
  probabilities: np.ndarray,
  labels: np.ndarray,
  *,
  folds: int = 5,
  **settings: Any,
) -> np.ndarray:
  """Returns calibrated probabilities of images that were not fitted on.

  The images of each class are dealt out to the folds in turn; each fold is
  calibrated by a fit on the others. So the gain can be told without other
  images.

  Args:
    probabilities, labels: as of `fit`.
    folds: how many, 2 to the number of images.
    **settings: of `fit`.

  Raises:
    ValueError: as `fit`, or if there are fewer images than folds.
  """
  given, labels = _checked(probabilities, labels)
  require.within("folds", folds, f"[2, {len(labels)}]", "the number of images")
  fold = np.empty(len(labels), np.int64)
  fold[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % folds
  found = np.empty_like(given)
  for each in range(folds):
    own = fold == each
    fitted = fit(given[~own], labels[~own], **settings)
    found[own] = fitted.apply(given[own])
  return found


def negative_log_likelihood(
  probabilities: np.ndarray, labels: np.ndarray
) -> float:
  """Returns the mean of `-log p[y]`, in nats.

  Args:
    probabilities: `[T, C]`.
    labels: `[T]` integers.
  """
  given, labels = _checked(probabilities, labels)
  return float(-_logs(given)[np.arange(len(labels)), labels].mean())


def reliability(
  probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 15
) -> Reliability:
  """Returns how accurate the model is where it is how sure.

  Args:
    probabilities: `[T, C]`.
    labels: `[T]` integers.
    bins: of equal width in [0, 1].

  Source: Guo et al. (2017), Section 2, with the bins of their equation 3.
  """
  given, labels = _checked(probabilities, labels)
  sure, right = given.max(1), given.argmax(1) == labels
  edges = np.linspace(0.0, 1.0, bins + 1)[1:-1]
  bin_of = np.digitize(sure, edges, right=True)
  count = np.bincount(bin_of, minlength=bins)
  sums = (np.bincount(bin_of, x, minlength=bins) for x in (sure, right))
  there = count > 0
  confidence, accuracy = (x[there] / count[there] for x in sums)
  return Reliability(confidence, accuracy, count[there])


def save(
  workdir: str | os.PathLike[str], head: str, found: Calibration
) -> Path:
  """Writes a calibration into the folder of its run; returns the file.

  Args:
    workdir: the run's folder.
    head: that it is of; those of other heads are kept.
    found: the calibration.
  """
  path = Path(workdir) / FILE
  known = _read(path) if path.exists() else {}
  workdirs.write_json(path, {**known, head: dataclasses.asdict(found)})
  return path


def load(workdir: str | os.PathLike[str], head: str) -> Calibration:
  """Reads the calibration of a run's head.

  Args:
    workdir: the run's folder.
    head: `balanced` or `random`.

  Raises:
    ValueError: if there is none, or the file is damaged.
  """
  path = Path(workdir) / FILE
  found = _read(path).get(head) if path.exists() else None
  if found is None:
    raise ValueError(
      f"The {head} head of {workdir} is not calibrated. Calibrate it by `python"
      f" -m ltjax.evaluate --workdir={workdir} --head={head} --calibrate=bias`,"
      " which needs validation images (data.validation.per_class)."
    )
  try:
    made = Calibration(
      kind=found["kind"],
      temperature=float(found["temperature"]),
      bias=tuple(map(float, found["bias"])),
      shares=tuple(map(float, found["shares"])),
    )
    require.choice("kind", made.kind, KINDS)
    require.within("temperature", made.temperature, "(0, inf)")
    if not np.isfinite(made.bias).all() or len(made.bias) != len(made.shares):
      raise ValueError("bias and shares must be finite, a number a class.")
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f"{path} holds no calibration ({error}); calibrate the run again."
    ) from None
  return made


def _read(path: Path) -> Mapping[str, Any]:
  try:
    found = json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(
      f"{path} cannot be read ({error}); delete it, and calibrate again."
    ) from None
  if not isinstance(found, dict):
    raise ValueError(f"{path} holds no calibration; delete it.")
  return found


def _checked(
  probabilities: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  given = checks.distributions(probabilities)
  return given, checks.labels(labels, "labels", *given.shape, low=0)


def _logs(probabilities: np.ndarray) -> np.ndarray:
  return np.log(np.maximum(probabilities, _LEAST))


def _log_prior(
  prior: Sequence[float] | np.ndarray | None, num_classes: int
) -> np.ndarray:
  shares = np.asarray([] if prior is None else prior, np.float64)
  if shares.shape != (num_classes,) or not np.all(shares > 0):
    raise ValueError(
      f"prior has shape {shares.shape} and the least value"
      f" {shares.min(initial=np.inf)}; the calibration 'prior' needs a share"
      f" above 0 for each of {num_classes} classes. Choose 'bias' otherwise."
    )
  logs = np.log(shares)
  return logs - logs.mean()

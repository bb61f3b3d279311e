"""Tau: how strongly a head is corrected, given or chosen on validation images.

Tau-normalization, logit adjustment and threshold moving all have one number, 0
for no correction and 1 for the whole one in theory. The best lies between or
beyond, and must be found on images that are neither trained on nor tested.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ltjax.data.host import host_images
from ltjax.evaluation import metrics
from ltjax.training import inference
from ltjax.training.state import ModelState

GRID = tuple(n / 10 for n in range(21))  # 0, 0.1 ... 2


class Chooser:
  """Gives tau, or finds it: the best balanced accuracy on validation images.

  Args:
    predictor: runs the network.
    images, labels: of validation, uint8 `[V, H, W, C]` and integers `[V]`.
    tau: the number, if it is given; 0 to 2.
    select: choose it from `GRID` instead.
    field, switch: the config block, such as `classifier`, and its `select`.

  Raises:
    ValueError: if there are no validation images to choose tau on.

  Source: Kang et al. (2020), Section 4.3; the grid is their code's.
  """

  def __init__(
    self,
    predictor: inference.Predictor,
    *,
    images: jax.Array | host_images.HostImages,
    labels: np.ndarray,
    tau: float,
    select: bool,
    field: str,
    switch: str,
  ):
    if select and len(labels) == 0:
      raise ValueError(
        f"{field}.{switch} chooses tau on validation images, never on test"
        " images, and there are none: set --config.data.validation.per_class"
        f" to 1 or more, or --config.{field}.{switch}=False and"
        f" --config.{field}.tau."
      )
    self._predictor = predictor
    self._images = images
    self._labels = labels
    self._tau = tau
    self._select = select
    self._row: dict[str, Any] = {}

  def choose(self, state: ModelState, head_of: Callable[[float], Any]) -> float:
    """Returns tau, the smallest among equally good ones, for heads by tau."""
    self._row = {"kind": "tau", "tau": self._tau}
    if not self._select:
      return self._tau
    features = self._predictor.features(state, self._images)
    scores = []
    for tau in GRID:
      logits = self._predictor.model.head_apply(head_of(tau), features)
      found = metrics.classification(
        np.asarray(jax.nn.softmax(logits)), self._labels, groups={}
      )
      scores.append(found["balanced_accuracy"])
    tau = GRID[int(np.argmax(scores))]
    self._row = {
      "kind": "tau",
      "tau": tau,
      "grid": list(GRID),
      "balanced_accuracy": scores,
    }
    return tau

  def rows(self) -> list[dict[str, Any]]:
    """Returns what the last choice was, with the whole curve if selected."""
    return [self._row] if self._row else []

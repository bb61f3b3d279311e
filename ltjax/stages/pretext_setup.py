"""What all stages of pre-training are given, whatever their task is."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import jax

from ltjax import recipe as recipes
from ltjax.state import ModelState


@dataclasses.dataclass(frozen=True)
class Setup:
  """Images, and how to train on them.

  Attributes:
    images: uint8 `[N, H, W, C]`; each is drawn once an epoch.
    labels: int32 `[N]`, -1 where unknown; for SupCon, the online probe and the
      log.
    counts: float32 `[C]`, images of each class; for the log.
    recipe: epochs, batch size and optimizer.
    seed: the run's seed, for the index stream.
    key: the stage's random key, for all that it draws: views, what is trained
      beside `f`, what it begins with.
    report: rows to write when the stage is over.
    online_probe: whether a linear classifier is trained along, for the log, see
      `ltjax.stages.online_probe`.
  """

  images: jax.Array
  labels: jax.Array
  counts: jax.Array
  recipe: recipes.Recipe
  seed: int
  key: jax.Array
  report: Callable[[ModelState], list[dict[str, Any]]]
  online_probe: bool = False

  def arrays(self, head: Any) -> dict[str, Any]:
    """Returns what a step reads.

    Args:
      head: parameters of `g'`, without which a network cannot be run.
    """
    return {
      "images": self.images,
      "labels": self.labels,
      "counts": self.counts,
      "head": head,
    }

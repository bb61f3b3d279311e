"""Checks of class counts, on the host, where an error can still be raised.

Inside a compiled step it cannot: there a class without images has a finite
margin or prior, and a weight of 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ltjax import loss_settings

_USES_COUNTS = {
  "ldam": "a margin",
  "ldam_hinge": "a margin",
  "logit_adjustment": "a prior",
  "pairwise": "a prior",
  "vs": "a prior",
  "effective_number": "a weight",
  "inverse": "a weight",
}


def check(
  settings: loss_settings.Settings,
  counts: np.ndarray,
  *,
  num_classes: int,
  class_names: Sequence[str] = (),
) -> None:
  """Checks the class counts that a loss is to use.

  Args:
    settings: of the loss.
    counts: `[C]`, images a class.
    num_classes: C.
    class_names: C names for the message; none for numbers only.

  Raises:
    ValueError: names the classes without images and the way out.
  """
  if counts.shape != (num_classes,):
    raise ValueError(
      f"The class counts have the shape {counts.shape}, but the task has"
      f" {num_classes} classes; give a count for each."
    )
  if not (np.isfinite(counts) & (counts >= 0)).all():
    raise ValueError(
      f"The class counts are {counts.tolist()}; each must be 0 or more, and"
      " finite."
    )
  users = [
    (field, value)
    for field, value in (("name", settings.name), ("weights", settings.weights))
    if value in _USES_COUNTS
  ]
  empty = np.flatnonzero(counts == 0)
  if not users or not len(empty):
    return
  field, value = users[0]
  shown = [
    f"{c} ({class_names[c]})" if len(class_names) else str(c)
    for c in empty[:10].tolist()
  ]
  more = f" and {len(empty) - 10} more" if len(empty) > 10 else ""
  plain = {"name": "cross_entropy", "weights": "none"}[field]
  raise ValueError(
    f"loss.{field}={value!r} takes {_USES_COUNTS[value]} from the images of each"
    f" class, but {len(empty)} of {num_classes} classes have none: class"
    f" {', '.join(shown)}{more}. Give each class an image (a lower"
    " --config.data.labeled.rho, or a higher --config.data.labeled.max_count),"
    f" or set --config.loss.{field}={plain}."
  )

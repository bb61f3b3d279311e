"""What to do when a class runs out of images.

A split is never cut short in silence: the imbalance ratio would no longer be
what the user asked for. The first class that runs out is named, with what it
has and needs, and every setting that could be lowered is tried for the largest
value that fits.
"""

from __future__ import annotations

from collections.abc import Callable
import math

import numpy as np

from ltjax.data.splits import plan as plan_lib
from ltjax.data.splits import settings

Blocks = tuple[settings.Settings, settings.Settings, settings.Settings]

# (block, setting, smallest step): what may be lowered.
_BLOCKS = ("labeled", "unlabeled", "validation")
_KNOBS = (
  (0, "max_count", 1),
  (0, "fraction", 0.01),
  (1, "max_count", 1),
  (1, "total", 1),
  (1, "factor", 0.01),
  (2, "per_class", 1),
)


def check(
  plan: plan_lib.Plan,
  blocks: Blocks,
  *,
  available: np.ndarray,
  pool: np.ndarray | None,
  names: tuple[str, ...],
) -> None:
  """Raises a ValueError with the way out unless every class has its images.

  Args:
    plan: What is wanted.
    blocks: The settings of `plan`: labeled, unlabeled, validation.
    available: `[C]` images per class in the training set.
    pool: `[C]` images per class in the pool the unlabeled images come from,
      None if they come from the training set.
    names: `[C]` class names.
  """
  empty = np.flatnonzero(plan.labeled < 1)
  if len(empty) and blocks[0]["profile"] == "natural":
    c = int(empty[0])
    lower = max(int(available.min()) - 1, 0)
    way_out = f"lower data.validation.per_class to {lower}"
    if blocks[2]["index_file"]:
      way_out = "leave one of them out of data.validation.index_file"
    raise ValueError(
      f"class {c} ({names[c]}) has no labeled image left: it has "
      f"{available[c]} and validation takes {plan.validation[c]}; {way_out}"
    )
  if len(empty):
    c, asked = int(empty[0]), blocks[0]
    way_out = f"raise data.labeled.counts[{c}] to at least 1"
    if asked["profile"] != "explicit":
      way_out = (
        f"raise data.labeled.max_count to at least "
        f"{math.ceil(asked['rho'])} (it is {asked['max_count']}), or "
        f"lower data.labeled.rho to at most "
        f"{asked['max_count']} (it is {asked['rho']:g})"
      )
    raise ValueError(
      f"class {c} ({names[c]}) has no labeled image, and every class needs "
      f"one: {way_out}"
    )
  shortage = _shortage(plan, available, pool, names)
  if shortage is None:
    return

  def fits(*changed: settings.Settings) -> bool | None:
    """None: the plan is too small in some other way."""
    try:
      other = plan_lib.make(*changed, available=available)
    except ValueError:
      return None
    if _shortage(other, available, pool, names) is not None:
      return False
    small = other.labeled.min() < 1
    gone = other.unlabeled is not None and other.unlabeled.sum() < 1
    return None if small or gone else True

  knobs = [k for k in _KNOBS if k[1] != "fraction" or _matters(blocks[0])]
  ways = [w for w in (_lower(knob, blocks, fits) for knob in knobs) if w]
  raise ValueError(
    shortage
    + (
      "lower " + ", or ".join(ways)
      if ways
      else "no single setting can be lowered to fit: ask for fewer images of "
      "this class in data.labeled and data.unlabeled"
    )
  )


def _matters(labeled: settings.Settings) -> bool:
  """Whether the fraction is what the user would turn: not beside a curve."""
  return labeled["profile"] == "natural" or labeled["fraction"] < 1


def _lower(
  knob: tuple[int, str, float],
  blocks: Blocks,
  fits: Callable[..., bool | None],
) -> str | None:
  """The largest value of one setting that fits, as words; None without one."""
  which, key, step = knob
  value = blocks[which][key]
  if not value:
    return None

  def at(n: int) -> float:
    return n if step == 1 else round(n * step, 2)

  def outcome(n: int) -> bool | None:
    changed = [dict(block) for block in blocks]
    changed[which][key] = at(n)
    return fits(*changed)

  # What is needed grows with the setting, so "too much" (False) can be
  # bisected; below that the plan may be too small (None): asked at the end.
  low, high = (0 if key == "per_class" else 1), math.ceil(value / step)
  if outcome(low) is False:
    return None
  while high - low > 1:
    middle = (low + high) // 2
    low, high = (low, middle) if outcome(middle) is False else (middle, high)
  if not outcome(low):
    return None
  return f"data.{_BLOCKS[which]}.{key} to {at(low):g}"


def _shortage(
  plan: plan_lib.Plan,
  available: np.ndarray,
  pool: np.ndarray | None,
  names: tuple[str, ...],
) -> str | None:
  """Names the first class that runs out, None if none does."""
  zeros = np.zeros_like(plan.labeled)
  theirs = zeros if plan.unlabeled is None else plan.unlabeled
  from_train = theirs if pool is None else zeros
  need = plan.labeled + from_train + plan.validation
  for c in np.flatnonzero(need > available):
    parts = [
      f"{n[c]} {part}"
      for n, part in (
        (plan.labeled, "labeled"),
        (from_train, "unlabeled"),
        (plan.validation, "validation"),
      )
      if n[c]
    ]
    return (
      f"class {c} ({names[c]}) runs out of images: the training set has "
      f"{available[c]}, the split needs {need[c]} ({' + '.join(parts)}); "
    )
  if pool is not None:
    for c in np.flatnonzero(theirs > pool):
      return (
        f"class {c} ({names[c]}) runs out of images: the pool has {pool[c]}, "
        f"the unlabeled set needs {theirs[c]}; "
      )
  return None

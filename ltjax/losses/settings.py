"""The settings of a loss, checked before anything is compiled.

A setting that would do nothing is refused as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import difflib
from typing import Any

import ml_collections
import numpy as np

from ltjax.data import class_file
from ltjax.losses import table
from ltjax.settings import fields
from ltjax.settings.fields import setting

NAMES = tuple(table.LOSSES)
WEIGHTS = tuple(table.WEIGHTS)
REDUCTIONS = ("mean", "weighted_mean")
COUNTS = ("labeled", "all")


def _of(field: str) -> dict[str, tuple[str, ...]]:
  return {"name": table.reading(field)}


# What other names a loss goes by, and how to ask for it here.
_ALIASES = {
  "ce": "loss.name=cross_entropy",
  "balanced_softmax": "loss.name=logit_adjustment with loss.tau=1",
  "class_balanced": "loss.name=cross_entropy with"
  " loss.weights=effective_number",
  "cdt": "loss.name=vs with loss.tau=0",
  "ldam_drw": "loss.name=ldam with loss.weights=effective_number and"
  " loss.defer=0.8",
}


@dataclasses.dataclass(frozen=True)
class Settings:
  """The fields of `config.loss`."""

  name: str = setting(
    "cross_entropy", "of the loss", choices=NAMES, aliases=_ALIASES
  )
  gamma: float = setting(
    1.0,
    "focusing exponent; 0 is plain cross-entropy",
    least=0,
    when=_of("gamma"),
  )
  margin: float = setting(
    0.5,
    "largest margin, in units of the cosine, which are at most 2 apart",
    least=0,
    below=2,
    when=_of("margin"),
  )
  tau: float = setting(
    1.0,
    "strength of the adjustment; 0 is none, 1 the consistent one",
    least=0,
    when=_of("tau"),
  )
  vs_gamma: float = setting(
    0.3,
    "exponent of the factors; 0 leaves logit adjustment",
    least=0,
    when=_of("vs_gamma"),
  )
  delta: tuple[float, ...] = setting(
    (), "a number above 0 a class; scaled to sum to 1", when=_of("delta")
  )
  weights: str = setting(
    "none", "class weights, scaled to sum to C", choices=WEIGHTS
  )
  class_weights: tuple[float, ...] = setting(
    (), "a number a class", when={"weights": ("explicit",)}
  )
  class_weights_file: str = setting(
    "",
    "or a file of them, a class name and a number a line",
    when={"weights": ("explicit",)},
  )
  beta: float = setting(
    0.9999,
    "of effective numbers; nearer to 1 is nearer to inverse frequency",
    least=0,
    below=1,
    when={"weights": ("effective_number",)},
  )
  defer: float = setting(
    0.0,
    "share of the epochs before the weights begin: 0.8 is 160 of 200 (DRW)",
    least=0,
    below=1,
    when={"weights": WEIGHTS[1:]},
  )
  reduction: str = setting(
    "mean",
    "over B; or over the sum of the weights, as PyTorch does",
    choices=REDUCTIONS,
  )
  weighted_focal: bool = setting(
    False,
    "class weights inside the focal factor, as the code of LDAM",
    when={"name": ("focal",)},
  )
  counts: str = setting(
    "labeled",
    "whose class counts: of the labeled images, or also of pseudo-labeled ones",
    choices=COUNTS,
    when={"method": ("pseudo_label",)},
  )


def of(config: Mapping[str, Any] | ml_collections.ConfigDict) -> Settings:
  """Returns the settings of a block `loss`; what it lacks has its default.

  An unknown field is a ValueError, which names the nearest.
  """
  known = [field.name for field in dataclasses.fields(Settings)]
  for name in config:
    if name not in known:
      close = difflib.get_close_matches(str(name), known, 1)
      hint = f" Did you mean loss.{close[0]}?" if close else ""
      raise ValueError(f"Unknown setting loss.{name}.{hint}")
  values = {name: config[name] for name in config}
  for name in ("delta", "class_weights"):
    values[name] = tuple(values.get(name, ()))
  return Settings(**values)


def named(settings: Settings, class_names: Sequence[str]) -> Settings:
  """Returns settings with the class weights that `class_weights_file` gives.

  Args:
    settings: as the config has them.
    class_names: one name a class.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if a class is unknown, missing or named twice in it, a number is
      none, or there are weights beside it.
  """
  path = settings.class_weights_file
  if not path:
    return settings
  if settings.class_weights or settings.weights != "explicit":
    raise ValueError(
      f"loss.class_weights_file is {path!r}: set loss.weights=explicit, which"
      " reads it, and leave loss.class_weights empty."
    )
  found = class_file.numbers(
    path, class_names, what="weight", within="[0, inf)"
  )
  return dataclasses.replace(settings, class_weights=tuple(found.tolist()))


def check(settings: Settings, *, head: str, num_classes: int) -> None:
  """Checks the settings of a loss; a ValueError names the way out.

  Args:
    settings, head, num_classes: as of `objective.make`.
  """
  fields.check(settings, "loss")
  _check_weights(settings, num_classes)
  _check_delta(settings, num_classes)
  needed = table.LOSSES[settings.name].head
  if needed and head != needed:
    raise ValueError(
      f"loss.name is {settings.name!r}, but model.head is {head!r}: margins"
      f" are lengths on the unit sphere and need the {needed} head. Set"
      f" --config.model.head={needed} and --config.model.head_scale=30."
    )
  if settings.weighted_focal and settings.name != "focal":
    raise ValueError(
      "loss.weighted_focal puts class weights inside the focal factor, but"
      f" loss.name is {settings.name!r}; set it to 'focal', or"
      " loss.weighted_focal to False."
    )
  if settings.weighted_focal and settings.reduction != "mean":
    raise ValueError(
      "With loss.weighted_focal the class weights are inside the loss, and"
      f" loss.reduction {settings.reduction!r} has none to divide by; set it to"
      " 'mean'."
    )


def _check_weights(settings: Settings, num_classes: int) -> None:
  given, weights = settings.class_weights, settings.weights
  if weights == "none" and settings.defer:
    raise ValueError(
      f"loss.defer is {settings.defer}, but loss.weights is 'none': there is"
      " nothing to defer. Set loss.weights=effective_number, or loss.defer=0."
    )
  if weights != "explicit":
    if given:
      raise ValueError(
        f"loss.class_weights are given, but loss.weights is {weights!r}, which"
        " does not read them; set loss.weights=explicit, or leave them empty."
      )
    return
  if len(given) != num_classes:
    raise ValueError(
      f"loss.class_weights has {len(given)} numbers, but the task has"
      f" {num_classes} classes; give one for each, or loss.class_weights_file."
    )
  values = np.array(given, np.float64)
  if not (np.isfinite(values) & (values >= 0)).all() or not values.sum() > 0:
    raise ValueError(
      f"loss.class_weights are {tuple(given)}; they must be 0 or more, finite,"
      " and not all 0."
    )


def _check_delta(settings: Settings, num_classes: int) -> None:
  delta = settings.delta
  if settings.name != "pairwise":
    if delta:
      raise ValueError(
        f"loss.delta is given, but loss.name is {settings.name!r}, which does"
        " not read it; set loss.name=pairwise, or leave it empty."
      )
    return
  if len(delta) != num_classes:
    raise ValueError(
      f"loss.delta has {len(delta)} numbers, but the task has {num_classes}"
      " classes; give one for each. All equal is the balanced cross-entropy,"
      " the class counts are logit adjustment."
    )
  values = np.array(delta, np.float64)
  if not (np.isfinite(values) & (values > 0)).all():
    raise ValueError(
      f"loss.delta is {tuple(delta)}; each must be above 0, and finite."
    )


def check_counts(
  settings: Settings,
  counts: np.ndarray,
  *,
  num_classes: int,
  class_names: Sequence[str] = (),
) -> None:
  """Checks the class counts that a loss is to use, on the host.

  Inside a compiled step none can: there a class without images has a finite
  margin or prior, and a weight of 0. A ValueError names the classes without
  images and the way out.

  Args:
    settings, num_classes: as of `objective.make`.
    counts: `[C]`, images a class.
    class_names: C names for the message; none for numbers only.
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
  rows = {
    "name": table.LOSSES[settings.name],
    "weights": table.WEIGHTS[settings.weights],
  }
  users = [field for field, row in rows.items() if row.counts]
  empty = np.flatnonzero(counts == 0)
  if not users or not len(empty):
    return
  field = users[0]
  shown = [
    f"{c} ({class_names[c]})" if len(class_names) else str(c)
    for c in empty[:10].tolist()
  ]
  more = f" and {len(empty) - 10} more" if len(empty) > 10 else ""
  plain = {"name": "cross_entropy", "weights": "none"}[field]
  raise ValueError(
    f"loss.{field}={getattr(settings, field)!r} takes {rows[field].counts} from"
    f" the images of each class, but {len(empty)} of {num_classes} classes have"
    f" none: class {', '.join(shown)}{more}. Give each class an image (a lower"
    " --config.data.labeled.rho, or a higher --config.data.labeled.max_count),"
    f" or set --config.loss.{field}={plain}."
  )

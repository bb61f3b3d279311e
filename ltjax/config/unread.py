"""Settings without effect: refused, so that a run is what its config says.

A block of the config is read by some methods only, and a number by some choices
only. Where nothing reads a setting that was changed, somebody expects what will
not happen. Lengths, sizes, schedules and the random views are left alone: config
files set those of all blocks, whatever the method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltjax import config as configs
from ltjax.losses import table
from ltjax.training import class_probabilities

# What a setting needs to be read: any of these, each of which names settings
# with the values that will do.
Readers = tuple[Mapping[str, tuple[Any, ...]], ...]

_SEMI = ("mean_teacher", "pi_model", "temporal_ensembling", "vat")
_METHODS = (
  *("decoupling", "probe", "pseudo_label", "sslt", "supervised"),
  *_SEMI,
)
_RESAMPLERS = tuple(n for n in class_probabilities.NAMES if n != "random")
_POSTHOC = ("logit_adjustment", "threshold_moving", "tau_norm")

_CONTRASTIVE = ("simclr", "supcon", "sdclr")
_VIEWED = (*_CONTRASTIVE, "byol", "swav")
_LABEL_FREE = ("rotation", "moco", *_VIEWED, "fassl")
_FASSL: Readers = ({"pretrain.name": ("fassl",)},)
_WEIGHTED: dict[str, tuple[Any, ...]] = {
  "pretrain.name": ("fassl",),
  "student.score": ("paper", "energy"),
}


def _started(*names: str) -> Readers:
  """Pre-training by one of the names, or FASSL that starts from it."""
  return (
    {"pretrain.name": names},
    {"pretrain.name": ("fassl",), "prototypes.start": names},
  )


# A second classifier, after the one that is trained along with the embedding.
_SECOND: tuple[dict[str, tuple[Any, ...]], ...] = (
  {"method": ("decoupling", "sslt")},
  {"method": ("pseudo_label",), "pseudo.base": ("decoupling",)},
)

_FIELDS: tuple[tuple[str, tuple[str, ...], Readers], ...] = (
  *(
    ("loss", (field,), ({"loss.name": table.reading(field)},))
    for field in ("gamma", "margin", "tau", "vs_gamma")
  ),
  ("loss", ("beta",), ({"loss.weights": ("effective_number",)},)),
  ("loss", ("counts",), ({"method": ("pseudo_label",)},)),
  ("sampler", ("defer",), ({"sampler.name": _RESAMPLERS},)),
  ("sampler", ("exponent",), ({"sampler.name": ("power",)},)),
  ("sampler", ("beta",), ({"sampler.name": ("effective_number",)},)),
  ("model", ("head_scale",), ({"model.head": ("cosine",)},)),
  ("pretrain", ("data",), _started(*_LABEL_FREE)),
  ("pretrain", ("online_probe",), _started(*_LABEL_FREE)),
  ("pretrain", ("rotations",), _started("rotation")),
  ("pretrain", ("temperature",), _started("moco", "swav", *_CONTRASTIVE)),
  (
    "pretrain",
    ("temperature_schedule",),
    _started(*_CONTRASTIVE),
  ),
  (
    "pretrain",
    ("temperature_low", "temperature_high", "temperature_period"),
    ({"pretrain.temperature_schedule": ("cosine",)},),
  ),
  ("pretrain", ("focal_gamma",), _started("simclr", "sdclr")),
  ("pretrain", ("queue", "ema", "key_batch_norm"), _started("moco")),
  ("pretrain", ("prune",), _started("sdclr")),
  ("pretrain", ("boost_ops",), _started("simclr", "sdclr")),
  (
    "pretrain",
    (
      *("prototypes", "epsilon", "sinkhorn_iterations", "marginal"),
      *("freeze", "code_queue"),
    ),
    _started("swav"),
  ),
  (
    "pretrain",
    ("marginal_exponent",),
    ({"pretrain.name": ("swav",), "pretrain.marginal": ("power",)},),
  ),
  ("prototypes", ("temperature", "start", "init"), _FASSL),
  (
    "student",
    ("ema", "ema_schedule", "teacher_batch_norm"),
    _started("byol", "fassl"),
  ),
  (
    "student",
    ("score",),
    _FASSL,
  ),
  (
    "student",
    ("standardize", "weight_temperature", "normalize_prototypes", "score_from"),
    (_WEIGHTED,),
  ),
  ("student", ("clip",), (_WEIGHTED | {"student.standardize": (True,)},)),
  (
    "probe",
    (
      *("protocols", "shots", "neighbors", "images", "views", "select"),
      "sdclr_learning_rate",
    ),
    ({"method": ("probe",)},),
  ),
  ("classifier", ("kind",), _SECOND),
  ("classifier", ("batch_norm",), _SECOND),
  (
    "classifier",
    ("sampler", "loss"),
    tuple(r | {"classifier.kind": ("crt", "lws")} for r in _SECOND),
  ),
  ("classifier", ("ncm_features",), ({"classifier.kind": ("ncm",)},)),
  ("classifier", ("select_tau",), ({"classifier.kind": ("tau_norm",)},)),
  (
    "classifier",
    ("tau",),
    ({"classifier.kind": ("tau_norm",), "classifier.select_tau": (False,)},),
  ),
  (
    "pseudo",
    ("base", "start", "omega", "reduction"),
    ({"method": ("pseudo_label",)},),
  ),
  ("pseudo_label", ("transform",), ({"method": ("pseudo_label", "sslt")},)),
  (
    "semi",
    ("weight", "rampup", "unlabeled_ratio"),
    ({"method": _SEMI},),
  ),
  ("semi", ("ema", "teacher_batch_norm"), ({"method": ("mean_teacher",)},)),
  ("semi", ("alpha",), ({"method": ("temporal_ensembling",)},)),
  ("semi", ("epsilon", "xi", "iterations"), ({"method": ("vat",)},)),
  (
    "consistency",
    ("weight", "memory_reset", "sampler", "data", "schedule_over"),
    ({"method": ("sslt",)},),
  ),
  (
    "refit",
    ("sampler", "loss", "data", "batch_norm"),
    (
      {"method": ("sslt",)},
      {
        "method": ("pseudo_label",),
        "pseudo.base": ("decoupling",),
        "classifier.kind": ("crt",),
      },
    ),
  ),
  ("posthoc", ("select",), ({"posthoc.name": _POSTHOC},)),
  ("posthoc", ("costs",), ({"posthoc.name": ("threshold_moving",)},)),
  (
    "posthoc",
    ("tau",),
    (
      {
        "posthoc.name": _POSTHOC,
        "posthoc.select": (False,),
        "posthoc.costs": ((),),
      },
    ),
  ),
)
_READERS: dict[str, Readers] = {
  f"{block}.{name}": readers
  for block, names, readers in _FIELDS
  for name in names
}


def check(method: str, config: Any) -> None:
  """Checks that the choices of a config have an effect.

  Args:
    method: the name of the method; one that was added may read every block.
    config: with the known fields.

  Raises:
    ValueError: if a setting differs from its defaults, and the method or another
      setting leaves it unread; names what would read it.
  """
  defaults = [configs.sslt(variant) for variant in configs.VARIANTS]
  for field, readers in _READERS.items():
    value = _value(config, field)
    known = [_value(default, field) for default in defaults]
    if value in known or any(_met(method, config, needs) for needs in readers):
      continue
    raise ValueError(
      f"{field} is {value!r}, but nothing reads it here: it belongs to"
      f" {', or to '.join(map(_words, readers))}. Choose that, or leave"
      f" {field} at {' or '.join(dict.fromkeys(map(repr, known)))}."
    )


def _value(config: Any, field: str) -> Any:
  for part in field.split("."):
    config = config[part]
  return tuple(config) if isinstance(config, list) else config


def _met(
  method: str, config: Any, needs: Mapping[str, tuple[Any, ...]]
) -> bool:
  return all(
    method in values or method not in _METHODS
    if field == "method"
    else _value(config, field) in values
    for field, values in needs.items()
  )


def _words(needs: Mapping[str, tuple[Any, ...]]) -> str:
  return " with ".join(
    f"{field}={' or '.join(str(value) for value in values)}"
    for field, values in needs.items()
  )

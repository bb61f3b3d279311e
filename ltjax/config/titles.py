"""What the model of a run is called in tables: read off its settings.

A name that somebody types goes stale with the first override; this one cannot.
The words are those of the papers' tables: `CB-` for class weights from the
start, `-DRW` for deferred ones, `-DRS` for deferred re-sampling, `+ SSP` for a
network that began with self-supervised pre-training (by rotation; `+ MoCo`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltjax.losses import table

_SEMI = {
  "pi_model": "Pi-model",
  "temporal_ensembling": "Temporal ensembling",
  "mean_teacher": "Mean Teacher",
  "vat": "VAT",
}
_PRETRAININGS = {
  "rotation": "SSP",
  "moco": "MoCo",
  "simclr": "SimCLR",
  "supcon": "SupCon",
  "sdclr": "SDCLR",
  "byol": "BYOL",
  "swav": "SwAV",
  "supervised": "Supervised",
  "none": "Untrained",
}
CLASSIFIERS = {
  "crt": "Decoupling",
  "ncm": "NCM",
  "tau_norm": "Tau-normalization",
  "lws": "LWS",
}


def objective(config: Any) -> str:
  """Returns the name of the loss with its weights and sampler.

  Args:
    config: a run's config; its blocks `loss` and `sampler` are read.
  """
  loss, sampler = config.loss, config.sampler
  name = _title(table.LOSSES, loss.name)
  if loss.weights != "none":
    if loss.defer > 0:
      name += "-DRW"
    else:
      name = f"{_title(table.WEIGHTS, loss.weights)}-{name}"
  if sampler.name != "random":
    if sampler.defer > 0:
      name += "-DRS"
    else:
      name += f", {sampler.name.replace('_', '-')} sampling"
  return name


def _title(rows: Mapping[str, Any], name: str) -> str:
  """Returns the title of a row; of an unknown one, which is refused, its name."""
  return rows[name].title if name in rows else name


def pretraining(config: Any) -> str:
  """Returns the name of the pre-training of a run.

  Args:
    config: a run's config; its blocks `pretrain`, `prototypes` and `student` are
      read, and for supervised pre-training `loss` and `sampler`.
  """
  block = config.pretrain
  if block.name == "fassl":
    return _fassl(config)
  name = _PRETRAININGS.get(block.name, block.name)
  if block.name == "supervised" and objective(config) != "CE":
    name = f"{name} ({objective(config)})"
  if block.name in ("simclr", "sdclr") and block.boost_ops:
    name = {"simclr": "BCL-I", "sdclr": "BCL-D"}[block.name]
  if block.focal_gamma:
    name = f"Focal {name}"
  if block.temperature_schedule != "constant":
    name += " + TS"
  return f"{name} (LARS)" if block.optimizer == "lars" else name


def _fassl(config: Any) -> str:
  start = _PRETRAININGS.get(config.prototypes.start, config.prototypes.start)
  changes = [] if start == "SDCLR" else [f"from {start}"]
  if config.prototypes.init != "random":
    changes.append(f"P from {config.prototypes.init}")
  if config.student.score != "paper":
    changes.append(f"{config.student.score} weights")
  return f"FASSL ({', '.join(changes)})" if changes else "FASSL"


def base(config: Any) -> str:
  """Returns the name of the supervised model that a run starts from.

  Args:
    config: a run's config.
  """
  if config.method in ("decoupling", "sslt") or (
    config.method == "pseudo_label" and config.pseudo.base == "decoupling"
  ):
    name = CLASSIFIERS.get(config.classifier.kind, config.classifier.kind)
    if objective(config) != "CE":
      name = f"{name} ({objective(config)})"
  else:
    name = objective(config)
  return name + _started(config)


def final(config: Any) -> str:
  """Returns the name of the model that a run ends with.

  Args:
    config: a run's config.
  """
  if config.method == "pseudo_label":
    return f"Pseudo-Label + {base(config)}{_final_model(config)}"
  if config.method in _SEMI:
    return f"{_SEMI[config.method]} + {base(config)}"
  if config.method == "sslt":
    name = "SSLT"
    if objective(config) != "CE":
      name = f"{name} ({objective(config)})"
    return name + _started(config)
  if config.method == "probe":
    return pretraining(config)
  return base(config)


def _final_model(config: Any) -> str:
  """Returns what follows a name that stands for several ways of self-training.

  With a decoupled base two are as usual, and both are told; otherwise only
  fine-tuning is.
  """
  decoupled, tuned = config.pseudo.base == "decoupling", ", fine-tuned"
  if config.pseudo.start == "scratch":
    tuned = ", from scratch" if decoupled else ""
  if not decoupled or config.classifier.kind != "crt":
    return tuned
  data = "D and U'" if config.refit.data == "all" else "D"
  return f"{tuned}, g on {data}"


def _started(config: Any) -> str:
  """Returns what follows a name where pre-training came before the method."""
  if config.pretrain.name == "none":
    return ""
  return f" + {pretraining(config)}"

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
from ltjax.methods import pretext_tasks

CLASSIFIERS = {
  "crt": "Decoupling",
  "ncm": "NCM",
  "knn": "kNN",
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
  """Returns the title of a row; of an unknown one, its name."""
  return rows[name].title if name in rows else name


def pretraining(config: Any) -> str:
  """Returns the name of the pre-training of a run.

  Args:
    config: a run's config; its blocks `pretrain`, `prototypes` and `student`
      are
      read, and for supervised pre-training `loss` and `sampler`.
  """
  block = config.pretrain
  if block.name == "fassl":
    return _fassl(config)
  name = _title(pretext_tasks.TASKS, block.name)
  if block.name == "none":
    name = "Untrained"
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
  start = config.prototypes.start
  start = "Untrained" if start == "none" else _title(pretext_tasks.TASKS, start)
  changes = [] if start == "SDCLR" else [f"from {start}"]
  if config.prototypes.init != "random":
    changes.append(f"P from {config.prototypes.init}")
  if config.student.score != "paper":
    changes.append(f"{config.student.score} weights")
  return f"FASSL ({', '.join(changes)})" if changes else "FASSL"


def supervised(config: Any) -> str:
  """Returns the name of a model that one stage of labeled images makes.

  Args:
    config: a run's config.
  """
  return objective(config) + started(config)


def decoupled(config: Any) -> str:
  """Returns the name of a model with a second classifier.

  Args:
    config: a run's config.
  """
  name = CLASSIFIERS.get(config.classifier.kind, config.classifier.kind)
  return called(name, config)


def called(name: str, config: Any) -> str:
  """Returns a name with what differs from cross-entropy from a fresh network.

  Args:
    name: of the method.
    config: a run's config.
  """
  if objective(config) != "CE":
    name = f"{name} ({objective(config)})"
  return name + started(config)


def started(config: Any) -> str:
  """Returns what follows a name where pre-training came before the method.

  Args:
    config: a run's config.
  """
  if config.pretrain.name == "none":
    return ""
  return f" + {pretraining(config)}"

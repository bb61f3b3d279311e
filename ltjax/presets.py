"""Presets: the rows of the papers' tables, as changes to a config.

A config file sets the protocol (data, network, schedule); a row chooses the
method, the loss and the sampler: `--config=configs/cifar10_sslt.py:row=
pseudo_label_l` is the row "Pseudo-Label + L" of Table 1 of Liu et al.

What the papers leave open is stated where it is chosen. LDAM-DRW brings its
own schedule and head (Cao et al., 2019), also into the tables of Liu et al.,
who ran "all comparison methods with the hyper-parameters in their papers".
"""

from __future__ import annotations

from collections.abc import Callable
import difflib
from typing import Any

Change = Callable[[Any], None]


def _method(name: str) -> Change:
  def change(config):
    config.method = name

  return change


def ldam_schedule(config: Any) -> None:
  """Sets the schedule of Cao et al.: warm-up, x 0.01 at 160 and 180 of 200.

  It is also that of Yang & Xu, in all rows.

  Args:
    config: the blocks that train the whole network are changed.
  """
  for name in ("pretrain", "embedding", "pseudo", "semi"):
    block = config[name]
    block.schedule = "step"
    block.milestones = (0.8, 0.9)
    block.factor = 0.01
    block.weight_decay = 2e-4
    block.warmup_epochs = round(block.epochs * 5 / 200)
    if config.variant == "author_code":
      block.warmup_every = "epoch"


def _focal(config: Any) -> None:
  config.loss.name = "focal"
  config.loss.gamma = 1.0


def _balanced(config: Any) -> None:
  """Class weights by effective number of samples, from the start (CB)."""
  config.loss.weights = "effective_number"
  config.loss.reduction = "weighted_mean"
  if config.loss.name == "focal":
    # The authors' code focuses by the weighted loss, and takes a plain mean.
    config.loss.weighted_focal = config.variant == "author_code"
    config.loss.reduction = "mean"


def _drw(config: Any) -> None:
  _balanced(config)
  config.loss.defer = 0.8


def _drs(config: Any) -> None:
  config.sampler.name = "effective_number"
  config.sampler.defer = 0.8


def _ldam(config: Any) -> None:
  ldam_schedule(config)
  config.loss.name = "ldam"
  config.loss.reduction = "weighted_mean"
  config.model.head = "cosine"
  config.model.head_scale = 30.0


def _ssp(config: Any) -> None:
  """Rotation prediction first, as Yang & Xu on CIFAR."""
  config.pretrain.name = "rotation"


def _moco(config: Any) -> None:
  config.pretrain.name = "moco"


def _pseudo(base: str) -> Change:
  """Self-training: label the pool once, then train anew on everything."""

  def change(config):
    config.method = "pseudo_label"
    config.pseudo.base = base
    # Margins and weights by labels and pseudo labels, as the authors' code.
    config.loss.counts = "all"
    config.refit.data = "all"
    if config.variant == "author_code":
      config.pseudo.batch_size = 256

  return change


def _classifier(kind: str) -> Change:
  def change(config):
    config.method = "decoupling"
    config.classifier.kind = kind

  return change


def _post(name: str) -> Change:
  def change(config):
    config.posthoc.name = name

  return change


def _loss(**settings: Any) -> Change:
  return lambda config: config.loss.update(settings)


def _sample(name: str) -> Change:
  def change(config):
    config.sampler.name = name

  return change


def _sslt(**settings: Any) -> Change:
  """Alternate sampling with choices of Table 3."""

  def change(config):
    config.method = "sslt"
    for name, value in settings.items():
      block, field = name.split("__")
      config[block][field] = value

  return change


_CE = (_method("supervised"),)
_L = (*_CE, _ldam, _drw)

ROWS: dict[str, tuple[Change, ...]] = {
  # Liu et al., Tables 1 and 2.
  "ldam_drw": _L,
  "pseudo_label_l": (*_L, _pseudo("supervised")),
  "mean_teacher_l": (*_L, _method("mean_teacher")),
  "decoupling": (_classifier("crt"),),
  "pseudo_label_d": (_classifier("crt"), _pseudo("decoupling")),
  "sslt": (_sslt(),),
  # Liu et al., Table 3: sampling in Stage 2 + Stage 3; data of the stages.
  "sslt_r_r": (_sslt(refit__sampler="random"),),
  "sslt_c_r": (
    _sslt(consistency__sampler="class_balanced", refit__sampler="random"),
  ),
  "sslt_c_c": (_sslt(consistency__sampler="class_balanced"),),
  "sslt_classifier_all": (_sslt(refit__data="all"),),
  "sslt_embedding_labeled": (
    _sslt(refit__data="all", consistency__data="labeled"),
  ),
  # Yang & Xu, Table 1.
  "ce": _CE,
  "ce_du": (*_CE, _pseudo("supervised")),
  "ldam_drw_du": (*_L, _pseudo("supervised")),
  # Yang & Xu, Table 2.
  "cb_ce": (*_CE, _balanced),
  "cb_ce_ssp": (*_CE, _balanced, _ssp),
  "focal": (*_CE, _focal),
  "cb_focal": (*_CE, _focal, _balanced),
  "cb_focal_ssp": (*_CE, _focal, _balanced, _ssp),
  "ce_drw": (*_CE, _drw),
  "ce_drs": (*_CE, _drs),
  "ce_drw_ssp": (*_CE, _drw, _ssp),
  "ldam": (*_CE, _ldam),
  "ldam_drw_ssp": (*_L, _ssp),
  # Yang & Xu, Appendices E.1 and F.1: other semi- and self-supervised methods.
  "ce_ssp": (*_CE, _ssp),
  "ce_moco": (*_CE, _moco),
  "ce_mean_teacher": (*_CE, _method("mean_teacher")),
  "ce_vat": (*_CE, _method("vat")),
  "ce_pi_model": (*_CE, _method("pi_model")),
  "ce_temporal_ensembling": (*_CE, _method("temporal_ensembling")),
  "vat_l": (*_L, _method("vat")),
  # Not in either paper, and what a reader asks for next.
  "class_balanced": (*_CE, _sample("class_balanced")),
  "square_root": (*_CE, _sample("square_root")),
  "progressive": (*_CE, _sample("progressive")),
  "logit_adjustment": (*_CE, _loss(name="logit_adjustment")),
  "logit_adjustment_posthoc": (*_CE, _post("logit_adjustment")),
  "vs": (*_CE, _loss(name="vs")),
  "ncm": (_classifier("ncm"),),
  "tau_norm": (_classifier("tau_norm"),),
  "lws": (_classifier("lws"),),
}


def apply(config: Any, row: str) -> Any:
  """Changes a config to a row of a table.

  Args:
    config: of the protocol; changed in place. The schedules of its blocks are
      kept, but for LDAM, which brings its own.
    row: a name in `ROWS`, such as `pseudo_label_l`.

  Returns:
    The config.

  Raises:
    ValueError: if the row is unknown; names the nearest.
  """
  if row not in ROWS:
    close = difflib.get_close_matches(row, ROWS, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"row is {row!r}; choose one of {', '.join(ROWS)}.{hint}")
  for change in ROWS[row]:
    change(config)
  return config


def needs_unlabeled(config: Any) -> bool:
  """Returns whether the method of a config learns from unlabeled images.

  Args:
    config: a row has been applied to it.
  """
  return config.method not in ("supervised", "decoupling") or (
    config.pretrain.name != "none" and config.pretrain.data == "all"
  )

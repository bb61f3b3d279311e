"""Presets: the rows of the papers' tables, as changes to a config.

A config file sets the protocol (data, network, schedule); a row chooses the
method, the loss and the sampler: `--config=configs/cifar10_sslt.py:row=
pseudo_label_l` is the row "Pseudo-Label + L" of Table 1 of Liu et al.
"""

from __future__ import annotations

import difflib
from typing import Any

from ltjax.config import row_changes as changes

ldam_schedule = changes.ldam_schedule
sdclr_protocol = changes.sdclr_protocol
sdclr_recipe = changes.sdclr_recipe

_CE = (changes.method("supervised"),)
_L = (*_CE, changes.ldam, changes.drw)

ROWS: dict[str, tuple[changes.Change, ...]] = {
  # Liu et al., Tables 1 and 2.
  "ldam_drw": _L,
  "pseudo_label_l": (*_L, changes.pseudo("supervised")),
  "mean_teacher_l": (*_L, changes.method("mean_teacher")),
  "decoupling": (changes.classifier("crt"),),
  "pseudo_label_d": (changes.classifier("crt"), changes.pseudo("decoupling")),
  "pseudo_label_d_finetuned": (
    changes.classifier("crt"),
    changes.pseudo("decoupling", start="base", data="labeled"),
  ),
  "sslt": (changes.sslt(),),
  # Liu et al., Table 3: sampling in Stage 2 + Stage 3; data of the stages.
  "sslt_r_r": (changes.sslt(refit__sampler="random"),),
  "sslt_c_r": (
    changes.sslt(
      consistency__sampler="class_balanced", refit__sampler="random"
    ),
  ),
  "sslt_c_c": (changes.sslt(consistency__sampler="class_balanced"),),
  "sslt_classifier_all": (changes.sslt(refit__data="all"),),
  "sslt_embedding_labeled": (
    changes.sslt(refit__data="all", consistency__data="labeled"),
  ),
  # Yang & Xu, Table 1.
  "ce": _CE,
  "ce_du": (*_CE, changes.pseudo("supervised")),
  "ldam_drw_du": (*_L, changes.pseudo("supervised")),
  # Yang & Xu, Table 2.
  "cb_ce": (*_CE, changes.balanced),
  "cb_ce_ssp": (*_CE, changes.balanced, changes.ssp),
  "focal": (*_CE, changes.focal),
  "cb_focal": (*_CE, changes.focal, changes.balanced),
  "cb_focal_ssp": (*_CE, changes.focal, changes.balanced, changes.ssp),
  "ce_drw": (*_CE, changes.drw),
  "ce_drs": (*_CE, changes.drs),
  "ce_drw_ssp": (*_CE, changes.drw, changes.ssp),
  "ldam": (*_CE, changes.ldam),
  "ldam_drw_ssp": (*_L, changes.ssp),
  # Yang & Xu, Appendices E.1 and F.1: other semi- and self-supervised methods.
  "ce_ssp": (*_CE, changes.ssp),
  "ce_moco": (*_CE, changes.moco),
  "ce_mean_teacher": (*_CE, changes.method("mean_teacher")),
  "ce_vat": (*_CE, changes.method("vat")),
  "ce_pi_model": (*_CE, changes.method("pi_model")),
  "ce_temporal_ensembling": (*_CE, changes.method("temporal_ensembling")),
  "vat_l": (*_L, changes.method("vat")),
  # FASSL, Tables 1 and 2.
  "simclr": (changes.pretrained("simclr"),),
  "swav": (changes.swav,),
  "byol": (changes.byol,),
  "bcl_i": (changes.pretrained("simclr", boost_ops=1), changes.bcl),
  "sdclr": (changes.pretrained("sdclr"),),
  "fassl": (changes.fassl("paper"),),
  "probe_supervised": (changes.pretrained("supervised"),),
  # FASSL's missing ablation, and what may do better.
  "fassl_uniform": (changes.fassl("uniform"),),
  "fassl_energy": (changes.fassl("energy"),),
  "fassl_features": (changes.fassl("paper", init="features"),),
  # With the optimizer of their authors.
  "swav_lars": (changes.swav, changes.lars(0.3, weight_decay=1e-6)),
  "byol_lars": (changes.byol, changes.lars(0.2, weight_decay=1.5e-6)),
  # Others of the field, probed alike.
  "bcl_d": (changes.pretrained("sdclr", boost_ops=2), changes.bcl),
  "temperature_schedule": (
    changes.pretrained("simclr", temperature_schedule="cosine"),
  ),
  "focal_contrastive": (changes.pretrained("simclr", focal_gamma=2.0),),
  "supcon": (changes.pretrained("supcon"),),
  "moco": (changes.pretrained("moco"),),
  "probe_untrained": (changes.pretrained("none"),),
  # In no paper here, and what a reader asks for next.
  "class_balanced": (*_CE, changes.sample("class_balanced")),
  "square_root": (*_CE, changes.sample("square_root")),
  "progressive": (*_CE, changes.sample("progressive")),
  "logit_adjustment": (*_CE, changes.loss(name="logit_adjustment")),
  "logit_adjustment_posthoc": (*_CE, changes.post("logit_adjustment")),
  "vs": (*_CE, changes.loss(name="vs")),
  "ncm": (changes.classifier("ncm"),),
  "tau_norm": (changes.classifier("tau_norm"),),
  "lws": (changes.classifier("lws"),),
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


def fassl_on_cifar(
  config: Any, row: str, *, num_classes: int, split: int, per_class: int = 0
) -> None:
  """Changes a config to a row of FASSL's tables, at full length.

  2000 epochs of pre-training, 200 of prototypes and 500 of the student; where
  pre-training has labels, or their like, 200 in batches of 128.

  Args:
    config: its data are named; changed in place.
    row: a name in `ROWS`.
    num_classes: C.
    split: which classes are frequent, and which images are drawn.
    per_class: images of each class for the probe; 0 for all.

  Raises:
    ValueError: if the row is unknown.
  """
  sdclr_recipe(config)
  config.pretrain.epochs = 2000
  config.prototypes.epochs = 200
  config.student.epochs = 500
  apply(config, row)
  sdclr_protocol(
    config, num_classes=num_classes, split=split, per_class=per_class
  )
  if config.pretrain.name in ("supervised", "rotation"):
    config.pretrain.epochs = 200
    config.pretrain.batch_size = 128
    config.pretrain.learning_rate = 0.1
    config.pretrain.weight_decay = 5e-4


def needs_unlabeled(config: Any) -> bool:
  """Returns whether the method of a config learns from unlabeled images.

  Args:
    config: a row has been applied to it.
  """
  return config.method not in ("supervised", "decoupling", "probe") or (
    config.pretrain.name != "none" and config.pretrain.data == "all"
  )

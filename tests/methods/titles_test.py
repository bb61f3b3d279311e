"""Titles: the words of the papers' tables, read off a config."""

import pytest

from ltjax import config as configs
from ltjax.config import rows
from ltjax.methods import registry, titles

# What the papers call the rows (Liu et al. abbreviate L and D).
EXPECTED = {
  "ldam_drw": "LDAM-DRW",
  "pseudo_label_l": "Pseudo-Label + LDAM-DRW",
  "mean_teacher_l": "Mean Teacher + LDAM-DRW",
  "decoupling": "Decoupling",
  "pseudo_label_d": ("Pseudo-Label + Decoupling, from scratch, g on D and U'"),
  "pseudo_label_d_finetuned": ("Pseudo-Label + Decoupling, fine-tuned, g on D"),
  "sslt": "SSLT",
  "ce": "CE",
  "ce_du": "Pseudo-Label + CE",
  "cb_ce": "CB-CE",
  "cb_ce_ssp": "CB-CE + SSP",
  "focal": "Focal",
  "cb_focal": "CB-Focal",
  "cb_focal_ssp": "CB-Focal + SSP",
  "ce_drw": "CE-DRW",
  "ce_drs": "CE-DRS",
  "ce_drw_ssp": "CE-DRW + SSP",
  "ldam": "LDAM",
  "ldam_drw_ssp": "LDAM-DRW + SSP",
  "ce_moco": "CE + MoCo",
  "ce_vat": "VAT + CE",
  "class_balanced": "CE, class-balanced sampling",
  "vs": "VS",
  "byol": "BYOL",
  "byol_lars": "BYOL (LARS)",
  "ncm": "NCM",
  "knn": "kNN",
  "lws": "LWS",
}


@pytest.mark.parametrize("row", EXPECTED)
def test_rows_are_called_as_in_the_tables(row):
  config = rows.apply(configs.default(), row)
  assert registry.title(config) == EXPECTED[row]


def test_an_override_changes_the_title():
  config = rows.apply(configs.default(), "ldam_drw")
  config.loss.defer = 0.0
  assert registry.title(config) == "CB-LDAM"
  config.loss.weights = "none"
  config.sampler.name = "square_root"
  assert registry.title(config) == "LDAM, square-root sampling"


def test_the_base_of_a_semi_supervised_run_is_its_supervised_model():
  config = rows.apply(configs.default(), "pseudo_label_d")
  assert titles.decoupled(config) == "Decoupling"
  config.loss.name = "focal"
  assert titles.decoupled(config) == "Decoupling (Focal)"
  assert registry.title(config) == (
    "Pseudo-Label + Decoupling (Focal), from scratch, g on D and U'"
  )


def test_self_training_says_where_the_final_model_starts():
  config = rows.apply(configs.default(), "ce_du")
  config.pseudo.start = "base"
  assert registry.title(config) == "Pseudo-Label + CE, fine-tuned"
  config = rows.apply(configs.default(), "pseudo_label_d_finetuned")
  config.refit.data = "all"
  assert registry.title(config).endswith(", fine-tuned, g on D and U'")
  config.classifier.kind = "lws"  # which is fitted to D
  assert registry.title(config) == "Pseudo-Label + LWS, fine-tuned"


def test_a_name_it_does_not_know_is_shown_as_it_is():
  config = configs.default()
  config.method = "supervised"
  config.loss.name = "poly"
  assert registry.title(config) == "poly"


def test_alternate_sampling_names_what_it_begins_with():
  config = rows.apply(configs.default(), "sslt")
  config.loss.name = "focal"
  config.pretrain.name = "moco"
  assert registry.title(config) == "SSLT (Focal) + MoCo"

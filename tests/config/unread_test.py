"""Settings without effect: each is refused, with what would read it."""

import pytest
import toys

from ltjax import config as configs
from ltjax import methods
from ltjax.config import rows as presets
from ltjax.config import unread

LWS = {"classifier__kind": "lws"}


def refusal(row="ce", **changes):
  """Returns the message on a row of the tables with fields changed."""
  config = presets.apply(toys.config(), row)
  config.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in changes.items()}
  )
  with pytest.raises(ValueError) as caught:
    unread.check(config.method, config)
  return str(caught.value)


@pytest.mark.parametrize("row", presets.ROWS)
@pytest.mark.parametrize("variant", configs.VARIANTS)
def test_rows_of_the_tables_set_nothing_in_vain(row, variant):
  config = presets.apply(configs.sslt(variant), row)
  unread.check(config.method, config)


def test_the_message_names_the_value_the_reader_and_the_default():
  assert refusal(semi__alpha=0.9) == (
    "semi.alpha is 0.9, but nothing reads it here: it belongs to"
    " method=temporal_ensembling. Choose that, or leave semi.alpha at 0.6."
  )
  assert refusal(classifier__kind="ncm") == (
    "classifier.kind is 'ncm', but nothing reads it here: it belongs to"
    " method=decoupling or sslt, or to method=pseudo_label with"
    " pseudo.base=decoupling. Choose that, or leave classifier.kind at 'crt'."
  )


def test_both_variants_defaults_pass_and_are_named():
  config = presets.apply(configs.sslt("paper"), "ce")
  config.consistency.memory_reset = "uniform"  # of the authors' code
  unread.check(config.method, config)
  config.pseudo_label.transform = "none"
  with pytest.raises(ValueError, match="at 'test' or 'train'"):
    unread.check(config.method, config)


@pytest.mark.parametrize(
  "row, changes",
  [
    ("ce", {"loss__gamma": 2.0}),
    ("focal", {"loss__tau": 0.5}),
    ("ce", {"loss__margin": 0.3}),
    ("logit_adjustment", {"loss__vs_gamma": 0.1}),
    ("ce", {"loss__beta": 0.999}),
    ("sslt", {"loss__counts": "all"}),
    ("decoupling", {"loss__counts": "all"}),
    ("ce", {"sampler__defer": 0.8}),
    ("square_root", {"sampler__exponent": 0.2}),
    ("class_balanced", {"sampler__beta": 0.9}),
    ("ce", {"model__head_scale": 30.0}),
    ("ce", {"pretrain__data": "all"}),
    ("ce_moco", {"pretrain__rotations": "four"}),
    ("ce_ssp", {"pretrain__queue": 8}),
    ("ldam_drw_du", {"classifier__kind": "lws"}),
    ("ce_mean_teacher", {"classifier__batch_norm": "update"}),
    ("ncm", {"classifier__sampler": "random"}),
    ("decoupling", {"classifier__ncm_features": "l2"}),
    ("decoupling", {"classifier__tau": 0.5}),
    ("lws", {"classifier__select_tau": True}),
    ("tau_norm", {"classifier__tau": 0.5, "classifier__select_tau": True}),
    ("sslt", {"pseudo__base": "decoupling"}),
    ("sslt", {"semi__weight": 1.0}),
    ("ce_vat", {"semi__ema": 0.9}),
    ("ce_mean_teacher", {"semi__epsilon": 1.0}),
    ("ce_mean_teacher", {"consistency__weight": 2.0}),
    ("pseudo_label_d", {"consistency__sampler": "class_balanced"}),
    ("pseudo_label_d_finetuned", {"refit__data": "all"} | LWS),
    ("ldam_drw_du", {"refit__data": "all"}),
    ("fassl", {"student__clip": 2.0, "student__standardize": False}),
    ("fassl_uniform", {"student__standardize": False}),
    ("ce", {"classifier__sampler": "random"}),
    ("decoupling", {"refit__data": "all"}),
    ("ce", {"posthoc__tau": 0.5}),
    ("ce", {"posthoc__select": True}),
    ("logit_adjustment_posthoc", {"posthoc__costs": (1.0,) * 4}),
    (
      "logit_adjustment_posthoc",
      {"posthoc__tau": 0.5, "posthoc__select": True},
    ),
  ],
)
def test_what_nothing_reads_is_refused(row, changes):
  message = refusal(row, **changes)
  field, value = next(iter(changes.items()))
  assert message.startswith(f"{field.replace('__', '.')} is {value!r}, but")


@pytest.mark.parametrize(
  "row, changes",
  [
    ("focal", {"loss__gamma": 2.0}),
    ("cb_ce", {"loss__beta": 0.999}),
    ("ldam", {"loss__margin": 0.3}),
    ("ldam", {"model__head_scale": 16}),
    ("ce_moco", {"pretrain__queue": 8, "pretrain__data": "all"}),
    ("pseudo_label_d_finetuned", LWS),
    ("sslt", {"classifier__kind": "tau_norm", "classifier__tau": 0.5}),
    ("ldam_drw_du", {"pseudo__omega": 0.5, "pseudo__start": "base"}),
    ("logit_adjustment_posthoc", {"posthoc__tau": 0.5}),
    ("sslt", {"consistency__weight": 0.0, "refit__sampler": "random"}),
    ("vat_l", {"semi__weight": 2.0, "semi__xi": 1.0}),
  ],
)
def test_what_is_read_passes(row, changes):
  config = presets.apply(toys.config(), row)
  config.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in changes.items()}
  )
  unread.check(config.method, config)


def test_a_method_that_was_added_may_read_any_block():
  config = toys.config(method="smoothing", semi__alpha=0.9)
  unread.check(config.method, config)
  config.loss.gamma = 2.0  # but not what its loss leaves out
  with pytest.raises(ValueError, match="loss.gamma is 2.0"):
    unread.check(config.method, config)


def test_building_a_method_refuses_them():
  config = toys.config(method="supervised", sampler__beta=0.9)
  with pytest.raises(ValueError, match="sampler.beta is 0.9"):
    methods.stages("supervised", toys.learner(), config)

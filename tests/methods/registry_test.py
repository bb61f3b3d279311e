"""Settings without effect: each is refused, with what would read it."""

import math
import pathlib

import pytest
import toys

from ltjax import config as configs
from ltjax import methods
from ltjax.config import __main__ as command
from ltjax.config import check as config_check
from ltjax.config import rows
from ltjax.methods import blocks, registry, semi_supervised

LWS = {"classifier__kind": "lws"}


def refusal(row="ce", **changes):
  """Returns the message on a row of the tables with fields changed."""
  config = rows.apply(toys.config(), row)
  config.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in changes.items()}
  )
  with pytest.raises(ValueError) as caught:
    registry.check_read(config)
  return str(caught.value)


@pytest.mark.parametrize("row", rows.ROWS)
@pytest.mark.parametrize("variant", configs.VARIANTS)
def test_rows_of_the_tables_set_nothing_in_vain(row, variant):
  config = rows.apply(configs.default(variant), row)
  registry.check_read(config)


def test_the_message_names_the_value_the_reader_and_the_default():
  assert refusal(semi__alpha=0.9) == (
    "semi.alpha is 0.9, but nothing reads it here: it belongs to"
    " method=temporal_ensembling. Choose that, or leave semi.alpha at 0.6."
  )
  assert refusal(classifier__kind="ncm") == (
    "classifier.kind is 'ncm', but nothing reads it here: it belongs to"
    " method=decoupling or sslt or alternate, or to method=pseudo_label with"
    " pseudo.base=decoupling, or to method=glmc with glmc.finetune=True. Choose"
    " that, or leave classifier.kind at 'crt'."
  )


def test_both_variants_defaults_pass_and_are_named():
  config = rows.apply(configs.default("paper"), "ce")
  config.consistency.memory_reset = "uniform"  # of the authors' code
  registry.check_read(config)
  config.pseudo_label.transform = "none"
  with pytest.raises(ValueError, match="at 'test' or 'train'"):
    registry.check_read(config)


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
  config = rows.apply(toys.config(), row)
  config.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in changes.items()}
  )
  registry.check_read(config)


def test_a_method_that_was_added_reads_its_blocks(monkeypatch):
  method = registry.Method(
    "new",
    title=lambda config: "New",
    paper="",
    stages=lambda learner, config: iter(()),
    blocks={semi_supervised.SEMI: {}, blocks.LOSS: {}},
  )
  config = toys.config(semi__weight=0.9)
  config.method = "new"
  monkeypatch.setitem(methods.METHODS, "new", method)
  registry.check_read(config)
  assert registry.title(config) == "New"
  told = registry.told(config)
  assert told["semi"]["weight"] == 0.9 and "embedding" not in told
  config.loss.gamma = 2.0  # but not what its loss leaves out
  with pytest.raises(ValueError, match="loss.gamma is 2.0"):
    registry.check_read(config)


def test_told_are_the_settings_that_a_run_reads():
  config = rows.apply(configs.default(), "ce")
  told = registry.told(config)
  blocks = {*("data", "model", "embedding", "loss", "sampler", "pretrain")}
  blocks |= {*("posthoc", "eval", "run")}
  assert {n for n, v in told.items() if isinstance(v, dict)} == blocks
  assert told["loss"] == {
    "name": "cross_entropy",
    "weights": "none",
    "reduction": "mean",
  }
  assert told["pretrain"] == told["posthoc"] == {"name": "none"}
  assert "milestones" not in told["embedding"]
  config.embedding.schedule = "step"
  assert "milestones" in registry.told(config)["embedding"]


def test_a_config_of_all_blocks_is_compared_in_those_that_are_read():
  config = rows.apply(configs.default(), "ce")
  stored = config.to_dict() | {"older": 1}
  assert registry.as_told(config, stored) == registry.told(config) | {
    "older": 1
  }


def test_what_is_told_gives_the_config_again():
  for row in ("ce", "sslt", "fassl", "pseudo_label_d", "glmc_max_norm"):
    config = rows.apply(configs.default("author_code"), row)
    again = config_check.completed(registry.told(config))
    assert registry.told(again) == registry.told(config), row


def test_the_docs_have_the_table_of_methods():
  page = pathlib.Path(__file__).parents[2] / "docs" / "methods.md"
  assert registry.table() in page.read_text()


def test_help_tells_default_range_need_and_variant(capsys):
  assert command.main(["glmc"]) == 0
  text = capsys.readouterr().out
  assert "  beta = 0.5 (author_code: 1.0): lambda" in text
  assert "in [0, 1)" in text and "[glmc.cumulative=True]" in text
  assert command.main(["pretrain"]) == 0
  assert (
    "[pretrain.name=sdclr; or pretrain.name=fassl" in capsys.readouterr().out
  )
  assert command.main([]) == 0
  assert capsys.readouterr().out == registry.table() + "\n"
  assert command.main(["glcm"]) == 1
  assert "Did you mean 'glmc'?" in capsys.readouterr().err


@pytest.mark.parametrize(
  "row, changes, message",
  [
    ("sslt", {"consistency__weight": -0.5}, "is -0.5; .* 0 or more .*: lambda"),
    ("sslt", {"consistency__weight": math.nan}, "is nan; .* and finite"),
    (
      "sslt",
      {"consistency__data": "pool"},
      "is 'pool'; .* all, labeled",
    ),
    ("sslt", {"consistency__sampler": "balanced"}, "Did you mean 'class_balan"),
    ("sslt", {"embedding__warmup_every": "batch"}, "one of step, epoch"),
    (
      "sslt",
      {"refit__max_norm": 1.5},
      r"is 1.5; it must be in \[0, 1\]: bound",
    ),
    ("sslt", {"refit__min_steps": -1}, "is -1; it must be 0 or more"),
    ("sslt", {"pseudo_label__transform": "strong"}, "one of test, train"),
    ("ncm", {"classifier__ncm_features": "l3"}, "one of cl2n, l2"),
    ("tau_norm", {"classifier__tau": 2.1}, r"is 2.1; it must be in \[0, 2\]"),
    ("pseudo_label_l", {"pseudo__omega": math.inf}, "is inf; .* and finite"),
    ("ce_drs", {"sampler__defer": 1.0}, r"is 1.0; it must be in \[0, 1\)"),
    ("ce", {"loss__name": "CB-Focal"}, "Did you mean 'focal'"),
    ("ce", {"loss__name": "balanced_softmax"}, "Use loss.name=logit_adjustm"),
    ("ce", {"embedding__epochs": 0}, "is 0; it must be 1 or more"),
    ("ce_vat", {"semi__weight": -0.5}, "is -0.5; it must be 0 or more"),
    ("ce_vat", {"semi__unlabeled_ratio": 0}, "is 0; it must be 1 or more"),
    ("ce_vat", {"semi__xi": 0.0}, "is 0.0; it must be above 0"),
    ("simclr", {"pretrain__dim": 0}, "is 0; it must be 1 or more"),
    ("simclr", {"pretrain__name": "simclear"}, "Did you mean 'simclr'"),
    ("moco", {"pretrain__ema": 1.0}, r"is 1.0; it must be in \[0, 1\)"),
    ("sdclr", {"pretrain__prune": math.nan}, r"is nan; it must be in \[0, 1\)"),
    ("swav", {"pretrain__sinkhorn_iterations": 0}, "is 0; it must be 1 or mo"),
    ("byol", {"student__ema": 1.1}, r"is 1.1; it must be in \[0, 1\]"),
    ("fassl", {"prototypes__start": "fassl"}, "one of none, rotation"),
    ("fassl", {"prototypes__init": "zeros"}, "one of random, features"),
    ("simclr", {"probe__sdclr_learning_rate": 0.0}, "it must be above 0"),
    ("simclr", {"probe__shots": -1}, "is -1; it must be 0 or more"),
  ],
)
def test_what_is_out_of_range_is_refused(row, changes, message):
  config = rows.apply(toys.config(), row)
  registry.check_ranges(config)
  ((name, value),) = changes.items()
  field = name.replace("__", ".")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ValueError, match=f"^{field} .*{message}"):
    registry.check_ranges(config)


def test_both_limits_are_checked_where_they_are_closed():
  """Both of a teacher's are rows of Table 3 of FASSL."""
  for ema in (0.0, 1.0):
    config = rows.apply(toys.config(student__ema=ema), "byol")
    registry.check_ranges(config)


def test_what_nothing_reads_may_be_out_of_range():
  registry.check_ranges(toys.config(method="supervised", semi__xi=-1.0))


def test_building_a_method_refuses_them():
  config = toys.config(method="supervised", sampler__beta=0.9)
  with pytest.raises(ValueError, match="sampler.beta is 0.9"):
    methods.stages(toys.learner(), config)
  config = toys.config(method="supervised", embedding__momentum=1.0)
  with pytest.raises(ValueError, match="embedding.momentum is 1.0; it must be"):
    methods.stages(toys.learner(), config)

"""Presets: every row is a config that passes all checks and builds."""

import pytest
import toys

from ltjax import config as configs
from ltjax import methods
from ltjax.config import check as config_check
from ltjax.config import rows
from ltjax.losses import objective

every_row = pytest.mark.parametrize("row", rows.ROWS)


@every_row
@pytest.mark.parametrize("variant", configs.VARIANTS)
def test_a_row_passes_the_checks(row, variant):
  config = rows.apply(configs.default(variant), row)
  config_check.check(config)
  assert config.method in methods.METHODS
  made = objective.make(
    config.loss,
    head=config.model.head,
    head_scale=config.model.head_scale,
    num_classes=10,
  )
  assert made.settings.name == config.loss.name


@every_row
def test_a_row_builds_its_stages(row):
  """On the toy, whose head is linear: LDAM then says what it needs."""
  config = rows.apply(toys.config(), row)
  for block in toys.BLOCKS:
    config[block].warmup_epochs = 0
  config.weak_strong.unlabeled_ratio = 2
  if config.pretrain.name == "moco":
    config.pretrain.queue = 2 * toys.BATCH
  config.classifier.select_tau = False
  config.prototypes.count = toys.N
  if config.method in toys.SOLVED:
    config.model.update(name="efficientnet_lite0", tune="head")
  stages = methods.stages(toys.learner(), config)
  assert stages[-1].report is not None
  assert len({stage.name for stage in stages}) == len(stages)
  pretrains = config.pretrain.name != "none"
  assert (stages[0].name == "pretrain") == pretrains


def test_rows_of_table_2_of_yang_and_xu_differ_in_these_settings():
  def chosen(row):
    config = rows.apply(configs.default(), row)
    loss, sampler = config.loss, config.sampler
    return (
      *(loss.name, loss.weights, loss.defer),
      *(sampler.name, sampler.defer, config.model.head, config.pretrain.name),
    )

  number, none = "effective_number", "none"
  table = {
    "ce": ("cross_entropy", none, 0.0, "random", 0.0, "linear", none),
    "cb_ce": ("cross_entropy", number, 0.0, "random", 0.0, "linear", none),
    "focal": ("focal", none, 0.0, "random", 0.0, "linear", none),
    "cb_focal": ("focal", number, 0.0, "random", 0.0, "linear", none),
    "ce_drw": ("cross_entropy", number, 0.8, "random", 0.0, "linear", none),
    "ce_drs": ("cross_entropy", none, 0.0, number, 0.8, "linear", none),
    "ldam": ("ldam", none, 0.0, "random", 0.0, "cosine", none),
    "ldam_drw": ("ldam", number, 0.8, "random", 0.0, "cosine", none),
    "ldam_drw_ssp": (
      *("ldam", number, 0.8, "random", 0.0),
      *("cosine", "rotation"),
    ),
  }
  assert {row: chosen(row) for row in table} == table


def test_the_schedule_of_cao_et_al():
  """160 and 180 of 200 epochs, five of warm-up; other lengths in proportion."""
  config = configs.default()
  config.semi.epochs = 40
  rows.ldam_schedule(config)
  for name in ("pretrain", "embedding", "pseudo", "semi"):
    block = config[name]
    assert (block.schedule, block.milestones) == ("step", (0.8, 0.9))
    assert block.factor == 0.01 and block.weight_decay == 2e-4
  assert config.embedding.warmup_epochs == 5
  assert config.semi.warmup_epochs == 1
  assert config.refit.schedule == "cosine"  # not of the whole network


def test_ldam_brings_its_schedule_and_head():
  config = rows.apply(configs.default(), "ldam_drw")
  assert config.model.head == "cosine" and config.model.head_scale == 30.0
  assert config.embedding.schedule == "step"
  assert rows.apply(configs.default(), "ce").embedding.schedule == "cosine"


def test_the_rows_of_table_3_of_liu_et_al():
  def chosen(row):
    config = rows.apply(configs.default(), row)
    return (
      *(config.consistency.sampler, config.refit.sampler),
      *(config.consistency.data, config.refit.data),
    )

  assert chosen("sslt") == ("random", "class_balanced", "all", "labeled")
  assert chosen("sslt_r_r") == ("random", "random", "all", "labeled")
  assert chosen("sslt_c_r") == ("class_balanced", "random", "all", "labeled")
  assert chosen("sslt_c_c") == (
    *("class_balanced", "class_balanced", "all", "labeled"),
  )
  assert chosen("sslt_classifier_all")[2:] == ("all", "all")
  assert chosen("sslt_embedding_labeled")[2:] == ("labeled", "all")


def test_the_authors_variant_of_rows():
  paper = rows.apply(configs.default(), "cb_focal")
  author = rows.apply(configs.default("author_code"), "cb_focal")
  assert not paper.loss.weighted_focal and author.loss.weighted_focal
  author = rows.apply(configs.default("author_code"), "ldam_drw_du")
  assert author.pseudo.batch_size == 256 and author.loss.counts == "all"


def test_the_weight_decay_of_bcl_is_its_authors_in_their_variant():
  for variant, decay in (("paper", 1e-4), ("author_code", 5e-4)):
    for row, expected in (("bcl_i", decay), ("bcl_d", decay), ("sdclr", 1e-4)):
      config = configs.default(variant)
      rows.fassl_on_cifar(config, row, num_classes=10, split=0)
      assert config.pretrain.weight_decay == expected


def test_rates_of_lars_are_in_proportion_to_the_batch():
  """At the authors' batches of 4096: 3.2 and 4.8."""
  for row, rate, decay in (("byol", 3.2, 1.5e-6), ("swav", 4.8, 1e-6)):
    found = configs.default()
    found.pretrain.batch_size = 4096
    plain = rows.apply(found.copy_and_resolve_references(), row).pretrain
    found = rows.apply(found, f"{row}_lars").pretrain
    changed = {
      "optimizer": "lars",
      "learning_rate": pytest.approx(rate),
      "weight_decay": decay,
    }
    assert found.to_dict() == plain.to_dict() | changed


def test_which_rows_need_unlabeled_images():
  needing = {
    row
    for row in rows.ROWS
    if rows.needs_unlabeled(rows.apply(configs.default(), row))
  }
  assert {"sslt", "pseudo_label_d", "ce_du", "ce_vat"} <= needing
  assert not needing & {"ce", "ldam_drw_ssp", "decoupling", "ncm"}
  config = rows.apply(configs.default(), "ce_ssp")
  config.pretrain.data = "all"
  assert rows.needs_unlabeled(config)


def test_an_unknown_row_is_refused():
  with pytest.raises(ValueError) as caught:
    rows.apply(configs.default(), "ldam_drv")
  assert str(caught.value).startswith("row is 'ldam_drv'; choose one of ")
  assert str(caught.value).endswith("Did you mean 'ldam_drw'?")


@pytest.mark.parametrize(
  "row, epochs, batch_size",
  [("fassl", 2000, 512), ("probe_supervised", 200, 128), ("ce", 2000, 512)],
)
def test_the_length_of_fassl_on_cifar(row, epochs, batch_size):
  """Labels are learned from in a tenth of the epochs."""
  config = configs.default()
  rows.fassl_on_cifar(config, row, num_classes=10, split=3, per_class=40)
  assert config.pretrain.epochs == epochs
  assert config.pretrain.batch_size == batch_size
  assert (config.prototypes.epochs, config.student.epochs) == (200, 500)
  assert config.data.seed == 3 and len(config.data.labeled.class_order) == 10
  probes = config.method == "probe"
  assert config.data.probe.per_class == (40 if probes else 0)

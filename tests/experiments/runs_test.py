"""The runs of the papers' tables: each can be drawn, and rows share a split."""

import importlib.util
import pathlib

import numpy as np
import pytest

from experiments import (
  sslt_table1,
  sslt_table2,
  sslt_table3,
  sslt_table4,
  yang_xu_figures_2_3,
  yang_xu_table1,
  yang_xu_table2,
)
from ltjax.data.splits import draw as splits

REPOSITORY = pathlib.Path(__file__).parents[2]
# Training images of a class.
SIZES = {
  "cifar10": (10, 5000),
  "cifar100": (100, 500),
  "fashion_mnist": (10, 6000),
}
TABLES = (
  sslt_table1,
  sslt_table2,
  sslt_table3,
  sslt_table4,
  yang_xu_figures_2_3,
  yang_xu_table1,
  yang_xu_table2,
)


def config_of(run):
  path, _, argument = run.config.partition(":")
  spec = importlib.util.spec_from_file_location("config", REPOSITORY / path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(argument)
  for override in run.overrides:
    field, _, value = override.removeprefix("--config.").partition("=")
    old = config
    for name in field.split("."):
      old = old[name]
    config.update_from_flattened_dict({field: type(old)(value)})
  return config


def draw(data):
  """Returns the split of a config's data block, drawn from labels alone."""
  num_classes, size = SIZES[data.source]
  others = np.arange(60000) % 100 if data.unlabeled.relevance < 1 else None
  return splits.build(
    np.repeat(np.arange(num_classes), size),
    num_classes=num_classes,
    labeled=dict(data.labeled),
    unlabeled=dict(data.unlabeled),
    validation=dict(data.validation),
    seed=data.seed,
    irrelevant_labels=others,
  )


@pytest.mark.parametrize("scale", ["cpu", "full"])
@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.__name__[12:])
def test_every_row_can_be_drawn_and_has_the_same_labeled_images(table, scale):
  drawn, labeled = {}, {}
  for run in table.runs(scale):
    if run.seed:
      continue
    data = config_of(run).data
    if data.source not in SIZES:  # ImageNet and SVHN's pool need their files.
      continue
    block = data.to_json_best_effort()
    if block not in drawn:
      drawn[block] = draw(data)  # Raises where images run out.
    split = drawn[block]
    assert min(split.labeled_counts) >= 1, run.name
    first = labeled.setdefault((data.source, data.labeled.rho), split.labeled)
    np.testing.assert_array_equal(split.labeled, first, err_msg=run.name)
  assert drawn or (table, scale) == (sslt_table2, "full")


@pytest.mark.parametrize("rho", [100, 50, 10])
def test_the_unlabeled_images_of_table_1_have_one_total(rho):
  totals = []
  for run in yang_xu_table1.runs("full"):
    if f"ce_du-cifar10_714-rho{rho}-" in run.name and run.seed == 0:
      split = draw(config_of(run).data)
      totals.append(sum(split.unlabeled_counts) / sum(split.labeled_counts))
  np.testing.assert_allclose(totals, [5] * 4, rtol=2e-3)


def test_the_queue_of_moco_is_a_small_part_of_the_labeled_images():
  """Otherwise most images meet older keys of their own among the negatives."""
  found = 0
  for run in yang_xu_table2.runs("cpu"):
    config = config_of(run)
    if config.pretrain.name == "moco":
      found += 1
      labeled = sum(draw(config.data).labeled_counts)
      assert config.pretrain.queue < labeled / 4
  assert found == len(yang_xu_table2.SEEDS)

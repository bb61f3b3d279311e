"""Names of experiments: short, in the papers' words, and never the same."""

import itertools

import ml_collections

from ltjax import config as configs
from ltjax.config import rows
from ltjax.report import run_names


def row(name, **changes):
  """The config of a table's row, as a summary holds it."""
  config = rows.apply(configs.default(), name)
  config.update_from_flattened_dict(
    {field.replace("__", "."): value for field, value in changes.items()}
  )
  return ml_collections.ConfigDict(config).to_dict()


def names(*experiments):
  return [name for name, _ in run_names.tell_apart(experiments)]


def test_rows_of_the_tables_are_called_as_there():
  found = names(row("ce"), row("ldam_drw"), row("decoupling"), row("sslt"))
  assert found == ["CE", "LDAM-DRW", "Decoupling", "SSLT"]


def test_one_experiment_needs_no_settings():
  ((name, settings),) = run_names.tell_apart([row("sslt")])
  assert (name, settings) == ("SSLT", {})


def test_those_called_alike_are_told_apart_by_a_setting():
  found = run_names.tell_apart(
    [row("ce"), row("sslt"), row("sslt", consistency__weight=0.0)]
  )
  assert [name for name, _ in found] == [
    "CE",
    "SSLT",
    "SSLT, consistency.weight=0",
  ]
  assert found[2][1]["consistency.weight"] == 0.0


def test_what_the_data_are_is_said_of_all():
  cifar = {"data__source": "cifar10", "data__pad": 2}
  assert names(row("ce"), row("sslt"), row("sslt", **cifar)) == [
    "CE, data.source=digits",
    "SSLT, data.source=digits",
    "SSLT, data.source=cifar10",
  ]


def test_as_few_settings_as_needed():
  a = row("ce")
  b = row("ce", loss__tau=2.0, embedding__epochs=5, embedding__batch_size=64)
  found = run_names.tell_apart([a, b])
  assert [name for name, _ in found] == ["CE", "CE, embedding.batch_size=64"]
  assert found[1][1] == {
    "loss.tau": 2.0,
    "embedding.epochs": 5,
    "embedding.batch_size": 64,
  }


def test_a_presets_name_stands_for_what_it_sets():
  variants = [configs.default(v).to_dict() for v in configs.VARIANTS]
  assert names(*variants) == [
    "SSLT",
    "SSLT, variant=author_code",
  ]


def test_two_settings_where_one_does_not_do():
  grid = itertools.product((0.1, 0.2), (5, 6))
  found = names(
    *[
      row("ce", embedding__learning_rate=r, embedding__epochs=e)
      for r, e in grid
    ]
  )
  assert found == [
    "CE, embedding.epochs=5",
    "CE, embedding.epochs=6",
    "CE, embedding.epochs=5, embedding.learning_rate=0.2",
    "CE, embedding.epochs=6, embedding.learning_rate=0.2",
  ]


def test_an_end_of_a_path_that_is_no_other_fields():
  """`rho` is of the labeled and the unlabeled images."""
  found = names(row("ce"), row("ce", data__labeled__rho=10.0))
  assert found == ["CE, labeled.rho=100", "CE, labeled.rho=10"]


def test_a_field_that_only_one_has_and_a_config_of_an_older_version():
  old = {"method": "decoupling", "note": [1, 2.5]}
  assert names(old, {"method": "decoupling"}) == [
    "Decoupling, note=(1 2.5)",
    "Decoupling",
  ]
  assert names({"method": "mine"}) != names({"method": "sslt"})
  assert names({"method": "mine", "loss": {}}) == ["mine"]


def test_all_rows_have_short_names_of_their_own():
  different = {str(e): e for e in map(row, rows.ROWS)}
  found = names(*different.values())
  assert len(set(found)) == len(different) > 20
  assert max(map(len, found)) < 80

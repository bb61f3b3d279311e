"""The table of losses tells the truth about what each row reads."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import settings as loss_settings
from ltjax.losses import table

COUNTS = jnp.array([90.0, 9.0, 1.0])
# Another value than the default for each number that a loss may read.
OTHER = {"gamma": 3.0, "margin": 0.2, "tau": 2.0, "vs_gamma": 0.7}
OTHER |= {"delta": (1.0, 5.0, 2.0), "beta": 0.9, "class_weights": (3.0, 1, 1)}


def losses(name, counts=COUNTS, **settings):
  logits = jax.random.normal(jax.random.key(0), (6, 3)) / 3
  labels = jnp.arange(6) % 3
  base = {"delta": (1.0, 1.0, 1.0), "class_weights": (1.0, 1.0, 1.0)}
  chosen = loss_settings.of(base | settings)
  given = table.Given(chosen, counts, 30.0)
  return np.asarray(table.LOSSES[name].function(logits, labels, given))


def weights(name, counts=COUNTS, **settings):
  chosen = loss_settings.of({"class_weights": (1.0, 1.0, 1.0)} | settings)
  return np.asarray(table.WEIGHTS[name].function(counts, chosen))


@pytest.mark.parametrize(
  "rows, function",
  [(table.LOSSES, losses), (table.WEIGHTS, weights)],
  ids=["losses", "weights"],
)
def test_a_row_reads_the_fields_and_counts_that_it_names(rows, function):
  """And no others: each field is changed in turn."""
  for name, row in rows.items():
    usual = function(name)
    assert usual.dtype == np.float32 and np.isfinite(usual).all()
    read = {
      field
      for field, value in OTHER.items()
      if not np.array_equal(function(name, **{field: value}), usual)
    }
    assert read == set(row.fields), name
    moved = function(name, counts=jnp.array([5.0, 50.0, 45.0]))
    assert np.array_equal(moved, usual) == (not row.counts), name


def test_fields_are_settings():
  known = {field.name for field in dataclasses.fields(loss_settings.Settings)}
  for row in (*table.LOSSES.values(), *table.WEIGHTS.values()):
    assert set(row.fields) <= known


def test_who_reads_a_field():
  assert table.reading("gamma") == ("focal", "sigmoid_focal")
  assert table.reading("vs_gamma") == ("vs",)

"""A dry run tells what a run would do, and does nothing."""

import jax
import pytest
import runs
import toys

from ltjax import dry_run


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
  return runs.place(tmp_path, monkeypatch)


def shown(**changes):
  lines = []
  dry_run.show(runs.config(**changes), echo=lines.append)
  return "\n".join(lines)


def test_a_dry_run_shows_everything_and_writes_nothing(place):
  before = runs.files(place)
  text = shown()
  assert runs.files(place) == before
  for line in (
    "rho: 100.0",  # the config
    "max / min",  # the class table
    "backbone/kernel",  # the parameters
  ):
    assert line in text, line
  lines = [line.split() for line in text.splitlines()]
  # Columns: stage, epochs, batch, steps, samples.
  assert ["embedding", "2", "8", "10", "80"] in lines
  assert ["classifier", "2", "8", "10", "80"] in lines
  assert ["loop1/pseudo_label", "0", "0", "0", "0"] in lines
  assert ["loop1/consistency", "2", "8", "14", "112"] in lines
  assert ["loop1/refit", "2", "8", "10", "80"] in lines
  assert ["total", "44", "352"] in lines
  count = 16 * toys.D + 2 * toys.D + toys.D * toys.C + toys.C
  assert ["total", str(count)] in lines


def test_a_dry_run_finds_what_a_run_would():
  with pytest.raises(ValueError, match="refit.batch_size is 999"):
    shown(refit__batch_size=999)


def test_a_batch_that_devices_cannot_share_is_refused_before_training(place):
  assert len(jax.devices()) == 4
  for build in (shown, lambda **changes: runs.run("run", **changes)):
    with pytest.raises(
      ValueError,
      match="refit.batch_size is 6, which 4 devices cannot share evenly; set"
      " --config.refit.batch_size to a multiple of 4",
    ):
      build(refit__batch_size=6)
  assert not (place / "run" / "config.json").exists()

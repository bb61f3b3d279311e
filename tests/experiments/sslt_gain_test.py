"""The runs of the study: their splits, their steps, and their page."""

import re

import pytest

from experiments import sslt_gain, sslt_gain_page
from ltjax.data.splits import profiles
from tests.experiments import runs_test

SCALES = pytest.mark.parametrize("scale", ["cpu", "full"])


@SCALES
def test_images_are_counted_rightly_and_enough_for_every_row(scale):
  for data in sslt_gain.SCALES[scale]:
    for run in sslt_gain.runs(scale):
      if run.seed or not run.name.startswith(f"{data.name}-"):
        continue
      config = runs_test.config_of(run)
      labeled = config.data.labeled
      counts = profiles.counts(
        labeled.profile, 10, max_count=labeled.max_count, rho=labeled.rho
      )
      if run.name.endswith("labels"):
        assert sum(counts) == data.more
      else:
        assert sum(counts) == data.labeled
        assert config.data.unlabeled.factor * sum(counts) == data.pool
      if config.data.source in runs_test.SIZES:
        runs_test.draw(config.data)  # Raises where images run out.


@SCALES
def test_a_classifier_has_no_fewer_steps_than_its_name_says(scale):
  for data in sslt_gain.SCALES[scale]:
    for run in sslt_gain.runs(scale):
      if run.seed or not run.name.startswith(f"{data.name}-"):
        continue
      config = runs_test.config_of(run)
      least = int((re.findall(r"sslt_(\d+)", run.name) or [960])[0])
      images = data.more if run.name.endswith("labels") else data.labeled
      if config.method != "supervised":
        steps = images // config.classifier.batch_size
        assert least <= config.classifier.epochs * steps < least + 161
      if config.method in ("sslt", "pseudo_label"):
        if config.refit.data == "all":
          images += data.pool
        steps = images // config.refit.batch_size
        assert least <= config.refit.epochs * steps < least + 161


def record(name, seed, accuracy):
  scores = {key: accuracy for key in sslt_gain_page.COLUMNS.values()}
  evaluations = [
    {"model": "M", "split": split, **scores} for split in ("test", "validation")
  ]
  return {
    "name": f"digits-{name}",
    "seed": seed,
    "scale": "cpu",
    "seconds": 1.0,
    "devices": ["cpu"],
    "commit": "abc",
    "evaluations": evaluations,
    "result": {"last": evaluations[0]},
  }


def test_the_page_marks_the_choice_and_tells_differences_seed_by_seed():
  accuracies = {
    "sslt_0": (0.5, 0.75, 0.5),
    "sslt_240": (0.75, 0.625, 0.625),
    "sslt_960": (1.0, 1.0),  # Too few seeds to be chosen.
  }
  records = [
    record(name, seed, accuracy)
    for name, found in accuracies.items()
    for seed, accuracy in enumerate(found)
  ]
  text = sslt_gain_page.to_markdown(records)
  (row,) = [
    r for r in text.splitlines() if r.startswith("| SSLT, ") and "←" in r
  ]
  cells = [cell.strip() for cell in row.strip("|").split("|")]
  assert cells == [
    *("SSLT, 240 steps ←", "3", *["66.7 ± 7.2"] * 5),
    "8.3 ± 19.1 (2 of 3 above)",
  ]
  assert "| SSLT, 960 steps " in text and "2, no claim" in text

import json
import pathlib

import numpy as np
from PIL import Image
import pytest

from experiments import theory_points, yang_xu_theory

RESULTS = pathlib.Path(yang_xu_theory.__file__).with_suffix("")
THEOREMS = (
  theory_points.theorem1,
  theory_points.theorem2,
  theory_points.theorem3,
)


@pytest.fixture(scope="module")
def points():
  """All points, from a thousandth of the draws."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(yang_xu_theory.TRIALS, "cpu", 2000)
    return yang_xu_theory.records("cpu")


def test_interval_golden():
  # No hit of n: the upper end is 1 - 0.025^(1/n).
  low, high = theory_points.interval(0, 10)
  assert low == 0 and high == pytest.approx(1 - 0.025**0.1)
  low, high = theory_points.interval(10, 10)
  assert low == pytest.approx(0.025**0.1) and high == 1
  low, high = theory_points.interval(5, 10)
  assert (low, high) == pytest.approx((0.1871, 0.8129), abs=1e-4)


@pytest.mark.parametrize("rate", [0.01, 0.4])
def test_interval_covers(rate):
  hits = np.random.default_rng(0).binomial(200, rate, 500)
  ends = [theory_points.interval(int(h), 200) for h in hits]
  assert np.mean([low <= rate <= high for low, high in ends]) >= 0.94


def test_no_bound_is_broken(points):
  for r in points:
    if r["theorem"] == 1 and "bound" in r:
      assert r["low"] <= r["bound"]
      assert r["low"] <= r["sharper"]
    if r["theorem"] == 2 and r["margin"] >= 0:
      assert r["high"] >= r["bound"] and r["formula"] > 0.25
    if r["theorem"] == 3:
      assert r["bound_missed"] == 0
      assert r["best_error"] <= r["error"] + 1e-12


def test_the_theorem_without_its_condition_is_broken(points):
  broken = [r for r in points if r["theorem"] == 2 and r["high"] < r["bound"]]
  assert broken and all(r["margin"] < 0 for r in broken)
  assert {r["p_minus"] for r in broken} == {0.9}


def test_measured_errors_are_those_of_the_formula(points):
  rows = [r for r in points if r["theorem"] == 2]
  covered = [r["low"] <= r["formula"] <= r["high"] for r in rows]
  assert np.mean(covered) > 0.9


def test_estimates_lie_at_their_centres(points):
  for r in points:
    if r["theorem"] == 1 and "bound" in r:
      error = r["std"] / np.sqrt(r["trials"])
      assert abs(r["mean"] - r["centre"]) < 5 * error


def test_where_the_theorem_promises_nothing(points):
  none = [r for r in points if r["theorem"] == 3 and r["bound"] is None]
  assert none
  for r in none:
    assert r["delta"] >= (r["beta"] - 1) / (r["beta"] + 1)


@pytest.mark.parametrize("theorem", THEOREMS)
def test_same_seed_same_points(theorem):
  first, again = (
    list(theorem(np.random.default_rng(3), 100)) for _ in range(2)
  )
  assert first == again


def test_writes_tables_and_pictures(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(yang_xu_theory.TRIALS, "full", 1000)
  out = tmp_path / "new" / "theory"
  assert yang_xu_theory.main(["--scale=full", f"--out={out}"]) == 0
  assert str(out / "results.md") in capsys.readouterr().out
  lines = (out / "results.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert {r["theorem"] for r in rows} == {1, 2, 3}
  assert {r["scale"] for r in rows} == {"full"}
  text = (out / "results.md").read_text()
  assert "--scale=full" in text
  for number in (1, 2, 3):
    assert f"(theorem{number}.png)" in text
    with Image.open(out / f"theorem{number}.png") as picture:
      assert picture.width > 1500 and picture.height > 500


def test_tables_have_one_width(points):
  lines = yang_xu_theory.to_markdown(points).splitlines()
  blocks, block = [], []
  for line in [*lines, ""]:
    if line.startswith("|"):
      block.append(line.count("|"))
    elif block:
      blocks.append(block)
      block = []
  assert len(blocks) == 3
  assert all(len(set(block)) == 1 and len(block) > 3 for block in blocks)


def test_the_committed_results_are_whole():
  lines = (RESULTS / "results.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert (RESULTS / "results.md").read_text() == yang_xu_theory.to_markdown(
    rows
  )


def test_an_unknown_scale(capsys):
  with pytest.raises(SystemExit):
    yang_xu_theory.main(["--scale=huge"])
  assert "invalid choice: 'huge'" in capsys.readouterr().err

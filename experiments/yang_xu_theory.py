"""Theorems 1-3 of Yang & Xu by simulation: what they bound, and what happens.

    python -m experiments.yang_xu_theory [--scale=cpu|full]

Draws from the Gaussian models of the theorems (`midpoint.py`,
`scale_mixture.py`), seeds fixed, and puts them beside the printed bounds.
Writes `results.jsonl` (a line a point), `results.md` and the plots. Seconds at
`--scale=cpu`; `full` draws ten times as often.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import json
from pathlib import Path
import sys
from typing import Any

import numpy as np

from experiments import scale_mixture, theory_plots, theory_points

TRIALS = {"cpu": 200_000, "full": 2_000_000}
_FEWER = 10  # labeled sets of Theorem 3, whose errors cost more

Record = dict[str, Any]


def records(scale: str) -> list[Record]:
  """Returns all points, each theorem with a seed of its own.

  Args:
    scale: `cpu` or `full`.
  """
  trials = TRIALS[scale]
  found = list(theory_points.theorem1(np.random.default_rng(1), trials))
  found += theory_points.theorem2(np.random.default_rng(2), trials)
  found += theory_points.theorem3(np.random.default_rng(3), trials // _FEWER)
  return [{"scale": scale, **record} for record in found]


def to_markdown(found: Sequence[Record]) -> str:
  """Returns the findings, with the numbers of the points in them.

  Args:
    found: as `records` gives them.
  """
  parts = [
    f"""# Theorems 1-3 of Yang & Xu, simulated

`python -m experiments.yang_xu_theory --scale={found[0]["scale"]}`; every
formula was derived anew. All three theorems are true as stated. What is printed
around them needs care: Theorem 2 depends on the sign of the intercept that it
assumes, and the bounds of 1 and 3 say nothing over much of their range.""",
    _theorem1([r for r in found if r["theorem"] == 1]),
    _theorem2([r for r in found if r["theorem"] == 2]),
    _theorem3([r for r in found if r["theorem"] == 3]),
  ]
  return "\n\n".join(parts) + "\n"


def _theorem1(rows: Sequence[Record]) -> str:
  drawn = [r for r in rows if "bound" in r]
  cut = next(r for r in rows if r.get("cut") == 0.5)
  table = [
    [r["delta"], r["n_plus"], r["n_minus"], *_probability(r)]
    + [f"{r['sharper']:.2g}", f"{r['bound']:.2g}"]
    for r in drawn
    if (r["sweep"], r["n"]) in (("size", 160), ("size", 640), ("size", 2560))
    or (r["sweep"], r["n"]) == ("ratio", 4000)
  ]
  names = ["δ", "ñ₊", "ñ₋", "measured", "95% interval", "variances added"]
  return f"""## Theorem 1: the midpoint from pseudo labels

![Theorem 1](theorem1.png)

**Holds.** The mean of θ̂ is (μ₁ + μ₂)/2 + Δ(μ₁ − μ₂)/2 exactly, and the bound
follows by giving δ/3 to the noise and to each class's share of right labels
(Hoeffding). At {_above(drawn)} of {len(drawn)} points a measured probability
lies above the bound. μ = ±1, σ = 1, p = 0.9, q = 0.7, {drawn[0]["trials"]:,}
draws a point:

{_table([*names, "Theorem 1"], table)}

- **Loose.** At {_vacuous(drawn)} of {len(drawn)} points the bound is 1 or more
  and says nothing. The three errors are independent, so their variance proxies
  add: 2 exp(−8 δ² ñ₊ñ₋ / ((ñ₊ + ñ₋)(4σ² + (μ₁ − μ₂)²))), ours, asks for about a
  quarter of the images for the same promise. The shape over imbalance is right.
- **Δ is a bias, not a rate.** More unlabeled images narrow θ̂ around a centre
  that stays Δ(μ₁ − μ₂)/2 away from the midpoint: they do not mend a base
  classifier that is better on one class.
- **p and q are precisions** (right among those *called* +1 or −1), though the
  text calls them accuracies of a class, and "right" is drawn whatever the image.
  Pseudo labels of a real classifier, sign(x − cut), depend on x: with cut 0.5
  they have p − q = {cut["centre"]:.3f}, so the theorem's centre is
  {cut["centre"]:.3f}, but θ̂ tends to {cut["limit"]:.3f} (measured
  {cut["mean"]:.3f}). Self-training then moves the cut from 0.5 to there, a step
  of 2-means: better than the cut, worse than the theorem's centre."""  # noqa: E501


def _theorem2(rows: Sequence[Record]) -> str:
  inside = [r for r in rows if r["margin"] >= 0]
  outside = [r for r in rows if r["margin"] < 0]
  below = [r for r in outside if r["high"] < r["bound"]]
  off = max(
    abs(r["measured"] - r["formula"])
    / np.sqrt(r["formula"] * (1 - r["formula"]) / r["trials"])
    for r in rows
  )
  table = []
  for p_minus in (0.5, 0.7, 0.9, 0.99):
    for beta in (4.0, 10.0, 100.0):
      mixture = {"p_plus": 1 - p_minus, "beta": beta}
      least = scale_mixture.least_linear_error(**mixture)
      free = scale_mixture.least_linear_error(**mixture, any_sign=True)
      margin = scale_mixture.best_margin(**mixture)
      table.append(
        [p_minus, f"{beta:g}", f"{margin:.3f}", f"{least:.4f}", f"{free:.4f}"]
      )
  names = ["p₋", "β", "best b / (‖θ‖σ₁) ≥ 0", "error there"]
  return f"""## Theorem 2: no linear classifier of raw inputs

![Theorem 2](theorem2.png)

**Holds for b ≥ 0, and not without it.** The formula is right: of {len(rows)} points
(10 dimensions, ‖θ‖ from 0.1 to 10, {rows[0]["trials"]:,} images each) the one
furthest from it is {off:.1f} standard errors off, and only b / (‖θ‖σ₁) matters.
With b ≥ 0 class −1 is wrong at least half the time, so the error is at least
p₋/2 ≥ 1/4: {_below(inside)} of {len(inside)} such points are below 1/4, and
{len(below)} of {len(outside)} with b < 0 are.

{_table([*names, "least for any b"], table)}

- **b ≥ 0 is no mere convenience.** By symmetry θ can change its sign, b
  cannot: b ≥ 0 means that the point 0, where both classes are densest, is
  called +1, the minor class. With b → −∞ all is called −1, an error of p₊, which
  is below 1/4 as soon as the imbalance is above 3. "A linear classifier cannot
  have an accuracy ≥ 3/4" is false for imbalanced data without the condition.
- What is true for every b: the *balanced* error (p₋ = 1/2) is above 1/4.
- **1/4 is not reached.** It is the limit for p₋ = 1/2 and β → ∞. The least error
  has b² = 2 ‖θ‖²σ₁² log(√β p₊/p₋) / (1 − 1/β); where p₋ ≥ √β p₊ it is 1/2, at
  b = 0: under strong imbalance the best allowed linear classifier is a coin."""  # noqa: E501


def _theorem3(rows: Sequence[Record]) -> str:
  promised = [r for r in rows if r["bound"] is not None]
  failing = [r for r in rows if r["delta"] < 1]
  sets = sum(round(r["trials"]) for r in promised)
  missed = sum(r["bound_missed"] for r in promised)
  idle = [r for r in promised if r["bound"] >= r["p_plus"]]
  table = [
    [f"{r['beta']:g}", r["d"], f"{r['delta']:.3f}", f"{r['error']:.2g}"]
    + [f"{r['error_5']:.2g} to {r['error_95']:.2g}"]
    + ["none" if r["bound"] is None else f"{r['bound']:.2g}"]
    + [f"{r['best_error']:.2g}"]
    for r in rows
    if r["sweep"] == "dimension"
  ]
  names = ["β", "d", "δ", "mean error", "5 to 95%", "Theorem 3"]
  return f"""## Theorem 3: a linear classifier of squared norms

![Theorem 3](theorem3.png)

**Holds.** k₁ and k₂ cancel in sign(−Z + b), and b > 0 since both are. In units
of its class's variance ‖X‖² is a chi-square with d degrees of freedom; the
exponents are its sub-exponential tails, and the two cases are where
s = (β − 1 − (1 + β)δ)/2 is at most 1 or above. The error exceeded the bound in {missed} of {sets:,} labeled sets, and a class's mean norm was off by
δ more often than promised at {_above(failing, "failure_bound")} of
{len(failing)} points. N = 100 + 900, p₊ = 0.1, δ such that the promise holds
with 95%:

{_table([*names, "best threshold"], table)}

- **Loose.** Calling everything −1 has the error p₊. At {len(idle)} of
  {len(promised)} points the bound is not below that: with β = 4 and p₊ = 0.1 it
  takes d of about {_enough(0.1)}; the measured error is below p₊ from d = 20 on. At
  {len(rows) - len(promised)} points no δ in the theorem's range has 95%, and at
  {sum(r["failure_bound"] >= 1 for r in rows)} of the middle panel the promised
  probability is 0 or less: too few positives for the dimension.
- **The dimension does it, imbalance costs little**, as the paper says: in high
  dimension few positives are enough, since each gives d squares to the mean.
- **The midpoint is not the best threshold**, and does not know p₊. With strong
  imbalance f_ss is worse than calling everything −1, beyond an imbalance of about
  5 with d = 10 and of about 55 with d = 50 (right panel); Theorem 2 forbids its
  linear rivals that answer by b ≥ 0.
- β > 3 is needed for the second case only; the first holds for every β > 1."""  # noqa: E501


def _enough(p_plus: float) -> int:
  """The least d (by tens) whose bound beats calling everything -1, at best."""
  d = 10
  while True:
    # With ever more labeled images delta goes to 0.
    bound = scale_mixture.theorem3_bound(d, delta=1e-9, beta=4.0, p_plus=p_plus)
    if bound < p_plus:
      return d
    d += 10


def _probability(record: Record) -> list[str]:
  ends = f"{record['low']:.2g} to {record['high']:.2g}"
  return [f"{record['measured']:.2g}", ends]


def _above(rows: Sequence[Record], bound: str = "bound") -> int:
  return sum(r["low"] > r[bound] for r in rows)


def _below(rows: Sequence[Record]) -> int:
  return sum(r["high"] < r["bound"] for r in rows)


def _vacuous(rows: Sequence[Record]) -> int:
  return sum(r["bound"] >= 1 for r in rows)


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  lines = ["| " + " | ".join(map(str, row)) + " |" for row in (names, *rows)]
  return "\n".join([lines[0], "|---" * len(names) + "|", *lines[1:]])


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the simulation and writes its results; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--scale", choices=tuple(TRIALS), default="cpu")
  parser.add_argument(
    "--out",
    type=Path,
    default=Path(__file__).with_suffix(""),
    help="folder of the results; default: beside this file",
  )
  options = parser.parse_args(argv)
  found = records(options.scale)
  options.out.mkdir(parents=True, exist_ok=True)
  lines = "".join(json.dumps(record) + "\n" for record in found)
  (options.out / "results.jsonl").write_text(lines)
  (options.out / "results.md").write_text(to_markdown(found))
  theory_plots.draw(found, options.out)
  print(f"{len(found)} points: {options.out / 'results.md'}")
  return 0


if __name__ == "__main__":
  sys.exit(main())

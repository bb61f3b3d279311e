"""Several finished runs side by side: mean and spread over seeds.

Runs that differ in nothing but `config.seed` are repetitions of one experiment,
which is called as its row in the papers' tables. A change of seed draws other
few-shot images: report the mean and the sample standard deviation (`n - 1` in
the denominator) of three seeds or more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import json
import statistics
from typing import Any

from ltjax.report import markdown, run_names

METRICS = (
  "accuracy",
  "balanced_accuracy",
  "accuracy/many",
  "accuracy/medium",
  "accuracy/few",
  "group_mean",
  "group_std",
)
PSEUDO_METRICS = (
  "pseudo/accuracy",
  "pseudo/accuracy/many",
  "pseudo/accuracy/medium",
  "pseudo/accuracy/few",
)
RULES = ("last", "mean_of_last_k", "validation_selected", "best_on_test")
MEASURES = ("accuracy", "error")
_NAMES = {
  "accuracy": "overall",
  "balanced_accuracy": "balanced",
  "group_mean": "group mean",
  "group_std": "group std",
}
# Which runs of earlier versions do not know: shown where one does.
_LATER = ("group_mean", "group_std")
_RULES = {
  "last": "the last evaluation of each run, nothing selected",
  "mean_of_last_k": "the mean of each run's last evaluations",
  "validation_selected": "each run's evaluation selected on validation images",
  "best_on_test": "each run's best evaluation, selected on the test images",
}


def aggregate(
  summaries: Iterable[Mapping[str, Any]], *, rule: str = "last"
) -> list[dict[str, Any]]:
  """Means over the seeds of each experiment, by its runs' `summary.json`.

  A row for each experiment's result (`rule`, one of `RULES`), one for each
  model in the order of the evaluations, then one for each loop's pseudo labels:
  `experiment` (its name), `settings` (what differs between the experiments),
  `kind` ("result", "eval" or "pseudo"), `rule`, `model` or `loop`, `seeds`, and
  for each metric `{"mean": fraction, "std": fraction}`. The mean is None if a
  run lacks the number; the deviation also if there is one seed only. Two runs
  of the same config and seed are a ValueError.
  """
  experiments: dict[str, list[Mapping[str, Any]]] = {}
  for summary in summaries:
    config = {k: v for k, v in summary["config"].items() if k != "seed"}
    experiments.setdefault(json.dumps(config, sort_keys=True), []).append(
      summary
    )
  named = run_names.tell_apart(
    [runs[0]["config"] for runs in experiments.values()]
  )
  rows = []
  for (name, settings), runs in zip(named, experiments.values(), strict=True):
    runs.sort(key=_seed)
    seeds = [_seed(run) for run in runs]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
      raise ValueError(
        f"{name}: seed {twice[0]} is there {seeds.count(twice[0])} times; "
        "a repetition with the same seed is no new sample, leave it out"
      )
    for kind, key, metrics, records in (
      ("result", "rule", METRICS, [_result(run, rule) for run in runs]),
      ("eval", "model", METRICS, [_tests(run) for run in runs]),
      ("pseudo", "loop", PSEUDO_METRICS, [_pseudo(run) for run in runs]),
    ):
      # The keys of all, in the order they come.
      for value in dict.fromkeys(v for found in records for v in found):
        having = [(s, r[value]) for s, r in zip(seeds, records) if value in r]
        rows.append(
          {
            "experiment": name,
            "settings": settings,
            "kind": kind,
            key: value,
            "seeds": [seed for seed, _ in having],
            **{m: _spread([r.get(m) for _, r in having]) for m in metrics},
          }
        )
  return rows


def to_markdown(
  rows: Sequence[Mapping[str, Any]], *, measure: str = "accuracy"
) -> str:
  """The rows of `aggregate` as Markdown tables, in per cent.

  Several experiments have a table of their results first. `measure` is
  `accuracy`, or `error`, 100 % less the accuracy.
  """
  parts = []
  names = list(dict.fromkeys(row["experiment"] for row in rows))
  if len(names) > 1:
    (rule,) = {row["rule"] for row in rows if row["kind"] == "result"}
    parts.append("## Results\n")
    parts.append(
      f"Test {measure} in %, mean ± sample standard deviation over seeds; "
      f"{_RULES[rule]}.\n"
    )
    parts.append(_table("", rows, "result", "experiment", METRICS, measure))
  for name in names:
    of_it = [row for row in rows if row["experiment"] == name]
    seeds = sorted({seed for row in of_it for seed in row["seeds"]})
    listed = ", ".join(str(seed) for seed in seeds)
    parts.append(f"## {name}\n")
    settings = of_it[0]["settings"]
    if settings:
      shown = ", ".join(f"{k}={v}" for k, v in settings.items())
      parts.append(f"Settings: `{shown}`.\n")
    parts.append(
      f"Test {measure} in %, mean ± sample standard deviation over the seeds "
      f"({listed}).\n"
      if len(seeds) > 1
      else f"Test {measure} in %, one seed ({listed}).\n"
    )
    parts.append(_table("model", of_it, "eval", "model", METRICS, measure))
    if any(row["kind"] == "pseudo" for row in of_it):
      parts.append(f"{measure.capitalize()} of the pseudo labels in %.\n")
      parts.append(
        _table("loop", of_it, "pseudo", "loop", PSEUDO_METRICS, measure)
      )
  return "\n".join(parts)


def _table(
  title: str,
  rows: Sequence[Mapping[str, Any]],
  kind: str,
  key: str,
  metrics: Sequence[str],
  measure: str,
) -> str:
  rows = [row for row in rows if row["kind"] == kind]
  metrics = [
    m
    for m in metrics
    if m not in _LATER or any(row[m]["mean"] is not None for row in rows)
  ]
  names = [m.removeprefix("pseudo/") for m in metrics]
  header = [title, "seeds"]
  header += [_NAMES.get(n, n.removeprefix("accuracy/")) for n in names]
  lines = [
    [str(row[key]), str(len(row["seeds"]))]
    + [_cell(row[m], measure if m != "group_std" else "") for m in metrics]
    for row in rows
  ]
  return markdown.table(header, lines)


def _cell(spread: Mapping[str, float | None], measure: str) -> str:
  mean = spread["mean"]
  if mean is not None and measure == "error":
    mean = 1 - mean
  return markdown.spread(mean, spread["std"])


def _result(
  summary: Mapping[str, Any], rule: str
) -> dict[Any, Mapping[str, Any]]:
  return {rule: summary["result"][rule] or {}}


def _tests(summary: Mapping[str, Any]) -> dict[Any, Mapping[str, Any]]:
  """The last test evaluation of each model."""
  return {
    record["model"]: record
    for record in summary["evaluations"]
    if record.get("split", "test") == "test"
  }


def _pseudo(summary: Mapping[str, Any]) -> dict[Any, Mapping[str, Any]]:
  return {
    record["loop"]: record
    for record in summary.get("pseudo_labels", ())
    if record.get("pseudo/accuracy") is not None
  }


def _seed(summary: Mapping[str, Any]) -> int:
  return summary["config"].get("seed", 0)


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
  known = [value for value in values if value is not None]
  if not known or len(known) < len(values):
    return {"mean": None, "std": None}
  deviation = statistics.stdev(known) if len(known) > 1 else None
  return {"mean": statistics.fmean(known), "std": deviation}

"""Several finished runs side by side: mean and spread over seeds.

Runs that differ in nothing but `config.seed` are repetitions of one
experiment. A single run says little about few-shot classes, of which a change
of seed draws other images: report the mean and the sample standard deviation
(`n - 1` in the denominator) of three seeds or more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import json
import statistics
from typing import Any

from ltjax import markdown

METRICS = (
  "accuracy",
  "balanced_accuracy",
  "accuracy/many",
  "accuracy/medium",
  "accuracy/few",
)
PSEUDO_METRICS = (
  "pseudo/accuracy",
  "pseudo/accuracy/many",
  "pseudo/accuracy/medium",
  "pseudo/accuracy/few",
)
_NAMES = {"accuracy": "overall", "balanced_accuracy": "balanced"}


def aggregate(summaries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Means over the seeds of each experiment.

  Args:
    summaries: contents of the `summary.json` of finished runs.

  Returns:
    A row for each experiment and model, in the order of the evaluations, then
    one for each loop's pseudo labels: `experiment` (what sets it apart from
    the others), `kind` ("eval" or "pseudo"), `model` or `loop`, `seeds`, and
    for each metric `{"mean": fraction, "std": fraction}`. The mean is None if
    a run lacks the number; the deviation also if there is one seed only.

  Raises:
    ValueError: two runs have the same config and the same seed.
  """
  experiments: dict[str, list[Mapping[str, Any]]] = {}
  for summary in summaries:
    config = {k: v for k, v in summary["config"].items() if k != "seed"}
    experiments.setdefault(json.dumps(config, sort_keys=True), []).append(
      summary
    )
  names = _tell_apart([json.loads(config) for config in experiments])
  rows = []
  for name, runs in zip(names, experiments.values(), strict=True):
    runs.sort(key=_seed)
    seeds = [_seed(run) for run in runs]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
      raise ValueError(
        f"{name}: seed {twice[0]} is there {seeds.count(twice[0])} times; "
        "a repetition with the same seed is no new sample, leave it out"
      )
    for kind, key, metrics, find in (
      ("eval", "model", METRICS, _tests),
      ("pseudo", "loop", PSEUDO_METRICS, _pseudo),
    ):
      found = [(seed, find(run)) for seed, run in zip(seeds, runs)]
      # The keys of all, in the order they come.
      for value in dict.fromkeys(v for _, records in found for v in records):
        having = [(s, r[value]) for s, r in found if value in r]
        rows.append(
          {
            "experiment": name,
            "kind": kind,
            key: value,
            "seeds": [seed for seed, _ in having],
            **{m: _spread([r.get(m) for _, r in having]) for m in metrics},
          }
        )
  return rows


def to_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
  """The rows of `aggregate` as Markdown tables, in per cent."""
  parts = []
  for name in dict.fromkeys(row["experiment"] for row in rows):
    of_it = [row for row in rows if row["experiment"] == name]
    seeds = sorted({seed for row in of_it for seed in row["seeds"]})
    listed = ", ".join(str(seed) for seed in seeds)
    parts.append(f"## {name}\n")
    parts.append(
      f"Test accuracy in %, mean ± sample standard deviation over the seeds "
      f"({listed}).\n"
      if len(seeds) > 1
      else f"Test accuracy in %, one seed ({listed}).\n"
    )
    parts.append(_table("model", of_it, "eval", "model", METRICS))
    if any(row["kind"] == "pseudo" for row in of_it):
      parts.append("Accuracy of the pseudo labels in %, by loop.\n")
      parts.append(_table("loop", of_it, "pseudo", "loop", PSEUDO_METRICS))
  return "\n".join(parts)


def _table(
  title: str,
  rows: Sequence[Mapping[str, Any]],
  kind: str,
  key: str,
  metrics: Sequence[str],
) -> str:
  names = [m.removeprefix("pseudo/") for m in metrics]
  header = [title, "seeds"]
  header += [_NAMES.get(n, n.removeprefix("accuracy/")) for n in names]
  lines = [
    [str(row[key]), str(len(row["seeds"]))]
    + [markdown.spread(row[m]["mean"], row[m]["std"]) for m in metrics]
    for row in rows
    if row["kind"] == kind
  ]
  return markdown.table(header, lines)


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


def _tell_apart(configs: Sequence[Mapping[str, Any]]) -> list[str]:
  """Names the experiments by the fields in which their configs differ."""
  flat = [_flatten(config) for config in configs]
  fields = [
    field
    for field in dict.fromkeys(f for config in flat for f in config)
    if len({json.dumps(config.get(field)) for config in flat}) > 1
  ]
  if not fields:
    return [str(config.get("method", "run")) for config in configs]
  return [
    ", ".join(f"{f}={config[f]}" for f in fields if f in config) or "the others"
    for config in flat
  ]


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for name, value in config.items():
    if isinstance(value, Mapping):
      flat.update(_flatten(value, f"{prefix}{name}."))
    else:
      flat[f"{prefix}{name}"] = value
  return flat

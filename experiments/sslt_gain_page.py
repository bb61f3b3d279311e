"""The page and the picture of `experiments/sslt_gain.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
import statistics
from typing import Any

from experiments import frozen_embedding, tables
from ltjax.plots import style as figures
from ltjax.report import markdown

Record = dict[str, Any]

COLUMNS = {
  "overall": "accuracy",
  "many": "accuracy/many",
  "medium": "accuracy/medium",
  "few": "accuracy/few",
}
LABELS = {
  "cpu": "Decoupling, the pool labeled too (D of its size, no pool)",
  "full": "Decoupling, 5000 labeled images in the first class, no pool",
}
# Names of runs, and of what they are rows.
EMBEDDINGS = {
  f"decoupling_e{share}": f"Decoupling, {share} % of the embedding's epochs"
  for share in (10, 25, 50, 100)
}
STEPS = {
  f"sslt_{least}": f"SSLT, {least or 'no least number of'} steps"
  for least in frozen_embedding.LEAST
} | {"sslt_balanced": "SSLT, 960 steps, balanced softmax"}
STARTS = {
  f"sslt_e{share}": f"SSLT, 960 steps, from {share} % of the embedding's epochs"
  for share in (10, 25, 50)
}
RIVALS = {
  "decoupling_e100": "Decoupling",
  "pl_scratch_d": "Pseudo-Label + D, from scratch, g on D",
  "pl_scratch_all": "Pseudo-Label + D, from scratch, g on D and U'",
  "pl_base_d": "Pseudo-Label + D, fine-tuned, g on D",
  "pl_base_all": "Pseudo-Label + D, fine-tuned, g on D and U'",
  "sslt_960": "SSLT",
  "sslt_balanced": "SSLT, balanced softmax",
  "logit_adjustment": "Logit adjustment as the loss, no pool",
}


def to_markdown(records: Sequence[Record]) -> str:
  """Returns the page of a scale.

  Args:
    records: of the finished runs, as `sweep.main` makes them.
  """
  scale = records[0]["scale"]
  # Written by hand, of the numbers below it.
  reading = Path(__file__).parent / "sslt_gain" / f"reading_{scale}.md"
  parts = [
    f"# What the gain of SSLT rests on, {scale} scale\n",
    "Accuracy in %, mean ± sample standard deviation over seeds, last"
    " evaluation. Validation images are held out of the training set, of each"
    " class alike: more labels than a tail class has, so that they may choose a"
    " default, not enter a comparison. A row chosen on them is marked ←."
    f" {tables.CLAIM}\n",
    f"![Accuracy over the steps of a classifier](steps_{scale}.png)\n",
    reading.read_text() if reading.exists() else "",
  ]
  for data in dict.fromkeys(r["name"].split("-")[0] for r in records):
    mine = {
      name.removeprefix(f"{data}-"): [r for r in records if r["name"] == name]
      for name in (r["name"] for r in records)
      if name.startswith(f"{data}-")
    }
    parts += [f"## {data}\n", *_sections(mine, scale)]
  parts.append(tables.provenance(records))
  return "\n".join(part for part in parts if part)


def _sections(runs: dict[str, list[Record]], scale: str) -> Iterator[str]:
  names = {
    "decoupling_e100": "Decoupling",
    "sslt_960": "SSLT, last loop",
    "decoupling_labels": LABELS[scale],
  }
  yield "### (a) Held-out images under the frozen f\n"
  yield (
    "Ratio: root of the mean squared distance to the mean of the labeled images"
    " of the class, over what their own variance leads one to expect; 1 where"
    " held-out images are of the same distribution. Control: as many test"
    " images in place of the labeled ones. g has 960 steps.\n"
  )
  yield _features(runs, names)
  yield "### (b, d) Other classifiers on the f of Decoupling\n"
  yield _classifiers(runs.get("decoupling_e100", []))
  yield "### (b, d) SSLT, steps and loss of its classifiers\n"
  yield _runs(runs, STEPS, base="sslt_0", choose=True)
  yield "### (c) More labels instead of a pool\n"
  yield _runs(
    runs,
    {
      "decoupling_e100": "Decoupling",
      "decoupling_labels": LABELS[scale],
      "sslt_960": "SSLT",
    },
  )
  yield "### (e) Early stopping of the embedding\n"
  yield _runs(runs, EMBEDDINGS, choose=True)
  yield _runs(runs, {**STARTS, "sslt_960": STEPS["sslt_960"]}, choose=True)
  yield "### (f) The rivals, all classifiers with 960 steps\n"
  yield _runs(runs, RIVALS, base="sslt_960")


def _features(runs: dict[str, list[Record]], names: dict[str, str]) -> str:
  rows = []
  for name, title in names.items():
    records = [r for r in runs.get(name, []) if "features" in r]
    if not records:
      continue
    for part in records[0]["features"]:
      found = [r["features"][part] for r in records]
      cells = [
        _spread(f.get("g", {}).get(group) for f in found) for group in COLUMNS
      ]
      for group in COLUMNS:
        ratios = [f.get("ratio", {}).get(group) for f in found]
        cells.append(_ratio(ratios))
      rows.append([f"{title}: {part}", tables.seeds(records), *cells])
  header = ["", "seeds", *(f"g, {c}" for c in COLUMNS)]
  return markdown.table([*header, *(f"ratio, {c}" for c in COLUMNS)], rows)


def _classifiers(records: Sequence[Record]) -> str:
  """The grid; of the rows of a rule the best on validation images is marked."""
  records = [r for r in records if "classifiers" in r]
  if not records:
    return ""
  rows = []
  for position, row in enumerate(records[0]["classifiers"]):
    same = [r["classifiers"][position] for r in records]
    if "tau" in row:
      title = f"g' after the fact, tau {row['tau']:g}"
    else:
      views = f"{row['views']} views" if row["views"] else "plain images"
      steps = f"{row['least']} steps" if row["least"] else "10 epochs"
      title = f"{row['rule']}, {views}, {steps}"
    score = statistics.fmean(r["validation"]["overall"] for r in same)
    cells = [_spread(r["validation"]["overall"] for r in same)]
    cells += [_spread(r["test"][group] for r in same) for group in COLUMNS]
    group = (row["rule"], row.get("views"))
    rows.append((group, score, [title, tables.seeds(records), *cells], row))
  best = {
    group: max(score for g, score, _, _ in rows if g == group)
    for group, _, _, _ in rows
  }
  shown = []
  for group, score, cells, row in rows:
    chosen = score == best[group]
    if row.get("tau") in (None, 0.0, 1.0) or chosen:
      shown.append([cells[0] + " ←" * chosen, *cells[1:]])
  return markdown.table(["", "seeds", "validation", *COLUMNS], shown)


def _runs(
  runs: dict[str, list[Record]],
  titles: dict[str, str],
  *,
  base: str = "",
  choose: bool = False,
) -> str:
  """Rows of runs: accuracy on validation and test images.

  With a base also the differences from it, seed by seed; with `choose` the best
  on validation images is marked, among rows with seeds enough.
  """
  scores = {
    name: statistics.fmean(_values(runs[name], "accuracy", "validation"))
    for name in titles
    if len(_values(runs.get(name, []), "accuracy", "validation"))
    >= tables.SEEDS
  }
  rows = []
  for name, title in titles.items():
    records = runs.get(name, [])
    if choose and len(scores) > 1 and scores.get(name) == max(scores.values()):
      title += " ←"
    cells = [_spread(_values(records, "accuracy", "validation"))]
    cells += [_spread(_values(records, key)) for key in COLUMNS.values()]
    if base:
      cells.append(_paired(records, runs.get(base, [])))
    rows.append([title, tables.seeds(records), *cells])
  header = ["", "seeds", "validation", *COLUMNS]
  if base:
    header.append(f"overall, minus {titles[base]}")
  return markdown.table(header, rows)


def _values(
  records: Sequence[Record], key: str, split: str = "test"
) -> list[float]:
  """The numbers of the last model of each run."""
  found = []
  for record in records:
    last = record["result"]["last"]["model"]
    found += [
      e[key]
      for e in record["evaluations"]
      if e["split"] == split and e["model"] == last
    ][-1:]
  return found


def _paired(records: Sequence[Record], base: Sequence[Record]) -> str:
  """Mean difference over the seeds of both, and how many are above 0."""
  ours, theirs = (
    {r["seed"]: _values([r], "accuracy")[0] for r in rs}
    for rs in (records, base)
  )
  differences = [ours[s] - theirs[s] for s in ours if s in theirs]
  if not differences or records is base:
    return markdown.percent(None)
  better = sum(d > 0 for d in differences)
  return f"{_spread(differences)} ({better} of {len(differences)} above)"


def _spread(values: Any) -> str:
  return tables.cell(list(values), measure="accuracy")


def _ratio(values: Sequence[float | None]) -> str:
  known = [v for v in values if v is not None]
  return f"{statistics.fmean(known):.2f}" if known else markdown.percent(None)


def draw(records: Sequence[Record], folder: Path) -> None:
  """Draws accuracy over the steps of a classifier, a panel a data set.

  Lines: a classifier on the f of Decoupling, and SSLT with such classifiers;
  few-shot classes dashed.

  Args:
    records: of the finished runs.
    folder: gets `steps_SCALE.png`.
  """
  from matplotlib import figure

  names = list(dict.fromkeys(r["name"].split("-")[0] for r in records))
  drawn = figure.Figure(
    figsize=(4.2 * len(names) + 2.4, 3.6), layout="constrained"
  )
  panels = drawn.subplots(1, len(names), squeeze=False)[0]
  for axes, data in zip(panels, names, strict=True):
    axes.set_title(data)
    axes.set_xlabel("least steps of a classifier")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E3E3E3", linewidth=0.7)
    axes.set_xticks(range(len(frozen_embedding.LEAST)))
    axes.set_xticklabels(
      [str(n or "10 epochs") for n in frozen_embedding.LEAST]
    )
    for title, color, points in (
      ("Decoupling, resampling", "#0072B2", _grid(records, data, "resampling")),
      (
        "Decoupling, balanced softmax",
        "#009E73",
        _grid(records, data, "balanced softmax"),
      ),
      ("SSLT, last loop", "#D55E00", _over_steps(records, data)),
    ):
      for group, style in (("overall", "-"), ("few", "--")):
        known = [(x, p(group)) for x, p in enumerate(points)]
        known = [
          (x, [100 * v for v in values]) for x, values in known if values
        ]
        axes.errorbar(
          [x for x, _ in known],
          [statistics.fmean(v) for _, v in known],
          yerr=[statistics.stdev(v) if len(v) > 1 else 0.0 for _, v in known],
          color=color,
          linestyle=style,
          marker="o",
          markersize=4,
          capsize=2,
          label=title if group == "overall" else f"{title}, few-shot",
        )
  panels[0].set_ylabel("test accuracy (%)")
  handles, labels = panels[0].get_legend_handles_labels()
  drawn.legend(handles, labels, loc="outside right center", frameon=False)
  figures.save(drawn, folder / f"steps_{records[0]['scale']}.png")


Points = list[Callable[[str], list[float]]]


def _grid(records: Sequence[Record], data: str, rule: str) -> Points:
  """Test accuracies of a rule with 10 views, at each number of steps."""
  found = [
    [c for c in r["classifiers"] if c["rule"] == rule and c["views"] == 10]
    for r in records
    if r["name"] == f"{data}-decoupling_e100" and "classifiers" in r
  ]
  return [
    lambda group, n=n: [rows[n]["test"][group] for rows in found]
    for n in range(len(frozen_embedding.LEAST))
  ]


def _over_steps(records: Sequence[Record], data: str) -> Points:
  return [
    lambda group, least=least: _values(
      [r for r in records if r["name"] == f"{data}-sslt_{least}"],
      COLUMNS[group],
    )
    for least in frozen_embedding.LEAST
  ]

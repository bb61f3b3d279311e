"""Reports: `report.md` of a run, and a table over several runs.

    python -m ltjax.report FOLDER... [--metric=error] [--rule=RULE] [--out FILE]

prints a Markdown table with a row for each experiment, and one of each
experiment's models; runs that differ only in their seed are averaged. A folder
is a run, or holds runs at any depth. `--out results.jsonl` writes the rows as
JSON lines, accuracies as fractions; other files get the Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
import json
import os
import pathlib
import sys
from typing import Any

from ltjax.plots import curves, pretraining, style
from ltjax.report import comparison, html, sections
from ltjax.runs import writers


def write(workdir: str | os.PathLike[str]) -> pathlib.Path:
  """Writes the reports and plots of a finished run; returns `report.md`.

  `report.html` is the same in one file. Plots are `plots/*.png` and `.svg`.

  `metrics.jsonl`, `split.json` and `environment.json` are used if they are
  there. Raises as `read_summary`.
  """
  workdir = pathlib.Path(workdir)
  summary = read_summary(workdir)
  records = writers.read(workdir / "metrics.jsonl")
  drawn = _draw(summary, records, workdir / "plots")
  parts = [
    f"# {summary['method']}, seed {summary['config'].get('seed', 0)}\n",
    sections.headline(summary),
    "## Test accuracy\n",
    "All numbers are per cent. The groups are many-shot, medium-shot and "
    "few-shot classes by their labeled images; ECE is the expected "
    "calibration error." + sections.about_groups(summary["evaluations"]) + "\n",
    sections.evaluations(summary),
    drawn.get("accuracy_over_loops", ""),
    "## Which evaluation to report\n",
    sections.rules(summary["result"]),
    *sections.pseudo_labels(summary, drawn),
    "## Classes\n",
    drawn.get("class_histogram", ""),
    sections.classes(summary),
    drawn.get("confusion_matrix", ""),
    _BOXES if style.lacks(summary["classes"]) else "",
    *sections.prototypes(summary),
    *sections.training(records, drawn),
    *sections.reproduce(summary, workdir),
  ]
  text = "\n".join(part for part in parts if part)
  path = workdir / "report.md"
  _write_text(path, text)
  _write_text(workdir / "report.html", html.render(text, workdir))
  return path


_BOXES = (
  "No font of this machine has all letters of the class names: in the pictures"
  " some are boxes. Debian's package `fonts-noto-cjk` has Chinese, Japanese and"
  " Korean; then `python -m ltjax.main` with the same flags draws them again.\n"
)


def read_summary(workdir: str | os.PathLike[str]) -> dict[str, Any]:
  """Reads the `summary.json` of a finished run.

  Raises:
    FileNotFoundError: there is none.
    ValueError: it is damaged, or not of a finished run.
  """
  path = pathlib.Path(workdir) / "summary.json"
  if not path.exists():
    raise FileNotFoundError(
      f"{workdir} holds no finished run (there is no summary.json): "
      "train it to its end first"
    )
  try:
    summary = json.loads(path.read_text(encoding="utf-8"))
  except ValueError as error:
    raise ValueError(f"{path} is damaged: {error}") from error
  if not isinstance(summary, dict) or not summary.get("finished"):
    raise ValueError(f"{path} is not the summary of a finished run")
  return summary


def find(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the runs in a folder, at any depth; itself if it holds none."""
  marks = ("summary.json", "config.json")
  if any((folder / mark).exists() for mark in marks):
    return [folder]
  found: list[pathlib.Path] = []
  for path in sorted({p.parent for m in marks for p in folder.rglob(m)}):
    if not any(run in path.parents for run in found):
      found.append(path)
  return found or [folder]


def main(arguments: Sequence[str] | None = None) -> int:
  """Compares run folders; see the module's docstring."""
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.report",
    description="Compare finished runs, averaged over seeds.",
  )
  parser.add_argument(
    "runs",
    nargs="+",
    type=pathlib.Path,
    metavar="FOLDER",
    help="a run, or a folder of runs",
  )
  parser.add_argument(
    "--metric",
    choices=comparison.MEASURES,
    default="accuracy",
    help="what the Markdown shows",
  )
  parser.add_argument(
    "--rule",
    choices=comparison.RULES,
    default="last",
    help="which evaluation is a run's result",
  )
  parser.add_argument(
    "--out", type=pathlib.Path, help="FILE.jsonl or FILE.md, instead of stdout"
  )
  options = parser.parse_args(arguments)
  summaries = []
  folders = [run for given in options.runs for run in find(given)]
  for folder in dict.fromkeys(run.resolve() for run in folders):
    try:
      summaries.append(read_summary(folder))
    except (OSError, ValueError) as error:
      print(f"left out: {error}", file=sys.stderr)
  if not summaries:
    print("error: none of the folders holds a finished run", file=sys.stderr)
    return 1
  try:
    rows = comparison.aggregate(summaries, rule=options.rule)
    text = comparison.to_markdown(rows, measure=options.metric)
    if options.out is None:
      print(text, end="")
    elif options.out.suffix == ".jsonl":
      _write_text(options.out, "".join(json.dumps(r) + "\n" for r in rows))
    else:
      _write_text(options.out, text)
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  return 0


def _draw(
  summary: Mapping[str, Any],
  records: Sequence[Mapping[str, Any]],
  folder: pathlib.Path,
) -> dict[str, str]:
  """Draws what there is to draw; returns Markdown images by file stem."""
  classes, last = summary["classes"], summary["result"]["last"]
  curves.class_histogram(
    summary["labeled_counts"],
    summary.get("unlabeled_counts") or (),
    classes,
    summary["groups"],
    folder / "class_histogram.png",
  )
  drawn = {"class_histogram": "Training images of each class"}
  if len(curves.loops(summary["evaluations"])) > 1:
    curves.accuracy_over_loops(
      summary["evaluations"], folder / "accuracy_over_loops.png"
    )
    drawn["accuracy_over_loops"] = "Test accuracy over loops"
  rows = summary.get("pseudo_labels", ())
  if any(row.get("pseudo/accuracy") is not None for row in rows):
    curves.pseudo_label_accuracy(rows, folder / "pseudo_label_accuracy.png")
    drawn["pseudo_label_accuracy"] = "Pseudo-label accuracy over loops"
  if last.get("confusion"):
    curves.confusion_matrix(
      last["confusion"], classes, folder / "confusion_matrix.png"
    )
    drawn["confusion_matrix"] = f"Confusion matrix of {last['model']}"
  if pretraining.stages(records):
    pretraining.draw(records, folder / "pretraining.png")
    drawn["pretraining"] = "Pre-training, epoch by epoch"
  return {
    stem: f"![{words}](plots/{stem}.png)\n" for stem, words in drawn.items()
  }


def _write_text(path: pathlib.Path, text: str) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.tmp")
  try:
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)

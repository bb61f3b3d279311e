"""The sections of a run's report: pure functions of its files to Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
import pathlib
import shlex
from typing import Any

from ltjax.plots import pretraining
from ltjax.report import markdown, verdict

_COLUMNS = {
  "overall": "accuracy",
  "balanced": "balanced_accuracy",
  "geo. mean": "geometric_mean",
  "many": "accuracy/many",
  "medium": "accuracy/medium",
  "few": "accuracy/few",
  "ECE": "ece",
}
_GROUP_COLUMNS = {"group mean": "group_mean", "group std": "group_std"}
_SHARES = {
  "shares": "prototypes",
  "base_rate": "training images",
  "random": "random directions",
  "matched": "Gaussian of the features",
}
_RULES = {
  "last": "last evaluation",
  "mean_of_last_k": "mean of the last {k}",
  "validation_selected": "best on the validation images",
  "best_on_test": (
    "best on test (selected on the test set: "
    "for comparison with papers that do so)"
  ),
}


def headline(summary: Mapping[str, Any]) -> str:
  """The result in bold, and what speaks against it."""
  parts = [
    f"**{verdict.headline(summary)}** This is the last evaluation, nothing was"
    " selected.\n"
  ]
  parts += [f"> Warning: {text}\n" for text in verdict.warnings(summary)]
  return "\n".join(parts)


def columns(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, str]:
  """What the tables of accuracies show: metrics by the names of columns."""
  known = any(r.get("group_mean") is not None for r in evaluations)
  return _COLUMNS | (_GROUP_COLUMNS if known else {})


def about_groups(evaluations: Sequence[Mapping[str, Any]]) -> str:
  """What the columns of the groups' mean are; nothing without them."""
  if _GROUP_COLUMNS.keys() <= columns(evaluations).keys():
    return (
      " The group mean counts the three groups alike, and in each its classes; "
      "the group std is the standard deviation over the three."
    )
  return ""


def _numbers(record: Mapping[str, Any], shown: Mapping[str, str]) -> list[str]:
  return [markdown.percent(record.get(key)) for key in shown.values()]


def evaluations(summary: Mapping[str, Any]) -> str:
  """A row for each evaluation."""
  rows, shown = [], columns(summary["evaluations"])
  for record in summary["evaluations"]:
    split = record.get("split", "test")
    name = record["model"] + ("" if split == "test" else f", {split}")
    rows.append([name, record.get("head", ""), *_numbers(record, shown)])
  return markdown.table(["model", "head", *shown], rows)


def rules(result: Mapping[str, Any]) -> str:
  """A row for each way to choose an evaluation."""
  rows, shown = [], columns([result["last"]])
  for rule, words in _RULES.items():
    record = result.get(rule)
    if record is None:
      rows.append([words, "not available", *_numbers({}, shown)])
      continue
    words = words.format(k=record.get("k", ""))
    rows.append([words, record.get("model", ""), *_numbers(record, shown)])
  return markdown.table(["rule", "model", *shown], rows)


def pseudo_labels(
  summary: Mapping[str, Any], drawn: Mapping[str, str]
) -> list[str]:
  """The table of pseudo labels; nothing without pseudo labels or truth."""
  known = [
    row
    for row in summary.get("pseudo_labels", ())
    if row.get("pseudo/accuracy") is not None
  ]
  if not known:
    return []
  columns = {"accuracy": "pseudo/accuracy"}
  for kind in ("accuracy", "recall", "precision"):
    for group in ("many", "medium", "few"):
      name = group if kind == "accuracy" else f"{group} {kind}"
      columns[name] = f"pseudo/{kind}/{group}"
  rows = [
    [
      str(row["loop"]),
      *(markdown.percent(row.get(k)) for k in columns.values()),
    ]
    for row in known
  ]
  return [
    "## Pseudo labels\n",
    "Where the truth is known: the share of right labels among the unlabeled "
    "images, all and by group of their true class; then the recall and the "
    "precision of the labels, averaged over the classes of a group.\n",
    markdown.table(["loop", *columns], rows),
    drawn.get("pseudo_label_accuracy", ""),
  ]


def prototypes(summary: Mapping[str, Any]) -> list[str]:
  """The classes that prototypes are near; nothing without prototypes."""
  parts = []
  for row in summary.get("prototypes", ()):
    groups = list(row["shares"])
    lines = [
      [words, *(markdown.percent(row[key][group]) for group in groups)]
      for key, words in _SHARES.items()
    ]
    unknown = row["count"] - row["known"]
    parts += [
      f"After the stage `{row['stage']}`: {row['count']} prototypes, nearest to"
      f" {row['distinct']} different images of {row['images']:,}"
      + (
        f"; {unknown} of them to an image of unknown class, left out below.\n"
        if unknown
        else ".\n"
      ),
      markdown.table(["in %", *groups], lines),
    ]
  if not parts:
    return []
  return [
    "## Prototypes\n",
    "The share of the prototypes whose nearest training image (by cosine) is of"
    " a class of each group. Beside it, the share of the images themselves, and"
    " of two controls that learned nothing from the prototypes' loss: uniformly"
    " random directions, and draws from a Gaussian with the mean and the"
    " covariance of the features.\n",
    *parts,
  ]


def classes(summary: Mapping[str, Any]) -> str:
  """A row for each class: its images, and its accuracy under each model."""
  group_of = {c: g for g, ids in summary["groups"].items() for c in ids}
  unlabeled = summary.get("unlabeled_counts") or []
  shown: dict[str, Mapping[str, Any]] = {}
  for record in summary["evaluations"]:
    if record.get("split", "test") == "test" and record.get("per_class"):
      if record["model"] in ("CE (g')", "Decoupling"):
        shown[record["model"]] = record
  last = summary["result"]["last"]
  if last.get("per_class"):
    shown[last["model"]] = last
  rows = [
    [
      name,
      group_of.get(c, ""),
      str(summary["labeled_counts"][c]),
      str(unlabeled[c]) if unlabeled else "–",
      str(summary["test_counts"][c]),
      *(markdown.percent(record["per_class"][c]) for record in shown.values()),
    ]
    for c, name in enumerate(summary["classes"])
  ]
  header = ["class", "group", "labeled", "unlabeled", "test", *shown]
  return markdown.table(header, rows)


def training(
  records: Sequence[Mapping[str, Any]], drawn: Mapping[str, str]
) -> list[str]:
  """The end of each training stage, by the lines of `metrics.jsonl`."""
  ends = {r["stage"]: r for r in records if r.get("kind") == "train"}
  if not ends:
    return []
  watched = pretraining.watched(list(ends.values()))
  rows = [
    [
      stage,
      f"{r['epoch']}/{r['epochs']}",
      "–" if r.get("loss") is None else f"{r['loss']:.4f}",
      markdown.percent(r.get("accuracy")),
      *("–" if r.get(k) is None else f"{r[k]:.3g}" for k in watched),
    ]
    for stage, r in ends.items()
  ]
  header = ["stage", "epochs", "loss", "training accuracy", *watched.values()]
  return [
    "## Training\n",
    "The last epoch of each stage, on augmented training batches.\n",
    markdown.table(header, rows),
    drawn.get("pretraining", ""),
  ]


def reproduce(summary: Mapping[str, Any], workdir: pathlib.Path) -> list[str]:
  """The command, the split, the config and the environment."""
  parts = ["## Reproduce\n"]
  environment = _last_session(workdir / "environment.json")
  command = environment.pop("command", None)
  if command:
    parts.append(f"```sh\n{_shell(command)}\n```\n")
  if "split_hash" in summary:
    parts.append(
      f"`split.json` lists every image used; its hash is "
      f"`{summary['split_hash']}`.\n"
    )
  parts.append(_block("Config", summary["config"]))
  if environment:
    parts.append(_block("Environment", environment))
  return parts


def _last_session(path: pathlib.Path) -> dict[str, Any]:
  """Where the run ended: a resumed run has a session for each start."""
  if not path.exists():
    return {}
  sessions = json.loads(path.read_text(encoding="utf-8")).get("sessions", [])
  return dict(sessions[-1]) if sessions else {}


def _shell(command: Sequence[str]) -> str:
  """An argument vector as one types it, `python -m` instead of a path."""
  script, *arguments = command
  path = pathlib.PurePath(script)
  if path.suffix == ".py" and path.parent.name == "ltjax":
    return shlex.join(["python", "-m", f"ltjax.{path.stem}", *arguments])
  return shlex.join(["python", script, *arguments])


def _block(title: str, value: Any) -> str:
  return f"{title}:\n\n```json\n{json.dumps(value, indent=2)}\n```\n"

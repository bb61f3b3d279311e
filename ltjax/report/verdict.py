"""A run's result in a sentence, and what speaks against it."""

from __future__ import annotations

from collections.abc import Mapping
import math
from typing import Any

from ltjax.report import markdown

# A class with so many times the test images of another is told no accuracy
# that its images decide alone.
_SKEWED = 2.0
_SHOWN = 5


def headline(summary: Mapping[str, Any]) -> str:
  """Returns the last evaluation in a sentence.

  Where the test set is skewed (a class has twice the images of another), the
  balanced accuracy comes first, and groups are means over their classes; else
  they are shares of images. Classes without test images are named.

  Args:
    summary: of a run, see `ltjax.report.summary`.
  """
  last, skewed = summary["result"]["last"], is_skewed(summary)
  kind = "recall" if skewed else "accuracy"
  names = {"balanced accuracy": "balanced_accuracy", "accuracy": "accuracy"}
  if not skewed:
    names = dict(reversed(names.items()))
  parts = [
    f"{name} {markdown.percent(last[key])} %"
    for name, key in names.items()
    if last.get(key) is not None
  ]
  groups = [
    f"{group} {markdown.percent(last[f'{kind}/{group}'])}"
    for group in summary["groups"]
    if last.get(f"{kind}/{group}") is not None
  ]
  if groups:
    parts[0] += f" ({', '.join(groups)})"
  text = f"{last['model']}: test {', '.join(parts)}."
  if skewed:
    counts = [n for n in summary["test_counts"] if n]
    text += (
      f" A class has {min(counts):,} to {max(counts):,} test images, so the"
      " mean over classes comes first."
    )
  missing = [
    name
    for name, count in zip(
      summary["classes"], summary["test_counts"], strict=True
    )
    if not count
  ]
  if missing:
    shown = ", ".join(missing[:_SHOWN]) + ", ..." * (len(missing) > _SHOWN)
    text += (
      f" {len(missing)} of {len(summary['classes'])} classes have no test"
      f" images, and nothing is known of them: {shown}."
    )
  return text


def is_skewed(summary: Mapping[str, Any]) -> bool:
  """Whether a class has twice the test images of another, or more."""
  counts = [n for n in summary["test_counts"] if n]
  return max(counts) >= _SKEWED * min(counts)


def warnings(summary: Mapping[str, Any]) -> list[str]:
  """Returns what speaks against the result, each with what to try.

  The final model lies below an earlier one of the same run, by more than the
  standard error of the difference of two shares of the test images; or pseudo
  labels of a group are right less often than one drawn at random.

  Args:
    summary: of a run.
  """
  found = []
  key = "balanced_accuracy" if is_skewed(summary) else "accuracy"
  last = summary["result"]["last"]
  count = max(sum(summary["test_counts"]), 1)
  earlier: dict[str, float] = {}
  for row in summary["evaluations"]:
    same = all(row.get(k) == last.get(k) for k in ("head", "protocol", "split"))
    if same and row.get(key) is not None:
      earlier[row["model"]] = row[key]
  earlier.pop(last["model"], None)
  if earlier:
    best = max(earlier, key=lambda name: earlier[name])
    ours, theirs = last[key], earlier[best]
    error = math.sqrt((ours * (1 - ours) + theirs * (1 - theirs)) / count)
    if theirs - ours > error:
      found.append(
        f"{last['model']} ends at {markdown.percent(ours)} %, below"
        f" {markdown.percent(theirs)} % of {best} in this same run: what was"
        " trained after it did harm. Look at the pseudo labels' accuracy, try"
        " fewer epochs or loops or a smaller learning rate, or take the"
        " method of that model."
      )
  chance = 1 / len(summary["classes"])
  for row in list(summary.get("pseudo_labels", ()))[-1:]:
    for group in summary["groups"]:
      recall = row.get(f"pseudo/recall/{group}")
      if recall is not None and recall < chance:
        found.append(
          f"Pseudo labels of the {group}-shot classes are right for"
          f" {markdown.percent(recall)} % of their images, less than the"
          f" {markdown.percent(chance)} % of a random label: learning from them"
          " takes the tail away. Try pretrained features"
          " (configs/own_pretrained.py), more labels of these classes, or a"
          " method without pseudo labels."
        )
  return found

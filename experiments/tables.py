"""Tables of results: our number beside the paper's, row by row.

    rows = [tables.Row("sslt", "SSLT", paper={"overall": 71.3, "few": 60.2})]
    section = tables.Section("rho 100", rows, differs="Another pool.")
    text = tables.to_markdown("Table 1 of Liu et al.", [section], records)

Ours is the mean and the sample standard deviation over seeds. A row without
runs keeps its place, with dashes: what was not run is seen as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import statistics
from typing import Any

from ltjax import markdown

Record = Mapping[str, Any]

KEYS = {
  "overall": "accuracy",
  "balanced": "balanced_accuracy",
  "many": "accuracy/many",
  "medium": "accuracy/medium",
  "few": "accuracy/few",
}
MEASURES = ("accuracy", "error")
RULES = {
  "last": "last evaluation, nothing selected",
  "mean_of_last_k": "mean of the last evaluations",
  "validation_selected": "evaluation selected on validation images",
  "best_on_test": "best evaluation on the test images, as some papers choose",
}


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of a table.

  Attributes:
    key: the name that the row's runs have in the sweep.
    title: what the paper calls the row.
    paper: the paper's numbers as printed, in % of the section's measure, by
      column (`overall`, `many`, `medium`, `few`); columns that it lacks are
      left out.
    model: an evaluation by its name, such as `Decoupling` in a run of SSLT;
      empty for the run's result.
    loop: the pseudo labels of this loop, from 1, instead of an evaluation.
    note: what differs from the paper in this row alone.
  """

  key: str
  title: str
  paper: Mapping[str, float] = dataclasses.field(default_factory=dict)
  model: str = ""
  loop: int = 0
  note: str = ""

  def __post_init__(self):
    unknown = sorted(set(self.paper) - set(KEYS))
    if unknown:
      raise ValueError(
        f"The row {self.title!r} has numbers for {unknown[0]!r}; columns are"
        f" {', '.join(KEYS)}."
      )
    if self.model and self.loop:
      raise ValueError(
        f"The row {self.title!r} has both a model and a loop; choose one."
      )


@dataclasses.dataclass(frozen=True)
class Section:
  """A table under a heading.

  Attributes:
    title: the heading.
    rows: the rows, in order.
    differs: what of the protocol differs from the paper's, in sentences; never
      empty beside the paper's numbers.
    measure: `accuracy` or `error`, both in %.
    columns: names in `KEYS`.
    rule: which evaluation of a run is its result, a name in `RULES`.
  """

  title: str
  rows: Sequence[Row]
  differs: str = ""
  measure: str = "accuracy"
  columns: Sequence[str] = ("overall", "many", "medium", "few")
  rule: str = "last"

  def __post_init__(self):
    for what, names, known in (
      ("measure", [self.measure], MEASURES),
      ("rule", [self.rule], RULES),
      ("column", self.columns, KEYS),
    ):
      for name in names:
        if name not in known:
          raise ValueError(
            f"The {what} {name!r} of {self.title!r} is unknown; choose one of"
            f" {', '.join(known)}."
          )
    if not self.differs and any(row.paper for row in self.rows):
      raise ValueError(
        f"{self.title!r} shows the paper's numbers: say in `differs` what of"
        " the protocol differs from the paper's."
      )


def to_markdown(
  title: str,
  sections: Sequence[Section],
  records: Sequence[Record],
  *,
  intro: str = "",
) -> str:
  """Returns a page of tables.

  Args:
    title: the page's heading.
    sections: the tables.
    records: of finished runs, as `sweep.record` makes them.
    intro: a paragraph below the heading.
  """
  parts = [f"# {title}\n"]
  if intro:
    parts.append(f"{intro}\n")
  for section in sections:
    parts.append(f"## {section.title}\n")
    parts.append(_caption(section))
    parts.append(_table(section, records))
  if records:
    parts.append(_provenance(records))
  return "\n".join(parts)


def page(
  title: str,
  sections: Callable[[str], Iterable[Section]],
  *,
  intro: Callable[[str], str] = lambda scale: "",
) -> Callable[[Sequence[Record]], str]:
  """Returns what makes the page of a scale from its records, for `sweep.main`.

  Args:
    title: the page's heading, to which the scale is added.
    sections: `scale -> tables`.
    intro: `scale -> a paragraph below the heading`.
  """

  def make(records: Sequence[Record]) -> str:
    scale = records[0]["scale"]
    return to_markdown(
      f"{title}, {scale} scale",
      list(sections(scale)),
      records,
      intro=intro(scale),
    )

  return make


def values(
  row: Row, column: str, records: Sequence[Record], *, rule: str = "last"
) -> list[float | None]:
  """Returns a row's accuracies, a fraction for each seed; None if unknown.

  Args:
    row: the row.
    column: a name in `KEYS`.
    records: those of all runs.
    rule: which evaluation of a run is its result, a name in `RULES`.

  Raises:
    ValueError: if a run of the row has no evaluation of that name, or no such
      loop.
  """
  return [
    _found(row, record, rule).get(
      ("pseudo/" if row.loop else "") + KEYS[column]
    )
    for record in records
    if record["name"] == row.key
  ]


def cell(fractions: Sequence[float | None], *, measure: str) -> str:
  """Returns `mean ± std` in %; a dash for nothing or where one is unknown.

  Args:
    fractions: an accuracy for each seed.
    measure: `accuracy` or `error`.
  """
  known = [f for f in fractions if f is not None]
  if not known or len(known) < len(fractions):
    return markdown.percent(None)
  if measure == "error":
    known = [1 - f for f in known]
  deviation = statistics.stdev(known) if len(known) > 1 else None
  return markdown.spread(statistics.fmean(known), deviation)


def _found(row: Row, record: Record, rule: str) -> Record:
  """The numbers of a run that a row is about."""
  if row.loop:
    found = [r for r in record["pseudo_labels"] if r["loop"] == row.loop]
    what = f"pseudo labels of loop {row.loop}"
  elif row.model:
    found = [
      r
      for r in record["evaluations"]
      if (r["model"], r.get("split", "test")) == (row.model, "test")
    ]
    what = f"evaluation of {row.model!r}"
  else:
    found, what = [record["result"][rule] or {}], rule
  if not found:
    names = ", ".join(dict.fromkeys(r["model"] for r in record["evaluations"]))
    raise ValueError(
      f"The run {row.key}, seed {record['seed']}, has no {what}; it has"
      f" {names or 'none'}, and {len(record['pseudo_labels'])} loops."
    )
  return found[-1]


def _caption(section: Section) -> str:
  what, rule = f"Test {section.measure}", f"; {RULES[section.rule]}"
  if all(row.loop for row in section.rows):
    what, rule = f"{section.measure.capitalize()} of the pseudo labels", ""
  text = f"{what} in %, mean ± sample standard deviation over seeds{rule}."
  if section.differs:
    text += f" What differs from the paper: {section.differs}"
  return f"{text}\n"


def _table(section: Section, records: Sequence[Record]) -> str:
  printed = [
    c for c in section.columns if any(c in row.paper for row in section.rows)
  ]
  noted = any(row.note for row in section.rows)
  header = ["", "seeds", *section.columns, *(f"paper, {c}" for c in printed)]
  lines = []
  for row in section.rows:
    seeds = [r["seed"] for r in records if r["name"] == row.key]
    line = [row.title, str(len(seeds)) if seeds else markdown.percent(None)]
    for column in section.columns:
      found = values(row, column, records, rule=section.rule)
      line.append(cell(found, measure=section.measure))
    for column in printed:
      number = row.paper.get(column)
      line.append(_printed(number))
    lines.append(line + [row.note] * noted)
  return markdown.table(header + ["differs"] * noted, lines)


def _printed(number: float | None) -> str:
  """A number of a paper: with one decimal, or the two that it has."""
  if number is None:
    return markdown.percent(None)
  return f"{number:.{1 if round(number, 1) == number else 2}f}"


def _provenance(records: Sequence[Record]) -> str:
  """With what, from which code and how long all of it ran."""
  devices = sorted({d for r in records for d in r["devices"]})
  commits = sorted({r["commit"] or "unknown" for r in records})
  hours = sum(r["seconds"] for r in records) / 3600
  return (
    f"{len(records)} runs, {hours:.1f} hours in all, on {', '.join(devices)};"
    f" commits {', '.join(commits)}. The commands are in the lines of the"
    " `.jsonl` file beside this one.\n"
  )

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

from experiments import table_rows
from ltjax.report import markdown

Row, KEYS = table_rows.Row, table_rows.KEYS
values = table_rows.values
Record = Mapping[str, Any]

MEASURES = ("accuracy", "error")
SEEDS = 3  # Fewer say nothing of the spread, and nothing is claimed of them.
CLAIM = f"A row with fewer than {SEEDS} seeds is marked: it supports no claim."
RULES = {
  "last": "last evaluation, nothing selected",
  "mean_of_last_k": "mean of the last evaluations",
  "validation_selected": "evaluation selected on validation images",
  "best_on_test": "best evaluation on the test images, as some papers choose",
}


@dataclasses.dataclass(frozen=True)
class Section:
  """A table under a heading.

  Attributes:
    title: the heading.
    rows: the rows, in order.
    differs: what of the protocol differs from the paper's, in sentences; never
      empty beside the paper's numbers.
    measure: `accuracy` or `error`, both in %.
    columns: names in `KEYS`. In the order of FASSL's tables: `group mean`,
      `mean few`, `mean medium`, `mean many`, `std`; its "All" of ImageNet-100
      is `class mean`.
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
    if self.measure == "error" and any(row.prototypes for row in self.rows):
      raise ValueError(
        f"{self.title!r} has shares of prototypes, which have no error: set its"
        " measure to 'accuracy'."
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
    parts.append(provenance(records))
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


def cell(
  fractions: Sequence[float | None], *, measure: str, column: str = "overall"
) -> str:
  """Returns `mean ± std` in %; a dash for nothing or where one is unknown.

  Args:
    fractions: a number for each seed.
    measure: `accuracy` or `error`.
    column: what the numbers are; a deviation is that of an error too. Of
      deviations the mean is told, which is not the deviation of means.
  """
  known = [f for f in fractions if f is not None]
  if not known or len(known) < len(fractions):
    return markdown.percent(None)
  if measure == "error" and column != "std":
    known = [1 - f for f in known]
  deviation = statistics.stdev(known) if len(known) > 1 else None
  return markdown.spread(statistics.fmean(known), deviation)


def seeds(records: Sequence[Record]) -> str:
  """Returns the number of a row's runs, marked where it supports no claim.

  Args:
    records: those of the row.
  """
  if not records:
    return markdown.percent(None)
  return f"{len(records)}{', no claim' if len(records) < SEEDS else ''}"


def _caption(section: Section) -> str:
  what, rule = f"Test {section.measure}", f"; {RULES[section.rule]}"
  if all(row.loop for row in section.rows):
    what, rule = f"{section.measure.capitalize()} of the pseudo labels", ""
  elif all(row.prototypes for row in section.rows):
    what, rule = "Share of the classes of each group", ""
  elif all(row.protocol for row in section.rows):
    rule = (
      "; the epoch of the probe is the protocol's choice (sdclr_*: the best on"
      " validation images, others: the last)"
    )
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
    line = [row.title, seeds([r for r in records if r["name"] == row.key])]
    for column in section.columns:
      found = values(row, column, records, rule=section.rule)
      line.append(cell(found, measure=section.measure, column=column))
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


def provenance(records: Sequence[Record]) -> str:
  """Returns with what, from which code and how long all of it ran.

  Args:
    records: of finished runs.
  """
  devices = sorted({d for r in records for d in r["devices"]})
  commits = sorted({r["commit"] or "unknown" for r in records})
  hours = sum(r["seconds"] for r in records) / 3600
  return (
    f"{len(records)} runs, {hours:.1f} hours in all, on {', '.join(devices)};"
    f" commits {', '.join(commits)}. The commands are in the lines of the"
    " `.jsonl` file beside this one.\n"
  )

"""Rows of tables: which of a run's numbers a row is about.

A run can fill rows of several tables: a run of SSLT has an initialization and
loops, pre-training is judged under several protocols, and learned prototypes
have classes. A row names what it picks; one that names nothing is the run's
result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

Record = Mapping[str, Any]

# Columns, and what they are in the records. `many` to `few` count images alike,
# `mean many` to `mean few` classes; on balanced test sets they are the same.
# `std` is the deviation over the three groups, within a seed.
KEYS = {
  "overall": "accuracy",
  "balanced": "balanced_accuracy",
  "class mean": "balanced_accuracy",
  "group mean": "group_mean",
  "many": "accuracy/many",
  "medium": "accuracy/medium",
  "few": "accuracy/few",
  "mean many": "recall/many",
  "mean medium": "recall/medium",
  "mean few": "recall/few",
  "std": "group_std",
}
SHARES = ("shares", "base_rate", "random", "matched")


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of a table.

  Attributes:
    key: the name that the row's runs have in the sweep.
    title: what the paper calls the row.
    paper: the paper's numbers as printed, in % of the section's measure, by
      column; columns that it lacks are left out.
    model: an evaluation by its name, such as `Decoupling` in a run of SSLT;
      empty for the run's result.
    loop: the pseudo labels of this loop, from 1, instead of an evaluation.
    note: what differs from the paper in this row alone.
    protocol: the evaluation under this protocol, such as `sdclr_fewshot`; with
      a model, the one of both.
    prototypes: instead of an evaluation, a distribution of the last prototypes
      over `many`, `medium` and `few`: `shares`, or beside it `base_rate`,
      `random` or `matched`, see `ltjax.evaluation.prototypes`.
  """

  key: str
  title: str
  paper: Mapping[str, float] = dataclasses.field(default_factory=dict)
  model: str = ""
  loop: int = 0
  note: str = ""
  protocol: str = ""
  prototypes: str = ""

  def __post_init__(self):
    unknown = sorted(set(self.paper) - set(KEYS))
    if unknown:
      raise ValueError(
        f"The row {self.title!r} has numbers for {unknown[0]!r}; columns are"
        f" {', '.join(KEYS)}."
      )
    if self.prototypes and self.prototypes not in SHARES:
      raise ValueError(
        f"The row {self.title!r} is of prototypes' {self.prototypes!r}; choose"
        f" one of {', '.join(SHARES)}."
      )
    chosen = {
      "a model": self.model,
      "a protocol": self.protocol and not self.model,
      "a loop": self.loop,
      "prototypes": self.prototypes,
    }
    names = [name for name, value in chosen.items() if value]
    if len(names) > 1:
      raise ValueError(
        f"The row {self.title!r} has both {names[0]} and {names[1]}; choose"
        " one."
      )


def values(
  row: Row, column: str, records: Sequence[Record], *, rule: str = "last"
) -> list[float | None]:
  """Returns a row's numbers, a fraction for each seed; None if unknown.

  Args:
    row: the row.
    column: a name in `KEYS`.
    records: those of all runs.
    rule: which evaluation of a run is its result, a name in `tables.RULES`.

  Raises:
    ValueError: if a run of the row has no evaluation of that name, no such loop
      or no prototypes.
  """
  key = ("pseudo/" if row.loop else "") + KEYS[column]
  if row.prototypes:
    key = column
  return [
    _found(row, record, rule).get(key)
    for record in records
    if record["name"] == row.key
  ]


def _found(row: Row, record: Record, rule: str) -> Record:
  """The numbers of a run that a row is about."""
  if row.loop:
    found = [r for r in record["pseudo_labels"] if r["loop"] == row.loop]
    what = f"pseudo labels of loop {row.loop}"
  elif row.prototypes:
    found = [r[row.prototypes] for r in record.get("prototypes", ())]
    what = "prototypes"
  elif row.model or row.protocol:
    found = [
      r
      for r in record["evaluations"]
      if r.get("split", "test") == "test"
      and row.model in ("", r["model"])
      and row.protocol in ("", r.get("protocol"))
    ]
    what = f"evaluation of {row.model!r}" if row.model else "evaluation"
    what += f" under {row.protocol!r}" if row.protocol else ""
  else:
    found, what = [record["result"][rule] or {}], rule
  if not found:
    names = ", ".join(dict.fromkeys(r["model"] for r in record["evaluations"]))
    raise ValueError(
      f"The run {row.key}, seed {record['seed']}, has no {what}; it has"
      f" {names or 'none'}, and {len(record['pseudo_labels'])} loops."
    )
  return found[-1]

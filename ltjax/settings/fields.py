"""Settings as fields of frozen dataclasses: a default, a range, a line of help.

    @dataclasses.dataclass(frozen=True)
    class Settings:
      beta: float = setting(0.5, "lambda ~ Beta(beta, beta)", above=0)

What a config's block holds, what `python -m ltjax.config METHOD` prints and
whether anything reads a setting are read off the field; `of` and `check` refuse
what is out of its range.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import math
from typing import Any, TypeVar

T = TypeVar("T")
# What a setting needs to be read: any of these, each of which names settings
# with the values that will do.
Readers = tuple[Mapping[str, tuple[Any, ...]], ...]


@dataclasses.dataclass(frozen=True)
class Declared:
  """What is known of a setting beside its default.

  Attributes:
    help: one line.
    choices: the values it may have; empty for any in range.
    least: it is this or more; None for no limit, as in the others.
    above: it is more than this.
    most: it is this or less.
    below: it is less than this.
    when: what it needs to be read, beside its block: any of these; names of
      other settings of its block stand without the block.
    size: a length, size, schedule or random view, which config files set for
      all methods: it may be set although nothing reads it.
    author_code: the default of the variant `author_code`; None for the same.
  """

  help: str
  choices: tuple[Any, ...] = ()
  least: float | None = None
  above: float | None = None
  most: float | None = None
  below: float | None = None
  when: Readers = ({},)
  size: bool = False
  author_code: Any = None

  def limits(self) -> str:
    """Returns the range in words, empty if there is none."""
    if self.choices:
      return f"choose one of {', '.join(map(str, self.choices))}"
    low = self.least if self.least is not None else self.above
    high = self.most if self.most is not None else self.below
    if low is None and high is None:
      return ""
    if high is None:
      return f"{low:g} or more" if self.above is None else f"above {low:g}"
    left = "[" if self.above is None else "("
    right = "]" if self.below is None else ")"
    return f"in {left}{low:g}, {high:g}{right}"

  def fits(self, value: Any) -> bool:
    """Returns whether a value is a choice, or in range and finite."""
    if self.choices:
      return value in self.choices
    if isinstance(value, bool) or not isinstance(value, int | float):
      return True
    return (
      math.isfinite(value)
      and (self.least is None or value >= self.least)
      and (self.above is None or value > self.above)
      and (self.most is None or value <= self.most)
      and (self.below is None or value < self.below)
    )


def setting(default: Any, help: str, **declared: Any) -> Any:
  """Returns the dataclass field of a setting.

  Args:
    default: its default, which also tells its type.
    help: one line.
    **declared: other attributes of `Declared`; `when` may be one mapping.
  """
  if isinstance(declared.get("when"), Mapping):
    declared["when"] = (declared["when"],)
  entry = Declared(help, **declared)
  return dataclasses.field(default=default, metadata={"declared": entry})


def declared(settings: type) -> dict[str, Declared]:
  """Returns what is known of each setting of a dataclass, by name."""
  return {
    field.name: field.metadata["declared"]
    for field in dataclasses.fields(settings)
    if "declared" in field.metadata
  }


def check(settings: Any, block: str) -> None:
  """Checks the settings of a block against their ranges.

  Args:
    settings: an instance of a dataclass.
    block: its name in a config, for errors.

  Raises:
    ValueError: names the setting, its value and its range.
  """
  for name, entry in declared(type(settings)).items():
    value = getattr(settings, name)
    if not entry.fits(value):
      limits = (
        entry.limits() if entry.choices else f"it must be {entry.limits()}"
      )
      raise ValueError(
        f"{block}.{name} is {value!r}; {limits or 'it must be finite'}:"
        f" {entry.help}."
      )


def of(settings: type[T], block: str, values: Mapping[str, Any]) -> T:
  """Returns the settings that a block of a config holds.

  Args:
    settings: a frozen dataclass; its own `__post_init__` may check how fields
      fit together.
    block: the name of the block, for errors.
    values: its fields; those of others, such as of a recipe, are left alone.

  Raises:
    ValueError: if a value is out of its range.
  """
  names = declared(settings)
  made = settings(**{n: values[n] for n in names if n in values})
  check(made, block)
  return made

"""Settings as fields of frozen dataclasses: a default, a range, a line of help.

    @dataclasses.dataclass(frozen=True)
    class Settings:
      beta: float = setting(0.5, "lambda ~ Beta(beta, beta)", above=0)

What a config's block holds, what `python -m ltjax.config METHOD` prints and
whether anything reads a setting are read off the field, and so is the check of
its range, once for all that a run reads: `registry.check_ranges`.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any, TypeVar

from ltjax import require

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
    aliases: other words for a choice, and how to ask for each.
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
  aliases: Mapping[str, str] | None = None
  least: float | None = None
  above: float | None = None
  most: float | None = None
  below: float | None = None
  when: Readers = ({},)
  size: bool = False
  author_code: Any = None

  @property
  def interval(self) -> str:
    """The range of a number, as `ltjax.require` has it."""
    low = "(-inf" if self.above is None else f"({self.above:g}"
    low = low if self.least is None else f"[{self.least:g}"
    high = "inf)" if self.below is None else f"{self.below:g})"
    high = high if self.most is None else f"{self.most:g}]"
    return f"{low}, {high}"

  def limits(self) -> str:
    """Returns the range in words, empty if there is none."""
    if self.choices:
      return f"one of {', '.join(map(str, self.choices))}"
    return (
      require.limit(self.interval).removesuffix("finite").removesuffix(" and ")
    )

  def check(self, name: str, value: Any) -> None:
    """Checks a value: a choice, or a number in range and finite.

    Args:
      name: of the setting, with its block.
      value: numbers alone have ranges.

    Raises:
      ValueError: names the setting, its value and its range.
    """
    if self.choices:
      require.choice(name, value, self.choices, self.aliases)
    elif isinstance(value, int | float) and not isinstance(value, bool):
      require.within(name, value, self.interval, about=self.help)


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
    entry.check(f"{block}.{name}", getattr(settings, name))


def of(settings: type[T], values: Mapping[str, Any]) -> T:
  """Returns the settings that a block of a config holds.

  Args:
    settings: a frozen dataclass; its own `__post_init__` may check how fields
      fit together.
    values: its fields; those of others, such as of a recipe, are left alone.
  """
  names = declared(settings)
  return settings(**{n: values[n] for n in names if n in values})

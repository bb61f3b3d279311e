"""The methods by name, and all that is read off what they declare.

A method declares its stages, its blocks of settings and its rows of tables:

    METHOD = registry.Method(
      "glmc",
      title=lambda config: "GLMC",
      paper="Du et al. (2023)",
      stages=stages,
      blocks={GLMC: {}, blocks.SAMPLER: {}},
      rows={"glmc": (changes.method("glmc"),)},
    )

From there come the config's blocks and their defaults, the checks, the settings
that would do nothing, the names of models, the rows of tables, the table of
methods in the docs and the help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
from typing import Any

import ml_collections
from ml_collections import config_dict

from ltjax import require
from ltjax.optim import recipe as recipes
from ltjax.settings import fields

VARIANTS = ("paper", "author_code")
Change = Callable[[Any], None]


@dataclasses.dataclass(frozen=True)
class Block:
  """A block of a config.

  Attributes:
    name: in the config; empty for settings beside the blocks.
    settings: a dataclass whose fields are made by `fields.setting`; None where
      the block is a recipe and nothing else.
    recipe: what the block has beside: how a stage is trained; None for nothing.
    author_code: defaults of the recipe in the variant `author_code`.
    when: what it needs to be read, whatever the method.
  """

  name: str
  settings: type | None = None
  recipe: recipes.Recipe | None = None
  author_code: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  when: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)

  def __hash__(self) -> int:
    return hash(self.name)

  def declared(self) -> dict[str, fields.Declared]:
    """Returns what is known of each of its settings, by name."""
    found = fields.declared(recipes.Recipe) if self.recipe else {}
    return found | (fields.declared(self.settings) if self.settings else {})

  def defaults(self, variant: str = "paper") -> dict[str, Any]:
    """Returns its settings by name, those of a variant."""
    found: dict[str, Any] = {}
    if self.recipe:
      found |= dataclasses.asdict(self.recipe)
    author = variant == "author_code"
    if author:
      found |= self.author_code
    for entry in dataclasses.fields(self.settings) if self.settings else ():
      known = entry.metadata.get("declared")
      if known is not None:
        other = author and known.author_code is not None
        found[entry.name] = known.author_code if other else entry.default
    return found


@dataclasses.dataclass(frozen=True)
class Method:
  """What there is to know of a method.

  Attributes:
    name: the choice of `config.method`.
    title: what tables call its model, given the config.
    paper: where it is from.
    stages: `(learner, config) -> stages`, the driver.
    blocks: what it reads, each with the settings that this needs, or several
      such, of which any will do.
    needs_unlabeled: whether it learns from unlabeled images.
    rows: rows of papers' tables, each as changes to a config.
  """

  name: str
  title: Callable[[Any], str]
  paper: str
  stages: Callable[[Any, Any], Iterator[Any]]
  blocks: Mapping[Block, Mapping[str, tuple[Any, ...]] | fields.Readers]
  needs_unlabeled: bool = False
  rows: Mapping[str, tuple[Change, ...]] = dataclasses.field(
    default_factory=dict
  )


METHODS: dict[str, Method] = {}
# Blocks of what comes before and after any method.
COMMON: dict[str, Block] = {}


def register(method: Method) -> None:
  """Adds a method; from then on configs know its blocks and rows."""
  METHODS[method.name] = method


def find(name: str) -> Method:
  """Returns a method by name.

  Raises:
    ValueError: if it is unknown; names the nearest.
  """
  require.choice("method", name, METHODS)
  return METHODS[name]


def blocks() -> dict[str, Block]:
  """Returns the blocks of all methods, by name."""
  own = {b.name: b for method in METHODS.values() for b in method.blocks}
  return own | COMMON


def rows() -> dict[str, tuple[Change, ...]]:
  """Returns the rows of all methods, by name."""
  return {
    name: row
    for method in METHODS.values()
    for name, row in method.rows.items()
  }


def defaults(variant: str) -> ml_collections.ConfigDict:
  """Returns a config of the blocks of all methods.

  Args:
    variant: `paper` or `author_code`.
  """
  config = ml_collections.ConfigDict()
  for block in blocks().values():
    values = {
      # A number, or None for what the method takes by itself.
      name: config_dict.placeholder(float) if value is None else value
      for name, value in block.defaults(variant).items()
    }
    if block.name:
      config[block.name] = ml_collections.ConfigDict(values)
    else:
      config.update(values)
  return config


def readers(block: Block) -> list[dict[str, tuple[Any, ...]]]:
  """Returns what a block needs to be read: any of these settings."""
  if block.name in COMMON:
    return [dict(block.when)]
  found: list[dict[str, tuple[Any, ...]]] = []
  for method in METHODS.values():
    given = method.blocks.get(block, ())
    for needs in (given,) if isinstance(given, Mapping) else given:
      for other in found:
        if {k: v for k, v in other.items() if k != "method"} == dict(needs):
          other["method"] += (method.name,)
          break
      else:
        found.append({"method": (method.name,), **needs})
  return found


def field_readers(block: Block, entry: fields.Declared) -> list[dict]:
  """Returns what a setting needs to be read: any of these settings.

  Args:
    block: its block.
    entry: the setting.
  """
  prefix = f"{block.name}." if block.name else ""
  found = []
  for needs in entry.when:
    whole = {
      name if "." in name or name == "method" else prefix + name: values
      for name, values in needs.items()
      # `refit` shares settings with `classifier` and has no `kind`.
      if "." in name or name == "method" or name in block.declared()
    }
    found += [_both(r, whole) for r in readers(block)]
  return [needs for needs in found if all(needs.values())]


def _both(
  one: Mapping[str, tuple[Any, ...]], other: Mapping[str, tuple[Any, ...]]
) -> dict[str, tuple[Any, ...]]:
  """Returns what meets both needs."""
  merged = {**one, **other}
  for name in set(one) & set(other):
    merged[name] = tuple(v for v in one[name] if v in other[name])
  return merged


def is_read(
  config: Any, needs: Iterable[Mapping[str, tuple[Any, ...]]]
) -> bool:
  """Returns whether any of the needs is met.

  Args:
    config: with all blocks.
    needs: as `readers` returns them.
  """
  return any(
    all(_value(config, name) in values for name, values in each.items())
    for each in needs
  )


def check_read(config: Any) -> None:
  """Checks that the settings of a config have an effect.

  Lengths, sizes, schedules and the random views are left alone: config files
  set those of all blocks, whatever the method.

  Args:
    config: with the known fields.

  Raises:
    ValueError: if a setting differs from its defaults, and the method or
      another setting leaves it unread; names what would read it.
  """
  known = {
    block.name: [block.defaults(variant) for variant in VARIANTS]
    for block in blocks().values()
  }
  for block, name, entry in _settings():
    field, value = _field(block, name), _value(config, _field(block, name))
    usual = [_plain(default[name]) for default in known[block.name]]
    if entry.size or value in usual:
      continue
    needs = field_readers(block, entry)
    if not is_read(config, needs):
      raise ValueError(
        f"{field} is {value!r}, but nothing reads it here: it belongs to"
        f" {', or to '.join(map(_words, needs))}. Choose that, or leave"
        f" {field} at {' or '.join(dict.fromkeys(map(repr, usual)))}."
      )


def check_ranges(config: Any) -> None:
  """Checks that the settings that a run reads are within their ranges.

  Args:
    config: with the known fields.

  Raises:
    ValueError: names the setting, its value and the range.
  """
  for block, name, entry in _settings():
    if _tells(config, block, name, entry):
      field = _field(block, name)
      entry.check(field, _value(config, field))


def told(config: Any) -> dict[str, Any]:
  """Returns what a run reads of a config: the rest says nothing about it.

  Args:
    config: with all blocks.
  """
  kept = config.to_dict()
  for block, name, entry in _settings():
    if not _tells(config, block, name, entry):
      del (kept[block.name] if block.name else kept)[name]
  return {name: value for name, value in kept.items() if value != {}}


def _settings() -> Iterator[tuple[Block, str, fields.Declared]]:
  """Yields each setting of each block."""
  for block in blocks().values():
    for name, entry in block.declared().items():
      yield block, name, entry


def _tells(
  config: Any, block: Block, name: str, entry: fields.Declared
) -> bool:
  """Returns whether a setting is read, or says that a block is not."""
  choice = name == "name" and block.name in COMMON
  return choice or is_read(config, field_readers(block, entry))


def _field(block: Block, name: str) -> str:
  return f"{block.name}.{name}" if block.name else name


def as_told(config: Any, stored: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a stored config without what a run of `config` does not read.

  An earlier version stored all blocks.

  Args:
    config: with all blocks.
    stored: the content of `config.json`.
  """
  return _common(stored, config.to_dict(), told(config))


def _common(
  stored: Mapping[str, Any], whole: Mapping[str, Any], read: Mapping[str, Any]
) -> dict[str, Any]:
  found = {}
  for name, value in stored.items():
    if name in read and isinstance(value, Mapping):
      inner = [part[name] for part in (whole, read)]
      if all(isinstance(part, Mapping) for part in inner):
        value = _common(value, *inner)
    if name in read or name not in whole:
      found[name] = value
  return found


def title(config: Any) -> str:
  """Returns the name of the model that a run ends with.

  Args:
    config: a run's config.
  """
  return find(config.method).title(config)


def _value(config: Any, field: str) -> Any:
  for part in field.split("."):
    config = config[part]
  return _plain(config)


def _plain(value: Any) -> Any:
  return tuple(value) if isinstance(value, list) else value


def _words(needs: Mapping[str, tuple[Any, ...]]) -> str:
  return " with ".join(
    f"{field}={' or '.join(str(value) for value in values)}"
    for field, values in needs.items()
  )


def table() -> str:
  """Returns the methods as a table in Markdown."""
  lines = [
    "| method | paper | unlabeled images | blocks | rows |",
    "|---|---|---|---|---|",
  ]
  for name, method in METHODS.items():
    own = ", ".join(f"`{b.name}`" for b in method.blocks if b.name)
    pool = "yes" if method.needs_unlabeled else "no"
    rows = ", ".join(f"`{row}`" for row in method.rows)
    lines.append(f"| `{name}` | {method.paper} | {pool} | {own} | {rows} |")
  return "\n".join(lines)


def help_of(name: str) -> str:
  """Returns what a method reads: settings with default, range and help.

  Args:
    name: of the method, or of a block that goes with any method.

  Raises:
    ValueError: if it is unknown.
  """
  if name in COMMON:
    return _block_help(COMMON[name], None)
  method = find(name)
  lines = [
    f"{name}: {method.paper}",
    f"rows: {', '.join(method.rows)}",
    f"also, with any method: {', '.join(COMMON)}",
  ]
  lines += [_block_help(block, name) for block in method.blocks]
  return "\n\n".join(lines)


def _block_help(block: Block, method: str | None) -> str:
  usual, author = (block.defaults(variant) for variant in VARIANTS)
  lines = [block.name or "beside the blocks"]
  if block.recipe:
    recipe = ((n, usual[n]) for n in fields.declared(recipes.Recipe))
    lines.append(f"  recipe: {', '.join(f'{n}={v}' for n, v in recipe)}")
  for field, entry in fields.declared(block.settings or Block).items():
    default = repr(usual[field])
    if author[field] != usual[field]:
      default += f" (author_code: {author[field]!r})"
    needs = [
      {k: v for k, v in each.items() if k != "method"}
      for each in field_readers(block, entry)
      if method in each.get("method", (method,))
    ]
    if needs:
      only = "" if {} in needs else f" [{'; or '.join(map(_words, needs))}]"
      words = ", ".join(filter(None, (entry.help, entry.limits())))
      lines.append(f"  {field} = {default}: {words}{only}")
  return "\n".join(lines)

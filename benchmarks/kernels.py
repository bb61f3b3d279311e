"""What a compiled step is made of: how many kernels, of what kinds and layouts.

XLA's text of a compiled program names what is launched: fusions, calls of
libraries, convolutions, copies. Each costs a launch, whatever it computes;
where they are small and many, launches are what a step costs. Transposes tell
that a layout is not kept from end to end, and the labels of the convolutions
which one it is (`b01f` is NHWC).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
import dataclasses
import re
from typing import Any

# What is not launched: it names, selects or waits.
_NO_KERNEL = frozenset(
  "parameter constant get-tuple-element tuple bitcast after-all while"
  " conditional call opt-barrier partition-id replica-id async-done"
  " async-update copy-done"
  " add-dependency".split()
)
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (.*)$")
_OPCODE = re.compile(r"(?:^| )([a-z][a-z0-9\-]*)\(")
_CALLED = re.compile(
  r"(?:calls|to_apply|body|branch_computations|true_computation"
  r"|false_computation)=(?:\{([^}]*)\}|([%\w.\-]+))"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"?(\d+)')
_LABELS = re.compile(r"dim_labels=([\w?]+->[\w?]+)")


@dataclasses.dataclass(frozen=True)
class _Instruction:
  opcode: str
  text: str
  called: tuple[str, ...]


def count(text: str, *, steps: int = 1) -> dict[str, Any]:
  """Counts what a program launches in a step.

  Of a program with a loop over steps, the largest loop of its entry, the loop's
  body counts, and what is around it is told apart.

  Args:
    text: of the compiled program, `compiled.as_text()`.
    steps: steps that a round of the loop does.

  Returns:
    JSON values, of a step: `kernels`; `kinds`, by the operation's name;
    `transposes`, of arrays of three dimensions and more, inside fusions too;
    `convolutions`, by their labels `input_kernel->output`; and of a call:
    `around`, kernels outside the loop, and `graphs`, command buffers.
  """
  computations, entry = _parse(text)
  top = computations[entry]
  loops = [i for i in top if i.opcode == "while"]
  loop = max(
    loops, key=lambda i: _kinds(computations, i.called).total(), default=None
  )
  whole = _kinds(computations, (entry,))
  inside, roots = Counter(whole), (entry,)
  if loop:
    body = _kinds(computations, loop.called)
    if 2 * body.total() >= whole.total() / _trips(loop):
      inside, roots = body, loop.called
  reached = [
    instruction
    for name in _reached(computations, roots)
    for instruction in computations[name]
  ]
  labels = [_LABELS.search(i.text) for i in reached]
  shapes = [i.text for i in reached if i.opcode == "transpose"]
  graphs = [name for name in computations if "command_buffer" in name]
  around = whole.total() - inside.total() * (_trips(loop) if loop else 1)
  return {
    "kernels": inside.total() / steps,
    "kinds": {k: n / steps for k, n in inside.most_common()},
    "transposes": sum(s.split("]")[0].count(",") >= 2 for s in shapes) / steps,
    "convolutions": {
      k: n / steps
      for k, n in Counter(found[1] for found in labels if found).items()
    },
    "around": around if roots != (entry,) else 0,
    "graphs": len(graphs),
  }


def _parse(text: str) -> tuple[dict[str, list[_Instruction]], str]:
  computations: dict[str, list[_Instruction]] = {}
  entry, now = "", None
  for line in text.splitlines():
    if start := _COMPUTATION.match(line):
      now = computations.setdefault(start[2], [])
      entry = start[2] if start[1] else entry
    elif now is not None and (found := _INSTRUCTION.match(line)):
      opcode = _OPCODE.search(found[1])
      if opcode:
        names = (a or b for a, b in _CALLED.findall(found[1]))
        called = tuple(", ".join(names).replace("%", "").split(", "))
        called = tuple(filter(None, called))
        now.append(_Instruction(opcode[1], found[1], called))
  if not entry:
    raise ValueError("The text has no entry: it is not XLA's of a program.")
  return computations, entry


def _kinds(
  computations: dict[str, list[_Instruction]], names: tuple[str, ...]
) -> Counter[str]:
  """Counts what is launched when computations run, by name."""
  found: Counter[str] = Counter()
  for name in names:
    for instruction in computations[name]:
      if instruction.opcode not in _NO_KERNEL:
        found[instruction.opcode] += 1
      elif instruction.called:
        inner = _kinds(computations, instruction.called)
        trips = _trips(instruction)
        found += Counter({k: n * trips for k, n in inner.items()})
  return found


def _trips(loop: _Instruction) -> int:
  found = _TRIPS.search(loop.text)
  return int(found[1]) if found else 1


def _reached(
  computations: dict[str, list[_Instruction]], names: tuple[str, ...]
) -> Iterator[str]:
  seen, todo = set(), list(names)
  while todo:
    name = todo.pop()
    if name in seen or name not in computations:
      continue
    seen.add(name)
    yield name
    todo += [c for i in computations[name] for c in i.called]

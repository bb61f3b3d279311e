"""Measures everything in turns, and says what was found as JSON values.

Each figure is told as soon as it is there, first of one turn and then of all,
so that what stops the process costs only what was not measured yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from benchmarks import budget as budgets
from benchmarks import (
  cards,
  clock,
  loops,
  machine,
  one_pass,
  passes,
  peak,
  usage,
)
from benchmarks import subject as subjects

Result = dict[str, Any]
Say = Callable[[str, Result], None]

LOOPS: Mapping[str, Callable[[subjects.Subject, int], loops.Loop]] = {
  "bare": lambda subject, turns: loops.bare(subject, turns=turns),
  "epoch": lambda subject, turns: loops.epoch(subject, turns=turns),
  "ahead": lambda subject, turns: loops.augmented_ahead(subject, turns=turns),
  "pseudo_label": lambda subject, turns: passes.pseudo_labels(subject),
  "refit_features": lambda subject, turns: passes.refit_features(subject),
  "refit": lambda subject, turns: passes.refit(subject),
  "consistency": lambda subject, turns: loops.consistency_epoch(
    subject, turns=turns
  ),
  "contrastive": lambda subject, turns: loops.contrastive_epoch(
    subject, turns=turns
  ),
}
COMPARED = ("bare", "epoch")
USUAL = tuple(name for name in LOOPS if name != "ahead")
WARM_UP = 2  # Turns: one that compiles, one that is told at once.


class Peer(Protocol):
  """Another library's loop, as `torch_client` runs it."""

  how: dict[str, Any]

  def make(
    self,
    say: Callable[[dict[str, Any]], None] = ...,
    budget: budgets.Budget | None = None,
  ) -> None:
    """Builds the loop; what it tries is told, and kept in `how`."""
    ...

  def turn(self, budget: budgets.Budget | None = None) -> float:
    """Trains an epoch of the same set; returns its seconds."""
    ...


def measure(
  *,
  model: str = "resnet8",
  batch_size: int = 128,
  image: int = 32,
  dtype: str = "float32",
  steps: int = 8,
  repeats: int = 5,
  devices: int = 0,
  unroll: int = 1,
  batch_norm: str = "two_pass",
  only: Sequence[str] = USUAL,
  peers: Mapping[str, Peer] | None = None,
  peak_sizes: Sequence[int] = (),
  budget: budgets.Budget | None = None,
  say: Say = lambda line, result: None,
) -> Result:
  """Times loops of ltjax, and of peers, in turns.

  Args:
    model: name of the network.
    batch_size: images in a step.
    image: pixels of a side.
    dtype: `float32` or `bfloat16`.
    steps: steps in an epoch, which is a turn.
    repeats: turns of each loop; two to warm up come on top.
    devices: how many to use; 0 for all.
    unroll: steps in a round of the loop over steps, see `ltjax.training.fit`.
    batch_norm: how statistics are taken, `two_pass` or `one_pass`.
    only: which of `LOOPS`.
    peers: loops to compare `epoch` with, by name.
    peak_sizes: of the matrix products, see `peak.measure`.
    budget: when it is over, what was measured is the result.
    say: takes a line, and all that is known, whenever something new is.

  Returns:
    JSON values: the settings; `machine`; `peak`; `loops`, by name, each with
    `images`, `turns`, and the spreads (median, min, max over the turns) of
    `images_per_second`, with `flops_per_second`, `mfu` and, of a known card,
    `mfu_of_card` where the network takes part, `compile_seconds`,
    `memory_bytes` and what the step is `made_of`; `ltjax_over_bare` and
    `processor_ratio`, of the speeds by wall and by processor time; `peers`, by
    name, `how` each ran, and the spreads of its `images_per_second` and of
    `ratio`, ltjax's speed over its; `process`, the most memory it held; and
    `stopped`, why it was, if it was.

  Raises:
    ValueError: if a setting is out of range, or a name unknown.
  """
  if repeats < 1:
    raise ValueError(f"--repeats is {repeats}; it must be 1 or more.")
  unknown = [name for name in only if name not in LOOPS]
  if unknown or not only:
    raise ValueError(
      f"--only is {','.join(only)!r}; choose from {', '.join(LOOPS)}."
    )
  peers = peers or {}
  if peers and "epoch" not in only:
    raise ValueError("A peer is compared with epoch; add it to --only.")
  if batch_norm not in ("two_pass", "one_pass"):
    raise ValueError(
      f"--batch_norm is {batch_norm!r}; choose two_pass or one_pass."
    )
  budget = budget or budgets.Budget()
  subject = subjects.make(
    model=model,
    batch_size=batch_size,
    image=image,
    dtype=dtype,
    steps=steps,
    devices=devices,
    unroll=unroll,
  )
  found = _Found(
    {
      "model": model,
      "batch_size": batch_size,
      "image": image,
      "dtype": dtype,
      "steps": steps,
      "repeats": repeats,
      "unroll": unroll,
      "batch_norm": batch_norm,
      "machine": machine.describe(),
      "mesh": [str(d) for d in subject.mesh.devices.flat],
    },
    subject,
    say,
  )
  try:
    # The peers follow what they are compared with.
    order = sorted(LOOPS, key=lambda name: name not in COMPARED)
    for name in [n for n in order if n in only and n in COMPARED]:
      found.add(name, repeats, budget)
    found.highest = peak.measure(dtype=dtype, sizes=peak_sizes)
    found.highest["flops_per_second"] *= subject.mesh.size
    found.tell(
      f"matrix products: {found.highest['flops_per_second'] / 1e12:.3g} TFLOP/s"
    )
    for name, peer in peers.items():
      found.add_peer(name, peer, budget)
    for name in [n for n in order if n in only and n not in COMPARED]:
      found.add(name, repeats, budget)
    for number in range(1, repeats + 1):
      found.round(number, repeats, budget)
  except budgets.OverError as error:
    found.settings["stopped"] = str(error)
  return found.result()


class _Found:
  """What is known so far.

  Args:
    settings: JSON values of the result that do not change.
    subject: what is trained.
    say: as for `measure`.
  """

  def __init__(self, settings: Result, subject: subjects.Subject, say: Say):
    self.settings, self._subject, self._say = settings, subject, say
    self.highest: dict[str, Any] = {}
    self._loops: dict[str, loops.Loop] = {}
    self._peers: dict[str, Peer] = {}
    self._first: dict[str, float] = {}
    self._wall: dict[str, list[float]] = {}
    self._processor: dict[str, list[float]] = {}
    self._rounds = 0

  def tell(self, line: str) -> None:
    """Says a line, with the result so far."""
    self._say(line, self.result())

  def add(self, name: str, repeats: int, budget: budgets.Budget) -> None:
    """Makes a loop, and takes a turn of it."""
    budget.check()
    with one_pass.used(self.settings["batch_norm"] == "one_pass"):
      loop = LOOPS[name](self._subject, repeats + WARM_UP)
      self._first[name] = clock.seconds(loop.run)[0]
    wall, processor = clock.seconds(loop.run)
    self._loops[name] = loop
    self._wall[name], self._processor[name] = [wall], [processor]
    self.tell(f"{loop.name}: {loop.images / wall:,.1f} images/s in a turn")

  def add_peer(self, name: str, peer: Peer, budget: budgets.Budget) -> None:
    """Has a peer made, and takes a turn of it."""
    self._peers[name] = peer

    def tried(row: Mapping[str, Any]) -> None:
      how = ", ".join(
        str(v) for k, v in row.items() if k not in ("images_per_second",) and v
      )
      speed = row.get("images_per_second")
      self.tell(
        f"{name} tries {how}" + (f": {speed:,.1f} images/s" if speed else "")
      )

    peer.make(tried, budget)
    peer.turn(budget)
    self._wall[name] = [peer.turn(budget)]
    speed = self._subject.count / self._wall[name][0]
    self.tell(f"{name}: {speed:,.1f} images/s in a turn")

  def round(self, number: int, of: int, budget: budgets.Budget) -> None:
    """Takes a turn of all; it counts if all had theirs."""
    now = {}
    for name, loop in self._loops.items():
      budget.check()
      now[name] = clock.seconds(loop.run)
    for name, peer in self._peers.items():
      now[name] = peer.turn(budget), 0.0
    if not self._rounds:  # The turns to warm up have done their duty.
      self._wall = {name: [] for name in now}
      self._processor = {name: [] for name in now}
    self._rounds += 1
    for name, (wall, processor) in now.items():
      self._wall[name].append(wall)
      self._processor[name].append(processor)
    told = [
      f"{name} {self._images(name) / seconds[0]:,.1f}"
      for name, seconds in now.items()
    ]
    self.tell(f"turn {number} of {of}, images/s: {', '.join(told)}")

  def _images(self, name: str) -> int:
    return (
      self._loops[name].images if name in self._loops else (self._subject.count)
    )

  def result(self) -> Result:
    """Returns all that is known, as `measure`."""
    result = self.settings | {"peak": self.highest, "loops": {}}
    for name in (n for n in LOOPS if n in self._loops):
      result["loops"][name] = self._row(name)
    walls = self._wall
    if set(COMPARED) <= set(self._loops):
      bare, epoch = COMPARED
      result["ltjax_over_bare"] = clock.ratios(walls[epoch], walls[bare])
      result["processor_ratio"] = clock.ratios(
        self._processor[epoch], self._processor[bare]
      )
    result["peers"] = {
      name: self._peer_row(name, peer) for name, peer in self._peers.items()
    }
    result["process"] = usage.of_process(self._subject.mesh.devices.flat[0])
    return result

  def _row(self, name: str) -> dict[str, Any]:
    loop, seconds = self._loops[name], self._wall[name]
    speed = clock.spread([loop.images / s for s in seconds])
    program = loop.program
    row: dict[str, Any] = {
      "name": loop.name,
      "images": loop.images,
      "turns": len(seconds),
      "images_per_second": speed,
      "compile_seconds": program.seconds
      if program
      else max(self._first[name] - clock.spread(seconds)["median"], 0.0),
      "memory_bytes": program.memory_bytes if program else None,
    }
    if program:
      row["made_of"] = program.made_of
    if loop.flops and self.highest:
      row["flops_per_second"] = loop.flops * speed["median"]
      row["mfu"] = row["flops_per_second"] / self.highest["flops_per_second"]
      card = cards.peak(
        self.settings["machine"]["device"], self.settings["dtype"]
      )
      if card:
        devices = len(self.settings["mesh"])
        row["mfu_of_card"] = row["flops_per_second"] / (card * devices)
    return row

  def _peer_row(self, name: str, peer: Peer) -> dict[str, Any]:
    """A peer that was stopped before its turns has the best it tried."""
    seconds = self._wall.get(name)
    row: dict[str, Any] = {"how": peer.how}
    if not seconds:
      speeds = [
        tried["images_per_second"]
        for tried in peer.how.get("tried", ())
        if "images_per_second" in tried
      ]
      seconds = [self._subject.count / max(speeds)] if speeds else []
    if seconds:
      row["images_per_second"] = clock.spread(
        [self._subject.count / s for s in seconds]
      )
      ours = self._wall["epoch"]
      both = min(len(ours), len(seconds))
      row["ratio"] = clock.ratios(ours[:both], seconds[:both])
    return row

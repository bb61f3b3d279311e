"""Measures everything in turns, and says what was found as JSON values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ltjax.benchmarks import clock, loops, machine, passes, peak, usage
from ltjax.benchmarks import subject as subjects

LOOPS: Mapping[str, Callable[[subjects.Subject, int], loops.Loop]] = {
  "bare": lambda subject, turns: loops.bare(subject, turns=turns),
  "epoch": lambda subject, turns: loops.epoch(subject, turns=turns),
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


class Peer(Protocol):
  """Another library's loop, as `torch_client` runs it."""

  how: dict[str, Any]

  def turn(self) -> float:
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
  only: Sequence[str] = tuple(LOOPS),
  peers: Mapping[str, Peer] | None = None,
  peak_sizes: Sequence[int] = (),
) -> dict[str, Any]:
  """Times loops of ltjax, and of peers, in turns.

  Args:
    model: name of the network.
    batch_size: images in a step.
    image: pixels of a side.
    dtype: `float32` or `bfloat16`.
    steps: steps in an epoch, which is a turn.
    repeats: turns of each loop; one to warm up comes on top.
    devices: how many to use; 0 for all.
    only: which of `LOOPS`.
    peers: loops to compare `epoch` with, by name.
    peak_sizes: of the matrix products, see `peak.measure`.

  Returns:
    JSON values: the settings; `machine`; `peak`; `loops`, by name, each with
    `images`, and the spreads (median, min, max over the turns) of
    `images_per_second`, with `flops_per_second` and `mfu` where the network
    takes part, `compile_seconds` and `memory_bytes`; `ltjax_over_bare` and
    `processor_ratio`, of the speeds by wall and by processor time;
    `peers`, by name, `how` each ran, and the spreads of its
    `images_per_second` and of `ratio`, ltjax's speed over its; `process`, the
    most memory it held.

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
  subject = subjects.make(
    model=model,
    batch_size=batch_size,
    image=image,
    dtype=dtype,
    steps=steps,
    devices=devices,
  )
  highest = peak.measure(dtype=dtype, sizes=peak_sizes)
  highest["flops_per_second"] *= subject.mesh.size
  made = {n: LOOPS[n](subject, repeats + 1) for n in LOOPS if n in only}
  first = {name: clock.seconds(loop.run) for name, loop in made.items()}
  for peer in peers.values():
    peer.turn()
  wall: dict[str, list[float]] = {name: [] for name in (*made, *peers)}
  processor: dict[str, list[float]] = {name: [] for name in made}
  for _ in range(repeats):
    for name, loop in made.items():
      seconds = clock.seconds(loop.run)
      wall[name].append(seconds[0])
      processor[name].append(seconds[1])
    for name, peer in peers.items():
      wall[name].append(peer.turn())
  result: dict[str, Any] = {
    "model": model,
    "batch_size": batch_size,
    "image": image,
    "dtype": dtype,
    "steps": steps,
    "repeats": repeats,
    "machine": machine.describe(),
    "mesh": [str(d) for d in subject.mesh.devices.flat],
    "peak": highest,
    "loops": {
      name: _row(loop, wall[name], first[name][0], highest["flops_per_second"])
      for name, loop in made.items()
    },
  }
  if set(COMPARED) <= set(only):
    bare, epoch = COMPARED
    result["ltjax_over_bare"] = clock.ratios(wall[epoch], wall[bare])
    result["processor_ratio"] = clock.ratios(processor[epoch], processor[bare])
  result["peers"] = {
    name: {
      "how": peer.how,
      "images_per_second": clock.spread(
        [subject.count / s for s in wall[name]]
      ),
      "ratio": clock.ratios(wall["epoch"], wall[name]),
    }
    for name, peer in peers.items()
  }
  result["process"] = usage.of_process(subject.mesh.devices.flat[0])
  return result


def _row(
  loop: loops.Loop, seconds: Sequence[float], first: float, highest: float
) -> dict[str, Any]:
  speed = clock.spread([loop.images / s for s in seconds])
  compiling = loop.compile_seconds
  if compiling is None:
    compiling = max(first - clock.spread(seconds)["median"], 0.0)
  row: dict[str, Any] = {
    "name": loop.name,
    "images": loop.images,
    "images_per_second": speed,
    "compile_seconds": compiling,
    "memory_bytes": loop.memory_bytes,
  }
  if loop.flops:
    row["flops_per_second"] = loop.flops * speed["median"]
    row["mfu"] = row["flops_per_second"] / highest
  return row

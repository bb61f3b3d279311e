"""Several seeds at a time: in turn, vmapped, or in a process each.

A step is a pure function of its state, so S seeds can train in one program by
`jax.vmap`, whose convolutions then have a kernel for each seed and become
grouped ones; or in turn; or in S processes, each with its place
(`ltjax.launch.machine_shares`). All of them are child processes here, so that
this one takes no accelerator. They wait for each other: a turn of the one
follows a turn of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import contextlib
import functools
import json
import os
import subprocess
import sys
from typing import Any

from benchmarks import clock
from ltjax.launch import machine_shares

WAYS = ("in turn", "vmapped", "processes")


def measure(
  *,
  seeds: int,
  model: str = "resnet8",
  batch_size: int = 128,
  image: int = 32,
  dtype: str = "float32",
  steps: int = 4,
  repeats: int = 3,
) -> dict[str, Any]:
  """Times supervised training of several seeds, done in three ways.

  Args:
    seeds: how many.
    model: name of the network.
    batch_size: images in a step of one seed.
    image: pixels of a side.
    dtype: `float32` or `bfloat16`.
    steps: steps of each seed in a turn.
    repeats: turns of each way; the first, which compiles, comes on top.

  Returns:
    JSON values: the settings; `platform`; for each of `WAYS` that this machine
    has, images per second of all seeds together, a spread over the turns; and
    the `fastest` of them by median.

  Raises:
    ValueError: if a setting is out of range, or a child process fails.
  """
  for name, value in {"seeds": seeds, "repeats": repeats}.items():
    if value < 1:
      raise ValueError(f"--{name} is {value}; it must be 1 or more.")
  settings = {
    "model": model,
    "batch_size": batch_size,
    "image": image,
    "dtype": dtype,
    "steps": steps,
  }
  platform, _ = machine_shares.devices()
  first, *others = _places(platform, seeds)
  with contextlib.ExitStack() as stack:
    together = stack.enter_context(_Child(first, {**settings, "seeds": seeds}))
    alone = [
      stack.enter_context(_Child(place, {**settings, "seeds": 1}))
      for place in others
    ]

    def run(way: str) -> None:
      if way != "processes":
        _round([together], way)
        return
      for done in range(0, seeds, len(alone)):
        _round(alone[: seeds - done], "in turn")

    ways = WAYS if alone else WAYS[:2]
    turns = [
      {way: clock.seconds(functools.partial(run, way))[0] for way in ways}
      for _ in range(repeats + 1)
    ][1:]
  images = seeds * steps * batch_size
  speeds = {
    way: clock.spread([images / turn[way] for turn in turns]) for way in ways
  }
  return {
    **settings,
    "seeds": seeds,
    "repeats": repeats,
    "platform": platform,
    "ways": speeds,
    "fastest": max(speeds, key=lambda way: speeds[way]["median"]),
  }


def text(result: Mapping[str, Any]) -> str:
  """Draws what `measure` found.

  Args:
    result: of `measure`.
  """
  lines = [
    f"{result['seeds']} seeds of {result['model']}, {result['dtype']}, batches"
    f" of {result['batch_size']} images of {result['image']}x{result['image']}"
    f"x3, on {result['platform']}; images/s of all seeds, medians of"
    f" {result['repeats']} turns of {result['steps']} steps each:"
  ]
  lines += [
    f"{way:<12} {speed['median']:>12,.1f} ({speed['min']:,.1f} to"
    f" {speed['max']:,.1f})"
    for way, speed in result["ways"].items()
  ]
  return "\n".join([*lines, f"Fastest: {result['fastest']}."])


def _places(platform: str, seeds: int) -> list[machine_shares.Place]:
  """Returns the place of the process for all, then those of one seed each."""
  if platform == "cpu":
    return [machine_shares.WHOLE, *machine_shares.for_runs(seeds)]
  if platform == "gpu":
    return machine_shares.for_runs(seeds + 1, seeds + 1, option="--seeds")
  return [
    machine_shares.WHOLE
  ]  # It has all chips of a TPU, and no other gets one.


class _Child:
  """A process of `seeds_worker`; it ends with the context."""

  def __init__(self, place: machine_shares.Place, settings: Mapping[str, Any]):
    self._place, self._settings = place, settings

  def __enter__(self) -> _Child:
    self._process = subprocess.Popen(
      [sys.executable, "-m", "benchmarks.seeds.worker"],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env=os.environ | self._place.environment,
    )
    self._place.pin(self._process.pid)
    self.ask(json.dumps(self._settings))
    return self

  def __exit__(self, *unused: object) -> None:
    self._process.terminate()
    self._process.communicate()

  def ask(self, line: str) -> None:
    assert self._process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # Then it has no answer, either.
      self._process.stdin.write(line + "\n")
      self._process.stdin.flush()

  def wait(self) -> None:
    assert self._process.stdout is not None
    answer = self._process.stdout.readline()
    if not answer:
      raise ValueError(
        f"The process on {self._place.name} ended with exit code"
        f" {self._process.wait()}; what it said is above."
      )
    answer = json.loads(answer)
    if "error" in answer:
      raise ValueError(answer["error"])


def _round(children: Sequence[_Child], way: str) -> None:
  """Has all of them do one turn, beside each other."""
  for child in children:
    child.ask(way)
  for child in children:
    child.wait()

"""A process that trains some seeds for a turn, one way or another, when told.

It reads a line of JSON with the settings, and then answers each name of a way
when that turn is over; at the end of its input it ends. `seeds` starts it.
"""

from __future__ import annotations

from collections.abc import Callable
import json
import os
import sys
from typing import IO, Any

import jax
import jax.numpy as jnp

from benchmarks import subject as subjects
from ltjax.stages import embedding
from ltjax.training import fit
from ltjax.training import state as states

_EPOCHS = 1000  # A schedule longer than any benchmark.


def ways(*, seeds: int, **settings: Any) -> dict[str, Callable[[], Any]]:
  """Returns supervised training of some seeds, a turn (an epoch) of each.

  Args:
    seeds: how many.
    **settings: of `subject.make`.

  Returns:
    By name (`in turn`, `vmapped`) what trains all of them for a turn, and
    returns their states: a list of `TrainState`, or one with a leading axis.
    Neither knows of the other; each goes on where it was.

  Raises:
    ValueError: if a setting is out of range.
  """
  subject = subjects.make(**settings, devices=1)
  stage = embedding.make(
    "embedding",
    subject.model,
    images=subject.images,
    labels=subject.labels,
    transform=subject.transform,
    recipe=subject.recipe(_EPOCHS),
    seed=0,
    key=jax.random.key(0),
    report=lambda state: [],
  )
  assert stage.init and stage.prepare and stage.step
  arrays, stream = stage.prepare(subject.state)
  index = jnp.asarray(stream(0))
  many = jax.default_backend() != "cpu" and subject.steps > 1
  start = stage.init(subject.state)
  apart = [
    start.replace(key=jax.random.key(seed))  # type: ignore[attr-defined]
    for seed in range(seeds)
  ]
  together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *apart)
  apart = [states.copy(state) for state in apart]
  each = fit.compiled(stage.step, subject.mesh, many)
  vmapped = jax.vmap(stage.step, in_axes=(0, 0, None))
  all_ = fit.compiled(vmapped, subject.mesh, many)
  indices = jnp.broadcast_to(
    index[:, None], (subject.steps, seeds, subject.batch_size)
  )

  def turn(call: Any, state: Any, index: jax.Array) -> Any:
    if many:
      return call(state, index, arrays, subject.steps)[0]
    for step in range(subject.steps):
      state = call(state, index[step], arrays)[0]
    return state

  def in_turn() -> Any:
    for seed in range(seeds):
      apart[seed] = turn(each, apart[seed], index)
    return apart

  def as_one() -> Any:
    nonlocal together
    together = turn(all_, together, indices)
    return together

  return {"in turn": in_turn, "vmapped": as_one}


def serve(lines: IO[str], answers: IO[str]) -> None:
  """Answers until the lines end.

  Args:
    lines: first the settings, then names of ways.
    answers: gets a line of JSON for each way.
  """

  def answer(value: Any) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()

  try:
    known = ways(**json.loads(lines.readline()))
  except ValueError as error:
    answer({"error": str(error)})
    return
  for line in lines:
    jax.block_until_ready(known[line.strip()]())
    answer({})


if __name__ == "__main__":
  # What a compiler prints must not come between the answers.
  answers_only = os.fdopen(os.dup(sys.stdout.fileno()), "w")
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
  serve(sys.stdin, answers_only)

"""A rehearsal: every program of a run is compiled before its first stage.

A fault of a compiler then costs a minute, and not the stages before. The stages
are gone through in order, but no step is taken: each hands on what it began
with, and features are random numbers. The run uses the very programs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ltjax.devices import memory, sharding
from ltjax.training import fit, inference
from ltjax.training import state as states
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState


class CompilationError(RuntimeError):
  """XLA cannot compile a program; the message names it and ways around."""


def due(when: str, mesh: Mesh) -> bool:
  """Whether to rehearse: `auto` (accelerators only), `always` or `never`."""
  on_cpu = mesh.devices.flat[0].platform == "cpu"
  return when == "always" or (when == "auto" and not on_cpu)


def rehearse(
  stages: Sequence[Stage],
  state: ModelState,
  predictor: inference.Predictor,
  *,
  mesh: Mesh,
  steps_per_call: int = 0,
  memory_limit_gib: float = 0.0,
  show: Callable[[str], None] = print,
) -> int:
  """Compiles what stages will run, and returns how many programs there are.

  Args:
    stages: those that are left, in order.
    state: the state before the first of them; it stays as it is.
    predictor: the one that the stages use.
    mesh: the devices.
    steps_per_call, memory_limit_gib: see `ltjax.training.fit`.
    show: is told of each program before it is compiled, lest the compiler
      aborts the process, and then how long it took.

  Raises:
    CompilationError: if XLA cannot compile one.
    OutOfMemoryError: if one does not fit on the device.
  """
  known: set[Any] = set()

  def once(name: str, program: Any, compile_it: Callable[[], Any]) -> None:
    leaves, structure = jax.tree.flatten(program[1:])
    shapes = [(jnp.shape(x), getattr(x, "dtype", x)) for x in leaves]
    key = (program[0], str(structure), str(shapes))
    if key in known:
      return
    known.add(key)
    show(f"Compiling {name} ...")
    began = time.monotonic()
    try:
      compile_it()
    except jax.errors.JaxRuntimeError as error:
      raise CompilationError(_message(name, error)) from error
    show(f"  {time.monotonic() - began:.1f} s")

  def compile_pass(
    name: str, batch: memory.Batch, call: Any, *args: Any, **options: Any
  ) -> None:
    def compile_it():
      with memory.explained(batch):
        call.lower(*args, **options).compile()

    once(name, (call, args, options), compile_it)

  # Caches of features tell networks by their arrays: these are none of the
  # run's.
  state = state.replace(  # type: ignore[attr-defined]
    backbone=states.copy(state.backbone),
    batch_stats=states.copy(state.batch_stats),
  )
  with predictor.rehearsing(compile_pass):
    for stage in stages:
      train = None
      if stage.steps:
        assert stage.init is not None and stage.prepare is not None
        train = sharding.place(stage.init(state), mesh)
        arrays, _ = stage.prepare(state)
        count = fit.steps_in_call(stage, arrays, mesh, steps_per_call)
        call, shapes = fit.program(stage, train, arrays, mesh, count)
        compile_it = functools.partial(
          fit.compile_and_check, stage, call, shapes, mesh, memory_limit_gib
        )
        once(_title(stage, count), (call, shapes), compile_it)
        del arrays
      state = stage.finish(state, train)
      stage.report(state)
  return len(known)


def _title(stage: Stage, count: int) -> str:
  steps = f"{count:,} steps" if count > 1 else "a step"
  return f"{steps} of stage {stage.name}, batch {stage.batch_size:,}"


def _message(name: str, error: Exception) -> str:
  first = (str(error).splitlines() or [""])[0]
  return (
    f"XLA cannot compile {name} (JAX {jax.__version__}): {first} Nothing was"
    " trained. Try another version of JAX, --config.model.dtype, or on a GPU"
    " XLA_FLAGS=--xla_gpu_enable_triton_gemm=false. --config.run.rehearse=never"
    " trains as far as it comes."
  )

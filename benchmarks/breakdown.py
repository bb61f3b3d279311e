"""Where the time of a training step goes, piece by piece.

Each piece is a program of its own, timed on the shapes of the step: the
augmentation, every convolution forward and in its two gradients, the optimizer,
and a call that does nothing with the whole state (dispatch). What the network
takes beyond its convolutions (normalisation, activations, shortcuts, head,
loss) is the difference. A whole step may take less than its pieces, as XLA
fuses over their borders, so the sum is told beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks import clock, flops, loops, machine, peak, table
from benchmarks import subject as subjects
from ltjax.devices import sharding
from ltjax.losses import classification
from ltjax.models.layers import convolution
from ltjax.training import state as states

WAYS = ("forward", "input gradient", "kernel gradient")
STEPS = 4  # In the epoch that gives the time of a whole step.


def measure(
  *,
  model: str,
  batch_size: int,
  image: int,
  dtype: str,
  repeats: int = 5,
) -> dict[str, Any]:
  """Times the pieces of a supervised step, on one device.

  Args:
    model: name of the network.
    batch_size: images in a step.
    image: pixels of a side.
    dtype: `float32` or `bfloat16`.
    repeats: the median of so many runs counts, after one to warm up.

  Returns:
    JSON values: the settings; `machine`; `peak`; the seconds of a `step`, and
    of its `pieces`; `convolutions`, one row for all of one shape, with their
    `count`, and by way (`WAYS`) the `seconds` of one of them and its
    `flops_per_second`.

  Raises:
    ValueError: if a setting is out of range.
  """
  if repeats < 1:
    raise ValueError(f"--repeats is {repeats}; it must be 1 or more.")
  subject = subjects.make(
    model=model,
    batch_size=batch_size,
    image=image,
    dtype=dtype,
    steps=STEPS,
    devices=1,
  )
  median = functools.partial(_median, repeats=repeats)
  rows = _convolutions(subject, median)
  pieces = _pieces(subject, median)
  for way in WAYS:
    pieces[f"convolutions, {way}"] = sum(
      row["count"] * row[way]["seconds"] for row in rows if way in row
    )
  whole = pieces.pop("network")
  pieces["rest of the network"] = whole - sum(
    pieces[f"convolutions, {way}"] for way in WAYS
  )
  epoch = loops.epoch(subject, turns=repeats + 1)
  return {
    "model": model,
    "batch_size": batch_size,
    "image": image,
    "dtype": dtype,
    "repeats": repeats,
    "machine": machine.describe(),
    "peak": peak.measure(dtype=dtype),
    "step": median(epoch.run) / STEPS,
    "pieces": pieces,
    "convolutions": rows,
  }


def text(result: Mapping[str, Any]) -> str:
  """Draws what `measure` found.

  Args:
    result: of `measure`.
  """
  step, pieces = result["step"], result["pieces"]
  lines = [
    f"{result['model']}, {result['dtype']}, a step of {result['batch_size']}"
    f" images of {result['image']}x{result['image']}x3 on"
    f" {result['machine']['device']} (load {result['machine']['load']}):"
    f" {1000 * step:,.1f} ms; medians of {result['repeats']}.",
    "",
    *table.grid(
      ("", "ms", "of the step"),
      [
        [name, f"{1000 * seconds:,.2f}", f"{100 * seconds / step:.1f}%"]
        for name, seconds in (*pieces.items(), ("sum", sum(pieces.values())))
      ],
    ),
    "",
    *table.grid(
      ("convolution", "count", *(f"{way}, GFLOP/s" for way in WAYS)),
      [
        [
          f"{row['input'][1]}x{row['input'][2]}, {row['kernel'][0]}x"
          f"{row['kernel'][1]}, {row['kernel'][2]} to {row['kernel'][3]},"
          f" stride {row['stride']}",
          str(row["count"]),
          *(
            f"{row[way]['flops_per_second'] / 1e9:,.0f}" if way in row else ""
            for way in WAYS
          ),
        ]
        for row in result["convolutions"]
      ],
    ),
    f"Matrix products of {result['peak']['size']} reach"
    f" {result['peak']['flops_per_second'] / 1e9:,.0f} GFLOP/s.",
  ]
  return "\n".join(lines)


def _median(run: Callable[[], Any], repeats: int) -> float:
  clock.seconds(run)
  seconds = [clock.seconds(run)[0] for _ in range(repeats)]
  return clock.spread(seconds)["median"]


def _pieces(
  subject: subjects.Subject, median: Callable[[Callable[[], Any]], float]
) -> dict[str, float]:
  """Returns the seconds of what is not a convolution, and of the network."""
  model, size = subject.model, subject.batch_size
  state = subject.state
  params = {"backbone": state.backbone, "head": state.head}
  recipe = subject.recipe(1)
  optimizer = recipe.make_optimizer(recipe.make_schedule(STEPS))
  labels = subject.labels[:size]
  augment = jax.jit(
    lambda key, images, index: subject.transform(key, images[index])
  )
  key, index = jax.random.key(6), jnp.arange(size)
  batch = augment(key, subject.images, index)

  @jax.jit
  def gradient(params, stats, images, labels):
    def loss(params):
      _, logits, new = model.apply(params, stats, images, True)
      return jnp.mean(classification.cross_entropy(logits, labels)), new

    return jax.grad(loss, has_aux=True)(params)

  whole = sharding.replicated(subject.mesh)

  @functools.partial(jax.jit, donate_argnums=(0, 1), out_shardings=whole)
  def update(params, opt_state, grads):
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  grads, _ = gradient(params, state.batch_stats, batch, labels)
  opt_state = optimizer.init(params)
  # Copies that lie where results will: the second call compiles nothing anew.
  moved, held = sharding.replicate(
    states.copy(((params, opt_state), (params, state.batch_stats, opt_state))),
    subject.mesh,
  )
  nothing = jax.jit(lambda tree: tree, donate_argnums=0, out_shardings=whole)

  def optimize() -> Any:
    nonlocal moved
    moved = update(*moved, grads)
    return moved

  def dispatch() -> Any:
    nonlocal held
    held = nothing(held)
    return held

  return {
    "augmentation": median(lambda: augment(key, subject.images, index)),
    "network": median(
      lambda: gradient(params, state.batch_stats, batch, labels)
    ),
    "optimizer": median(optimize),
    "dispatch": median(dispatch),
  }


def _convolutions(
  subject: subjects.Subject, median: Callable[[Callable[[], Any]], float]
) -> list[dict[str, Any]]:
  found = flops.convolutions(subject.model, subject.batch_size)
  rows = []
  for place, shape in enumerate(dict.fromkeys(found)):
    inputs, kernel, stride = shape
    row: dict[str, Any] = {
      "input": list(inputs),
      "kernel": list(kernel),
      "stride": stride,
      "count": found.count(shape),
    }
    for way, run, count in _ways(inputs, kernel, stride, subject.dtype):
      if way == "input gradient" and place == 0:
        continue  # Nothing is learned from the gradient of the images.
      seconds = median(run)
      row[way] = {"seconds": seconds, "flops_per_second": count / seconds}
    rows.append(row)
  return rows


def _ways(
  inputs: tuple[int, ...], kernel: tuple[int, ...], stride: int, dtype: str
) -> list[tuple[str, Callable[[], Any], int]]:
  """Returns the three ways of a convolution, each a program of its own."""
  x = jnp.ones(inputs, dtype)
  w = jnp.full(kernel, 1 / math.prod(kernel[:3]), dtype)

  def forward(x, w):
    return convolution.convolve(x, w, stride)

  def back(place):
    # Of the gradient's two results XLA computes only the one that is returned.
    return jax.jit(lambda x, w, g: jax.vjp(forward, x, w)[1](g)[place])

  y = jax.jit(forward)(x, w)
  count = flops.of_call(forward, x, w)
  programs = (jax.jit(forward), back(0), back(1))
  arguments = ((x, w), (x, w, y), (x, w, y))
  return [
    (way, functools.partial(program, *given), count)
    for way, program, given in zip(WAYS, programs, arguments, strict=True)
  ]

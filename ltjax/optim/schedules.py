"""Learning rate over steps, which count updates, not epochs, from 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import math
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import require

NAMES = ("cosine", "cosine_7_16", "step", "constant", "exponential")

Schedule = Callable[[Any], jax.Array]


def make(
  name: str,
  *,
  learning_rate: float,
  total_steps: int,
  warmup_steps: int = 0,
  warmup_every: int = 1,
  milestones: Sequence[float] = (),
  factor: float = 0.1,
  final_learning_rate: float = 0.0,
) -> Schedule:
  """Builds a schedule by name: a function of the step, integers, to fp32.

  With T the total and W the warm-up steps, step t has the learning rate

  * warm-up, t < W: `lr (t + 1) / W`, or in stairs of E steps
    `lr E (floor(t / E) + 1) / W`; afterwards
  * "cosine": `lr (1 + cos(pi (t - W) / (T - W))) / 2`, which would be 0 at T;
  * "cosine_7_16": `lr cos(7 pi (t - W) / 16 (T - W))`, which ends at 0.195 lr;
  * "step": `lr factor^k`, where k milestones have been reached;
  * "constant": `lr`;
  * "exponential": `lr (final / lr)^((t - W) / (T - W))`, which would be `final`
    at T.

  Args:
    name: one of `NAMES`.
    learning_rate: lr, the highest value, above 0.
    total_steps: T; beyond it the last value holds.
    warmup_steps: W, below T; 0 for none.
    warmup_every: E, a divisor of W; the steps of an epoch give the warm-up of
      code which sets the rate once an epoch.
    milestones: Only for "step": where to decay, as fractions of T between 0 and
      1, rising. Step `round(fraction * T)` is the first with the lower rate.
    factor: Only for "step": what to multiply by, in (0, 1].
    final_learning_rate: Only for "exponential": `final`, in (0, lr].

  Raises:
    ValueError: The name is unknown or a value out of range.

  Example:
    >>> rate = schedules.make("cosine", learning_rate=0.1, total_steps=100)
    >>> rate(jnp.array([0, 25, 50]))
    Array([0.1   , 0.0854, 0.05  ], dtype=float32)

  Source: Loshchilov & Hutter (2017), "SGDR", equation 5 without restarts, for
    "cosine"; Sohn et al. (2020), "FixMatch", Section 2.3, for "cosine_7_16";
    Cao et al. (2019), "LDAM", and their code for the warm-up.
  """
  require.choice("schedule", name, NAMES)
  require.within("learning_rate", learning_rate, "(0, inf)")
  if total_steps < 1:
    raise ValueError(f"A schedule needs 1 step or more, not {total_steps}.")
  if not 0 <= warmup_steps < total_steps:
    raise ValueError(
      f"Warm-up must take from 0 to {total_steps - 1} of the {total_steps} "
      f"steps, not {warmup_steps}."
    )
  if warmup_every < 1 or warmup_steps % warmup_every:
    raise ValueError(
      f"Warm-up rises every {warmup_every} steps; that must divide its "
      f"{warmup_steps} steps."
    )
  if name != "exponential" and final_learning_rate:
    raise ValueError(
      f"A final learning rate of {final_learning_rate} has no meaning in the "
      f"schedule {name!r}; leave it at 0 or choose 'exponential'."
    )
  if name == "step":
    after = _step(learning_rate, total_steps, tuple(milestones), factor)
  elif milestones:
    raise ValueError(
      f"Milestones {tuple(milestones)} have no meaning in the schedule"
      f" {name!r}; leave them empty or choose 'step'."
    )
  elif name == "cosine":
    after = _cosine(learning_rate, total_steps, warmup_steps)
  elif name == "cosine_7_16":
    after = _cosine_7_16(learning_rate, total_steps, warmup_steps)
  elif name == "exponential":
    after = _exponential(
      learning_rate, final_learning_rate, total_steps, warmup_steps
    )
  else:
    after = _constant(learning_rate)

  def schedule(step: Any) -> jax.Array:
    t = jnp.asarray(step)
    if not warmup_steps:
      return after(t)
    stairs = warmup_every * (t // warmup_every + 1)
    rise = learning_rate * stairs.astype(jnp.float32) / warmup_steps
    return jnp.where(t < warmup_steps, rise, after(t))

  return schedule


def _cosine(lr: float, total: int, warmup: int) -> Schedule:
  def schedule(t: jax.Array) -> jax.Array:
    done = jnp.clip((t - warmup) / (total - warmup), 0.0, 1.0)
    return (0.5 * lr * (1.0 + jnp.cos(jnp.pi * done))).astype(jnp.float32)

  return schedule


def _cosine_7_16(lr: float, total: int, warmup: int) -> Schedule:
  def schedule(t: jax.Array) -> jax.Array:
    done = jnp.clip((t - warmup) / (total - warmup), 0.0, 1.0)
    return (lr * jnp.cos(7.0 * jnp.pi * done / 16.0)).astype(jnp.float32)

  return schedule


def _exponential(lr: float, final: float, total: int, warmup: int) -> Schedule:
  if not 0 < final <= lr:
    raise ValueError(
      "The schedule 'exponential' needs a final learning rate above 0 and at "
      f"most the {lr} it starts from, not {final}."
    )

  def schedule(t: jax.Array) -> jax.Array:
    done = jnp.clip((t - warmup) / (total - warmup), 0.0, 1.0)
    rate = lr * jnp.exp(done * math.log(final / lr))
    return rate.astype(jnp.float32)

  return schedule


def _step(
  lr: float, total: int, milestones: tuple[float, ...], factor: float
) -> Schedule:
  if not milestones:
    raise ValueError(
      "The schedule 'step' needs milestones, fractions of the training such as "
      "(0.8, 0.9)."
    )
  rising = all(a < b for a, b in zip(milestones, milestones[1:], strict=False))
  if not rising or not all(0 < m < 1 for m in milestones):
    raise ValueError(
      f"Milestones are rising fractions between 0 and 1, not {milestones}; "
      f"divide steps by the total of {total}."
    )
  require.within("decay_factor", factor, "(0, 1]")
  bounds = [round(m * total) for m in milestones]

  def schedule(t: jax.Array) -> jax.Array:
    rate = jnp.full(jnp.shape(t), lr, jnp.float32)
    for k, bound in enumerate(bounds, 1):
      rate = jnp.where(t >= bound, jnp.float32(lr * factor**k), rate)
    return rate

  return schedule


def _constant(lr: float) -> Schedule:
  return lambda t: jnp.full(jnp.shape(t), lr, jnp.float32)


def sigmoid(step: jax.Array, *, length: float) -> jax.Array:
  """Half a bell curve from exp(-5) = 0.0067 to 1, fp32 `[]`.

  `ramp(t) = exp(-5 (1 - t)^2)` with `t = min(step / length, 1)`.

  Args:
    step: `[]` integer, steps done, from 0.
    length: steps until the ramp reaches 1; 0 is 1 from the first step.

  Example:
    >>> schedules.sigmoid(jnp.array(50), length=100)
    Array(0.2865, dtype=float32)

  Source: Laine & Aila (2017), "Temporal ensembling for semi-supervised
    learning", Appendix A; Mean Teacher uses the same.
  """
  assert length >= 0, length
  if length == 0:
    return jnp.ones((), jnp.float32)
  left = 1.0 - jnp.minimum(jnp.asarray(step, jnp.float32) / length, 1.0)
  return jnp.exp(-5.0 * left**2)


def cosine_wave(
  t: jax.Array, *, low: float, high: float, period: float
) -> jax.Array:
  """A wave between two values, from the high one down and back, fp32 `[]`.

  `low + (high - low) (1 + cos(2 pi t / period)) / 2`

  As the temperature of a contrastive loss, the high end, at t = 0, groups
  images by class and the low end tells one image from the other, which serves
  head and tail in turn. The published code names half the period `t_max`.

  Args:
    t: `[]`, time, such as epochs done, from 0; integer or float.
    low, high: the lowest and the highest value.
    period: the time from one `high` to the next, above 0, in the units of t. 0
      or less is a ValueError.

  Example:
    >>> schedules.cosine_wave(200, low=0.1, high=1.0, period=400)
    Array(0.1, dtype=float32)

  Source: Kukleva et al. (2023), "Temperature schedules for self-supervised
    contrastive methods on long-tail data".
  """
  require.within("period", period, "(0, inf]", "such as 400 epochs")
  share = jnp.mod(jnp.asarray(t, jnp.float32), period) / period
  up = (1.0 + jnp.cos(2.0 * jnp.pi * share)) / 2.0
  # Weighed this way round, both ends are exact.
  return low * (1.0 - up) + high * up

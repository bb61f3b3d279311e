"""Mean Teacher: agree with the average of one's own past weights.

The teacher is an exponential moving average of the student's parameters, gets
no gradient, and sees another augmentation of the same images. It is the teacher
that is tested.

BatchNorm statistics are not parameters. `batch`, as in the authors' PyTorch
code: the teacher runs in training mode, normalises by the statistics of the
batch and collects its own running ones from its own passes. `ema`: the teacher
runs in evaluation mode with the moving average of the student's statistics.
"""

from __future__ import annotations

import jax

from ltjax import ema, regularizers
from ltjax import state as states
from ltjax.losses import consistency
from ltjax.state import ModelState, TrainState

BATCH_NORMS = ("batch", "ema")


def make(
  *, decay: float = 0.999, batch_norm: str = "batch"
) -> regularizers.Regularizer:
  """Returns the regularizer of Mean Teacher.

  The squared distance of the softmax of student and teacher.

  Args:
    decay: of the moving average, in [0, 1), lower in the first steps
      (`ema.decay_at`); 0 makes the teacher the student.
    batch_norm: `batch` or `ema`, see above.

  Raises:
    ValueError: if a setting is out of range.

  Source: Tarvainen & Valpola (2017), "Mean teachers are better role models",
    Section 2.
  """
  if not 0 <= decay < 1:
    raise ValueError(
      f"semi.ema is {decay}; it must be in [0, 1), such as 0.999."
    )
  if batch_norm not in BATCH_NORMS:
    raise ValueError(
      f"semi.teacher_batch_norm is {batch_norm!r}; choose one of"
      f" {', '.join(BATCH_NORMS)}."
    )

  def init(state: TrainState, start: ModelState) -> TrainState:
    del start
    teacher = {"params": state.params, "batch_stats": state.batch_stats}
    return state.replace(  # type: ignore[attr-defined]
      extra=states.copy(teacher)
    )

  def penalty(forward, params, state, batch):
    del params
    teacher = state.extra
    logits, batch_stats = forward(
      teacher["params"],
      teacher["batch_stats"],
      batch.augment(batch.key),
      train=batch_norm == "batch",
    )
    target = jax.lax.stop_gradient(jax.nn.softmax(logits))
    losses = consistency.mean_squared_error(target, batch.logits)
    return losses, jax.lax.stop_gradient(batch_stats)

  def update(state: TrainState, news) -> TrainState:
    now = ema.decay_at(state.step, decay=decay)
    teacher = state.extra
    batch_stats = news
    if batch_norm == "ema":
      batch_stats = ema.update(
        teacher["batch_stats"], state.batch_stats, decay=now
      )
    params = ema.update(teacher["params"], state.params, decay=now)
    return state.replace(  # type: ignore[attr-defined]
      extra={"params": params, "batch_stats": batch_stats}
    )

  def result(state: TrainState):
    return state.extra["params"], state.extra["batch_stats"]

  return regularizers.Regularizer(
    init=init, penalty=penalty, update=update, result=result
  )

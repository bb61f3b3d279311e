"""Mean Teacher: agree with the average of one's own past weights.

The teacher, an exponential moving average of the student's parameters, gets no
gradient and sees another augmentation of the same images. It is the one tested.

BatchNorm statistics are not parameters. `batch`, as in the authors' PyTorch
code: the teacher runs in training mode, normalises by the statistics of the
batch and collects its own running ones. `ema`: it runs in evaluation mode with
the moving average of the student's statistics.
"""

from __future__ import annotations

import jax

from ltjax.losses import consistency
from ltjax.optim import ema
from ltjax.semi_supervised import regularizer
from ltjax.training import step
from ltjax.training.state import ModelState


def make(
  *, decay: float = 0.999, batch_norm: str = "batch"
) -> regularizer.Regularizer:
  """Returns the squared distance of the softmax of student and teacher.

  Args:
    decay: of the moving average, in [0, 1), lower in the first steps
      (`ema.decay_at`); 0: the student itself.
    batch_norm: `batch` or `ema`, see above.

  Source: Tarvainen & Valpola (2017), "Mean teachers are better role models",
    Section 2.
  """

  def extra(state: ModelState):
    params, batch_stats, _ = step.network(state)
    return {"params": params, "batch_stats": batch_stats}

  def penalty(forward, params, state, views):
    del params
    teacher = state.extra
    logits, batch_stats = forward(
      teacher["params"],
      teacher["batch_stats"],
      views.augment(views.key),
      train=batch_norm == "batch",
    )
    target = jax.lax.stop_gradient(jax.nn.softmax(logits))
    losses = consistency.mean_squared_error(target, views.logits)
    return losses, {"found": jax.lax.stop_gradient(batch_stats)}

  def follow(params, state, batch, outcome):
    del batch
    now = ema.decay_at(state.step + 1, decay=decay)
    teacher, batch_stats = state.extra, outcome.found
    if batch_norm == "ema":
      batch_stats = ema.update(
        teacher["batch_stats"], outcome.batch_stats, decay=now
      )
    params = ema.update(teacher["params"], params, decay=now)
    return {"params": params, "batch_stats": batch_stats}

  return regularizer.Regularizer(
    penalty,
    extra=extra,
    follow=follow,
    result=lambda state: (state.extra["params"], state.extra["batch_stats"]),
  )

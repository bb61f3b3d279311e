"""Evaluators by name: what is found out of a model when a stage is over.

`config.eval.evaluators` chooses them, for every method alike. A new one is a
function of the learner and a row.
"""

from __future__ import annotations

from collections.abc import Mapping
import difflib
import functools
from typing import Any

import numpy as np

from ltjax.devices import sharding
from ltjax.evaluation import knn
from ltjax.methods.learner import Evaluator, Learner, Rows
from ltjax.training.state import ModelState


def nearest(
  learner: Learner,
  state: ModelState,
  *,
  model: str,
  head: str,
  neighbors: int,
) -> Rows:
  """Returns rows of the classifier that asks the nearest labeled images.

  It tells how good an embedding is before its head is.

  Args:
    learner: the network and the task.
    state: the model.
    model: what to call it.
    head: of the rows; neighbors have none.
    neighbors: k.
  """
  task = learner.task
  images = task.images[: task.num_labeled]
  references = learner.predictor.features(state, images)
  labels = sharding.replicate(np.asarray(task.labels), learner.mesh)

  def predict(queries: Any) -> np.ndarray:
    return knn.probabilities(
      learner.predictor.features(state, queries),
      references,
      labels,
      neighbors=neighbors,
      num_classes=task.num_classes,
    )

  return learner.measure(predict, model=f"{model}, kNN@{neighbors}", head=head)


def of(block: Mapping[str, Any], num_labeled: int) -> tuple[Evaluator, ...]:
  """Returns the evaluators that `config.eval` chooses.

  Args:
    block: `evaluators`, names joined by commas, and `neighbors`.
    num_labeled: images that may be a neighbor.

  Returns:
    In the order of their names, but accuracy last: it is the run's result.

  Raises:
    ValueError: if a name is unknown, accuracy is not among them, or there are
      fewer labeled images than neighbors.
  """
  made = {
    "accuracy": Learner.evaluate,
    "knn": functools.partial(nearest, neighbors=block["neighbors"]),
  }
  names = [n.strip() for n in block["evaluators"].split(",") if n.strip()]
  for name in names:
    if name not in made:
      close = difflib.get_close_matches(name, made, 1)
      hint = f" Did you mean {close[0]!r}?" if close else ""
      raise ValueError(
        f"eval.evaluators names {name!r}; choose of {', '.join(made)}.{hint}"
      )
  if "accuracy" not in names:
    raise ValueError(
      f"eval.evaluators is {block['evaluators']!r}, without accuracy, which is"
      " the run's result; add it."
    )
  if "knn" in names:
    knn.check(block["neighbors"], num_labeled, field="eval.neighbors")
  others = dict.fromkeys(n for n in names if n != "accuracy")
  return (*(made[n] for n in others), made["accuracy"])

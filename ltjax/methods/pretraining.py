"""Pre-training: begin a method from an embedding that saw no labels.

In a long tail the labels themselves are biased, and an embedding learned from
them inherits it. Yang & Xu train it first without labels, on the same images,
and start any supervised method from there (SSP); others judge the embedding
itself, with `config.method = "probe"`. So pre-training is not a method, but
stages before one.

Source: Yang & Xu (2020), "Rethinking the value of labels for improving
class-imbalanced learning", Section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
import difflib
from typing import Any

from ltjax.methods import fassl, pretext_tasks
from ltjax.methods.learner import Learner
from ltjax.training.stage import Stage

NAMES = ("none", *pretext_tasks.NAMES, "fassl")


def stages(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the stages of pre-training: one, none, or the three of FASSL.

  They change the embedding; the heads stay fresh, but for supervised
  pre-training. What is learned is in the rows of their epochs.

  Args:
    learner: the network and the task.
    config: uses the block `pretrain`, with FASSL `prototypes` and `student`,
      with BYOL `student`, and `model.dtype`.

  Raises:
    ValueError: if a setting of the blocks does not fit.

  Source: Yang & Xu (2020), Section 4.2: on the labeled images only.
  """
  name = config.pretrain.name
  if name not in NAMES:
    close = difflib.get_close_matches(name, NAMES, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
      f"pretrain.name is {name!r}; choose one of {', '.join(NAMES)}.{hint}"
    )
  if name == "fassl":
    yield from fassl.stages(learner, config)
  elif name != "none":
    yield pretext_tasks.make(learner, config)

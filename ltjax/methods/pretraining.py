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
import dataclasses
from typing import Any

from ltjax.methods import fassl, pretext_tasks, registry, views
from ltjax.methods.learner import Learner
from ltjax.optim import recipe as recipes
from ltjax.self_supervised import contrastive, moco, pretext, rotation, swav
from ltjax.settings.fields import setting
from ltjax.training.stage import Stage

NAMES = ("none", *pretext_tasks.NAMES, "fassl")
_LABEL_FREE = pretext.by(
  *(n for n in pretext_tasks.NAMES if n != "supervised"), "fassl"
)


@dataclasses.dataclass(frozen=True)
class Choice:
  """What is asked, and of which images."""

  name: str = setting("none", "of the pretext task", choices=NAMES)
  data: str = setting(
    "labeled", "or all images", choices=pretext_tasks.DATA, when=_LABEL_FREE
  )
  online_probe: bool = setting(
    False, "a classifier that f does not feel, for the log", when=_LABEL_FREE
  )


# The first bases are the last in the block.
@dataclasses.dataclass(frozen=True)
class Settings(
  swav.Settings,
  moco.Settings,
  contrastive.Settings,
  views.Settings,
  rotation.Settings,
  Choice,
):
  """The block of self-supervised pre-training: what all tasks declare."""


PRETRAIN = registry.Block(
  "pretrain",
  Settings,
  recipes.Recipe(epochs=200),
  when={"pretrain.name": NAMES[1:]},
)


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
  if name == "fassl":
    yield from fassl.stages(learner, config)
  elif name != "none":
    yield pretext_tasks.make(learner, config)

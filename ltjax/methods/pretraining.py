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
import functools
from typing import Any

from ltjax import require
from ltjax.methods import fassl, pretext_tasks, registry
from ltjax.methods.learner import Learner
from ltjax.optim import recipe as recipes
from ltjax.settings import fields
from ltjax.settings.fields import setting
from ltjax.training.stage import Stage

NAMES = ("none", *pretext_tasks.NAMES, "fassl")
_CONTRASTIVE = ("simclr", "supcon", "sdclr")


def _by(*names: str) -> fields.Readers:
  """Pre-training by one of the names, or FASSL that starts from it."""
  return {"name": names}, {"name": ("fassl",), "prototypes.start": names}


_VIEWS = functools.partial(
  setting,
  size=True,
  when={"name": ("moco", *_CONTRASTIVE, "byol", "swav", "fassl")},
)
_SWAV = functools.partial(setting, when=_by("swav"))
_MOCO = functools.partial(setting, when=_by("moco"))
_LABEL_FREE = _by(
  *(n for n in pretext_tasks.NAMES if n != "supervised"), "fassl"
)
_SWINGS = tuple(
  {**r, "temperature_schedule": ("cosine",)} for r in _by(*_CONTRASTIVE)
)
_BOOSTED = _by("simclr", "sdclr")


@dataclasses.dataclass(frozen=True)
class Settings:
  """The block of self-supervised pre-training, before any method."""

  name: str = setting("none", "of the pretext task", choices=NAMES)
  data: str = setting(
    "labeled", "or all images", choices=pretext_tasks.DATA, when=_LABEL_FREE
  )
  online_probe: bool = setting(
    False, "a classifier that f does not feel, for the log", when=_LABEL_FREE
  )
  rotations: str = setting(
    "one",
    "of each image in a batch, or four",
    choices=("one", "four"),
    when=_by("rotation"),
  )
  # The projection, and the loss on it.
  dim: int = _VIEWS(128, "of the embeddings", least=1)
  hidden: int = _VIEWS(
    0, "width of the projection's hidden layer; 0: as the features", least=0
  )
  temperature: float = setting(
    0.2, "of the loss", above=0, when=_by("moco", "swav", *_CONTRASTIVE)
  )
  temperature_schedule: str = setting(
    "constant",
    "cosine: it swings (TS)",
    choices=("constant", "cosine"),
    when=_by(*_CONTRASTIVE),
  )
  temperature_low: float = setting(0.1, "of cosine", above=0, when=_SWINGS)
  temperature_high: float = setting(1.0, "of cosine", above=0, when=_SWINGS)
  temperature_period: float = setting(
    400.0, "of cosine, in epochs", above=0, when=_SWINGS
  )
  focal_gamma: float = setting(
    0.0, "of the focal contrastive loss; 0: plain", least=0, when=_BOOSTED
  )
  # The random views.
  crop_scale: tuple[float, ...] = _VIEWS(
    (0.2, 1.0), "least and largest share of the area"
  )
  interpolation: str = _VIEWS("linear", "or cubic", choices=("linear", "cubic"))
  jitter: tuple[float, ...] = _VIEWS(
    (0.4, 0.4, 0.4, 0.1), "brightness, contrast, saturation, hue"
  )
  grayscale: float = _VIEWS(0.2, "probability", least=0, most=1)
  blur: float = _VIEWS(0.0, "probability", least=0, most=1)
  queue: int = _MOCO(4096, "earlier keys, the negatives", least=1)
  ema: float = _MOCO(
    0.999, "what the key network keeps of itself", least=0, most=1
  )
  key_batch_norm: str = _MOCO(
    "batch", "of the key network", choices=("batch", "ema")
  )
  prune: float = setting(
    0.9,
    "share of the weights that the second branch lacks",
    least=0,
    below=1,
    when=_by("sdclr"),
  )
  # Boosted contrastive learning: RandAugment by what is remembered badly.
  boost_ops: int = setting(
    0, "operations on each view; 0: not boosted", least=0, when=_BOOSTED
  )
  boost_decay: float = setting(
    0.97,
    "of the memory of losses",
    least=0,
    below=1,
    when=_BOOSTED,
    size=True,
  )
  prototypes: int = _SWAV(128, "K", least=2)
  epsilon: float = _SWAV(0.05, "of Sinkhorn's codes", above=0)
  sinkhorn_iterations: int = _SWAV(3, "of Sinkhorn's algorithm", least=1)
  marginal: str = _SWAV(
    "uniform", "power: a long tail of prototypes", choices=("uniform", "power")
  )
  marginal_exponent: float = setting(
    0.25,
    "of power",
    least=0,
    when=tuple({**r, "marginal": ("power",)} for r in _by("swav")),
  )
  freeze: float = _SWAV(
    0.01, "share of the steps in which prototypes do not move", least=0, below=1
  )
  code_queue: int = _SWAV(
    0, "earlier embeddings that codes take into account", least=0
  )
  queue_start: float = _SWAV(
    0.15,
    "share of the epochs before the queue is used",
    least=0,
    below=1,
    size=True,
  )


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
  require.choice("pretrain.name", name, NAMES)
  if name == "fassl":
    yield from fassl.stages(learner, config)
  elif name != "none":
    yield pretext_tasks.make(learner, config)

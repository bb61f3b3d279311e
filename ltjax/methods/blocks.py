"""The blocks of settings that several methods share."""

from __future__ import annotations

import dataclasses

from ltjax.losses import settings as loss_settings
from ltjax.methods.registry import Block
from ltjax.models import heads, pretrained
from ltjax.optim import recipe as recipes
from ltjax.settings.fields import setting
from ltjax.stages import classifier, pseudo_label
from ltjax.stages import tau as taus
from ltjax.training import class_probabilities

_RESAMPLERS = tuple(n for n in class_probabilities.NAMES if n != "random")
KINDS = ("crt", "ncm", "knn", "tau_norm", "lws")
_PRETRAINED = {"name": tuple(pretrained.ARCHITECTURES)}
_ADDED = ("feature_adapter", *pretrained.ADDED)


@dataclasses.dataclass(frozen=True)
class Model:
  """The network."""

  name: str = setting("resnet18", "of the backbone, see `ltjax.models`")
  head: str = setting(
    "linear", "LDAM needs cosine", choices=("linear", "cosine")
  )
  head_scale: float = setting(
    16.0, "of a cosine head", above=0, when={"head": ("cosine",)}
  )
  stem: str = setting("auto", "of a ResNet, see `ltjax.models`")
  zero_init_last: bool = setting(False, "blocks begin as the identity")
  dtype: str = setting(
    "float32", "of activations", choices=("float32", "bfloat16")
  )
  weights: str = setting(
    "auto",
    "of a pretrained network: auto, none, a file or hf:OWNER/NAME/FILE",
    when=_PRETRAINED,
  )
  tune: str = setting(
    "all",
    "what is trained of a pretrained network",
    choices=pretrained.TUNES,
    when=_PRETRAINED,
  )
  tune_width: int = setting(
    0,
    "of what is added; 0: by the method and the classes",
    least=0,
    when=_PRETRAINED | {"tune": _ADDED},
  )
  image_size: int = setting(
    0, "pixels of the input, 0 for the network's own", when=_PRETRAINED
  )
  layer_decay: float = setting(
    1.0,
    "what learning rates fall by from block to block; 1: they do not",
    above=0,
    most=1,
    when=_PRETRAINED | {"tune": pretrained.LAYERED},
  )


@dataclasses.dataclass(frozen=True)
class Sampler:
  """How a batch is drawn."""

  name: str = setting(
    "random", "how classes share a batch", choices=class_probabilities.NAMES
  )
  exponent: float = setting(
    1.0, "n^exponent is the share of a class", when={"name": ("power",)}
  )
  beta: float = setting(
    0.9999,
    "of effective numbers",
    least=0,
    below=1,
    when={"name": ("effective_number",)},
  )
  defer: float = setting(
    0.0,
    "share of the epochs before it begins (DRS)",
    least=0,
    below=1,
    when={"name": _RESAMPLERS},
  )


@dataclasses.dataclass(frozen=True)
class Classifier(classifier.Settings):
  """The second classifier, after the one that is trained with the embedding."""

  kind: str = setting("crt", "of classifier", choices=KINDS)
  tau: float = setting(
    1.0,
    "of tau-normalization",
    least=0,
    most=taus.GRID[-1],
    when={"kind": ("tau_norm",), "select_tau": (False,)},
  )
  select_tau: bool = setting(
    False, "tau on the validation images", when={"kind": ("tau_norm",)}
  )
  ncm_features: str = setting(
    "cl2n",
    "what class means are of, see `models.heads`",
    choices=heads.NCM_FEATURES,
    when={"kind": ("ncm",)},
  )
  neighbors: int = setting(
    10, "labeled images that vote", least=1, when={"kind": ("knn",)}
  )


@dataclasses.dataclass(frozen=True)
class Refit(classifier.Settings):
  """A classifier that goes on, or is fitted to a better embedding."""

  data: str = setting(
    "labeled", "or all, with pseudo labels", choices=classifier.DATA
  )


@dataclasses.dataclass(frozen=True)
class PseudoLabel:
  """How the pool is labeled."""

  transform: str = setting(
    "test",
    "of the images that are labeled",
    choices=pseudo_label.TRANSFORMS,
    author_code="train",
  )


MODEL = Block("model", Model)
EMBEDDING = Block("embedding", recipe=recipes.Recipe(epochs=200))
LOSS = Block("loss", loss_settings.Settings)
SAMPLER = Block("sampler", Sampler)
CLASSIFIER = Block(
  "classifier", Classifier, recipes.Recipe(epochs=10), {"epochs": 20}
)
REFIT = Block(
  "refit",
  Refit,
  recipes.Recipe(epochs=10),
  {"epochs": 20, "learning_rate": 0.001, "schedule": "constant"},
)
PSEUDO_LABEL = Block("pseudo_label", PseudoLabel)
SUPERVISED = {EMBEDDING: {}, LOSS: {}, SAMPLER: {}}

"""Probes: how good an embedding is, judged by classifiers on top of it.

After self-supervised pre-training there is an embedding and no classifier. Each
protocol of `config.probe.protocols` judges it in its own way, and writes its
own rows; the embedding stays as it is.

Source: `ltjax.evaluation.protocols`.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import Any

import numpy as np

from ltjax.devices import sharding
from ltjax.evaluation import knn, probe_sets, protocols
from ltjax.methods import blocks, changes, registry, titles
from ltjax.methods.learner import Learner, Rows
from ltjax.optim import recipe as recipes
from ltjax.settings.fields import setting
from ltjax.stages import probe
from ltjax.training import inference
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

_IMAGES, _SELECT = protocols.IMAGES, protocols.SELECT


@dataclasses.dataclass(frozen=True)
class Settings:
  """How an embedding is judged."""

  protocols: str = setting(
    "knn,sdclr_fewshot",
    "see `ltjax.evaluation.protocols`; the last is the run's result",
  )
  shots: int = setting(
    0, "few-shot images a class; 0: those of the smallest class", least=0
  )
  neighbors: int = setting(10, "of knn", least=1)
  # Features of other networks may be larger than those of a ResNet-18, for
  # which the paper has 30, and need less.
  sdclr_learning_rate: float = setting(
    30.0, "of the protocols sdclr_*", above=0
  )
  images: str = setting("labeled", "of the protocol custom", choices=_IMAGES)
  views: int = setting(
    10, "of custom: augmented, cached per image; 0: the plain image", least=0
  )
  select: str = setting(
    "last", "of custom: whose classifier counts", choices=_SELECT
  )


PROBE = registry.Block("probe", Settings, recipes.Recipe(epochs=100))


def stages(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields a stage a protocol, in the order given.

  The last one is linear; its classifier is the run's result, `g`.

  Args:
    learner: the network and the task.
    config: uses the blocks `probe` and `pretrain`, and `data.seed`, by which
      few-shot images are drawn.

  Raises:
    ValueError: if a protocol or a setting does not fit, see
      `ltjax.evaluation.protocols` and `ltjax.evaluation.probe_sets`.
  """
  chosen = protocols.of(config.probe)
  _check_read(config.probe, chosen)
  cache = inference.FeatureCache(learner.predictor)
  for protocol in chosen:
    images, labels = probe_sets.choose(
      protocol.images,
      learner.task,
      shots=config.probe.shots,
      seed=config.data.seed,
      protocol=protocol.name,
    )
    make = neighbors if protocol.recipe is None else linear
    yield make(protocol, learner, config, cache, images=images, labels=labels)


def linear(
  protocol: protocols.Protocol,
  learner: Learner,
  config: Any,
  cache: inference.FeatureCache,
  *,
  images: Any,
  labels: np.ndarray,
) -> Stage:
  """Returns the stage of a linear classifier.

  Args:
    protocol: how it is trained.
    learner: the network and the task.
    config: names the pre-training.
    cache: gives the features of images that all protocols look at.
    images: uint8 `[P, H, W, C]`, what to learn from.
    labels: int32 `[P]`.

  Raises:
    ValueError: if there are no validation images to select on, where the config
      asks for it; see `ltjax.stages.probe`.
  """
  task = learner.task
  num_validation = len(task.validation_labels)
  if protocol.name == "custom" and protocol.select == "validation":
    if not num_validation:
      raise ValueError(
        "probe.select is 'validation', and there are no validation images: set"
        " --config.data.validation.per_class to 1 or more, or"
        " --config.probe.select=last."
      )
  name, title = f"{protocol.name}/probe", protocol.name
  assert protocol.recipe is not None
  preset = protocols.PRESETS.get(protocol.name)
  if preset is not None and preset.recipe != protocol.recipe:
    title += f" (learning rate {protocol.recipe.learning_rate:g})"
  selected = probe.selection(protocol, num_validation)

  def report(state: ModelState) -> Rows:
    def predict(judged: Any) -> Any:
      features = cache.features(state, judged)
      return learner.predictor.classify(state.balanced_head, features)

    rows = learner.measure(
      predict, model=_title(config, title), head="balanced"
    )
    return _judged(rows, protocol, selection=selected)

  return probe.make(
    name,
    learner.predictor,
    protocol=protocols.fitted(protocol, len(labels), devices=learner.mesh.size),
    images=images,
    labels=sharding.replicate(labels, learner.mesh),
    validation_features=lambda state: cache.features(
      state, task.validation_images
    ),
    validation_labels=task.validation_labels,
    num_classes=task.num_classes,
    seed=learner.seed,
    key=learner.key(name),
    report=report,
  )


def neighbors(
  protocol: protocols.Protocol,
  learner: Learner,
  config: Any,
  cache: inference.FeatureCache,
  *,
  images: Any,
  labels: np.ndarray,
) -> Stage:
  """Returns the stage of the nearest neighbors, which only reports.

  Args:
    protocol: what is compared with.
    learner: the network and the task.
    config: gives `probe.neighbors`, and names the pre-training.
    cache: as for `linear`.
    images: uint8 `[P, H, W, C]`, those that are neighbors, not augmented.
    labels: int32 `[P]`.

  Raises:
    ValueError: if there are fewer images than neighbors.
  """
  count = config.probe.neighbors
  knn.check(count, len(labels))
  title = _title(config, f"{protocol.name}@{count}")

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is None
    return state

  def report(state: ModelState) -> Rows:
    references = learner.predictor.features(state, images)
    known = sharding.replicate(labels, learner.mesh)

    def predict(queries: Any) -> np.ndarray:
      return knn.probabilities(
        cache.features(state, queries),
        references,
        known,
        neighbors=count,
        num_classes=learner.task.num_classes,
      )

    rows = learner.measure(predict, model=title, head="balanced")
    return _judged(rows, protocol, neighbors=count)

  return Stage(name=f"{protocol.name}/probe", finish=finish, report=report)


def _title(config: Any, protocol: str) -> str:
  return f"{titles.pretraining(config)}, {protocol}"


def _judged(rows: Rows, protocol: protocols.Protocol, **told: Any) -> Rows:
  """Adds to the rows of whose protocol they are."""
  return [row | {"protocol": protocol.name, **told} for row in rows]


def _check_read(block: Any, chosen: tuple[protocols.Protocol, ...]) -> None:
  """Raises ValueError if a changed setting belongs to no chosen protocol."""
  defaults = PROBE.defaults()
  custom = any(p.name == "custom" for p in chosen)
  few_shot = any(p.images == "few_shot" for p in chosen)
  knns = any(p.recipe is None for p in chosen)
  sdclr = any(p.name.startswith("sdclr") for p in chosen)
  for field, read, reader in (
    ("shots", few_shot, "sdclr_fewshot"),
    ("neighbors", knns, "knn"),
    ("sdclr_learning_rate", sdclr, "sdclr_full"),
    ("images", custom, "custom"),
    ("views", custom, "custom"),
    ("select", custom, "custom"),
  ):
    if block[field] != defaults[field] and not read:
      raise ValueError(
        f"probe.{field} is {block[field]!r}, but nothing reads it here: it"
        f" belongs to the protocol {reader}. Name that in probe.protocols, or"
        f" leave probe.{field} at {defaults[field]!r}."
      )


_SUPERVISED = (
  {"pretrain.name": ("supervised",)},
  {"pretrain.name": ("fassl",), "prototypes.start": ("supervised",)},
)
METHOD = registry.Method(
  "probe",
  title=titles.pretraining,
  paper="Lin et al. (2023); Jiang et al. (2021)",
  stages=stages,
  blocks={PROBE: {}, blocks.LOSS: _SUPERVISED, blocks.SAMPLER: _SUPERVISED},
  rows={
    # FASSL, Tables 1 and 2.
    "simclr": (changes.pretrained("simclr"),),
    "swav": (changes.swav,),
    "byol": (changes.byol,),
    "bcl_i": (changes.pretrained("simclr", boost_ops=1), changes.bcl),
    "sdclr": (changes.pretrained("sdclr"),),
    "fassl": (changes.fassl("paper"),),
    "probe_supervised": (changes.pretrained("supervised"),),
    # FASSL's missing ablation, and what may do better.
    "fassl_uniform": (changes.fassl("uniform"),),
    "fassl_energy": (changes.fassl("energy"),),
    "fassl_features": (changes.fassl("paper", init="features"),),
    # With the optimizer of their authors.
    "swav_lars": (changes.swav, changes.lars(0.3, weight_decay=1e-6)),
    "byol_lars": (changes.byol, changes.lars(0.2, weight_decay=1.5e-6)),
    # Others of the field, probed alike.
    "bcl_d": (changes.pretrained("sdclr", boost_ops=2), changes.bcl),
    "temperature_schedule": (
      changes.pretrained("simclr", temperature_schedule="cosine"),
    ),
    "focal_contrastive": (changes.pretrained("simclr", focal_gamma=2.0),),
    "supcon": (changes.pretrained("supcon"),),
    "moco": (changes.pretrained("moco"),),
    "probe_untrained": (changes.pretrained("none"),),
  },
)

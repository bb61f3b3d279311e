"""Protocols: what "linear evaluation" means, by the name of whose it is.

SDCLR takes SGD with a learning rate of 30, Boosted contrastive learning takes
Adam on cached features, others the nearest neighbours. Scores of one embedding
differ by 20 points between them.

What a protocol trains on is one of three: `pool`, all training images with
their labels, balanced (`data.probe.images=train`); `few_shot`, equally many
labeled images of each class; `labeled`, the long-tailed labeled set itself.
BatchNorm is in evaluation mode throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import difflib
from typing import Any

from ltjax.optim import recipe as recipes

IMAGES = ("labeled", "few_shot", "pool")
SELECT = ("last", "validation")


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How to judge an embedding.

  Attributes:
    name: of the protocol.
    images: what the classifier learns from, one of `IMAGES`.
    recipe: how a linear classifier is trained; None for nearest neighbours. See
      `fitted` on sets smaller than a batch.
    views: augmented views (crop and flip) of each image whose features are
      cached, of which each epoch draws one; 0 for the plain image.
    select: which epoch's classifier counts: the `last`, or the one of the best
      accuracy on `validation` images; the last, where there are none.
    select_every: epochs from one look at the validation images to the next.
  """

  name: str
  images: str
  recipe: recipes.Recipe | None = None
  views: int = 0
  select: str = "last"
  select_every: int = 1


def _sgd(epochs: int, batch_size: int, rate: float, **choices: Any):
  return recipes.Recipe(
    epochs=epochs,
    batch_size=batch_size,
    learning_rate=rate,
    weight_decay=0.0,
    **choices,
  )


_PRESETS = (
  # Jiang et al. (2021), "Self-damaging contrastive learning", and their code,
  # which decays one epoch earlier than it says: here at 10 and 20. It crops
  # anew in each epoch, where here are ten crops.
  Protocol(
    "sdclr_full",
    "pool",
    _sgd(30, 128, 30.0, schedule="step", milestones=(1 / 3, 2 / 3)),
    views=10,
    select="validation",
  ),
  # The same with 1 % of the labels; FASSL's Table 2.
  Protocol(
    "sdclr_fewshot",
    "few_shot",
    _sgd(100, 128, 30.0, schedule="step", milestones=(0.4, 0.6)),
    views=10,
    select="validation",
    select_every=5,
  ),
  # Zhou et al. (2022), "Contrastive learning with boosted memorization", and
  # Zhou et al. (2023), "Geometric harmonization"; their codes.
  Protocol(
    "cached_adam",
    "pool",
    recipes.Recipe(
      epochs=500,
      batch_size=1000,
      optimizer="adam",
      learning_rate=1e-2,
      schedule="exponential",
      final_learning_rate=1e-6,
      weight_decay=5e-6,
    ),
  ),
  # Chen et al. (2020), "A simple framework for contrastive learning".
  Protocol("simclr", "pool", _sgd(100, 512, 0.1, nesterov=True), views=10),
  # Grill et al. (2020), "Bootstrap your own latent". Their code leaves the
  # batch to the user.
  Protocol("byol", "pool", _sgd(80, 256, 0.2, nesterov=True), views=10),
  # Kukleva et al. (2023), who count the neighbours in the long-tailed set.
  Protocol("knn", "labeled"),
  Protocol("knn_pool", "pool"),
)
PRESETS = {preset.name: preset for preset in _PRESETS}
NAMES = (*PRESETS, "custom")


def of(block: Mapping[str, Any]) -> tuple[Protocol, ...]:
  """Returns the protocols that the block `probe` of a config names.

  Args:
    block: `protocols`, names joined by commas; `sdclr_learning_rate`, of those
      of SDCLR. `custom` is the block's own recipe, with its `images`, `views`
      and `select`.

  Raises:
    ValueError: if a name is unknown or there twice, there is none, the last has
      no classifier to leave, or a setting of `custom` does not fit.
  """
  names = [name.strip() for name in block["protocols"].split(",")]
  names = [name for name in names if name]
  if not names:
    raise ValueError(
      f"probe.protocols is {block['protocols']!r}; name one or more of"
      f" {', '.join(NAMES)}, joined by commas."
    )
  for place, name in enumerate(names):
    if name not in NAMES:
      close = difflib.get_close_matches(name, NAMES, 1)
      hint = f" Did you mean {close[0]!r}?" if close else ""
      raise ValueError(
        f"probe.protocols names {name!r}; choose of {', '.join(NAMES)}.{hint}"
      )
    if name in names[:place]:
      raise ValueError(f"probe.protocols names {name!r} twice; once will do.")
  chosen = tuple(_called(name, block) for name in names)
  if chosen[-1].recipe is None:
    raise ValueError(
      f"probe.protocols ends with {names[-1]!r}; the last one is the run's"
      " result and leaves its classifier, and nearest neighbors have none. Put"
      " a linear one last, such as"
      f" --config.probe.protocols={names[-1]},sdclr_fewshot."
    )
  return chosen


def fitted(protocol: Protocol, size: int, *, devices: int) -> Protocol:
  """Returns a protocol whose batch its set can fill.

  To a preset a set smaller than a batch is one batch, as in PyTorch, less what
  the devices cannot share evenly. The batch of `custom` is left as it is.

  Args:
    protocol: of a linear classifier.
    size: images in the set.
    devices: among which a batch is shared.
  """
  recipe = protocol.recipe
  if recipe is None or protocol.name == "custom" or size >= recipe.batch_size:
    return protocol
  whole = (size - size % devices) or size  # of fewer, the loop complains
  return dataclasses.replace(
    protocol, recipe=dataclasses.replace(recipe, batch_size=whole)
  )


def _called(name: str, block: Mapping[str, Any]) -> Protocol:
  if name == "custom":
    return _custom(block)
  preset = PRESETS[name]
  if preset.recipe is None or not name.startswith("sdclr"):
    return preset
  recipe = dataclasses.replace(
    preset.recipe, learning_rate=block["sdclr_learning_rate"]
  )
  return dataclasses.replace(preset, recipe=recipe)


def _custom(block: Mapping[str, Any]) -> Protocol:
  return Protocol(
    "custom",
    block["images"],
    recipes.of("probe", block),
    views=block["views"],
    select=block["select"],
  )

"""The content of `model.json`: what the variables of a run mean.

The network, the classes, the transform of an image and the arrays of the head
`g` where it is of another structure than the network's own. It is read by
whoever has the folder, and may have been edited, so that every field is
checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import models
from ltjax.augment import ensemble, transforms
from ltjax.data import task as tasks
from ltjax.data.files import decoding as decodings
from ltjax.data.files import images as image_kinds
from ltjax.training.state import ModelState

_FIELDS = ("model", "classes", "image_shape", "mean", "std")
AGAIN = (
  "delete summary.json and run the same training command again: it trains"
  " nothing anew and writes the model from the last checkpoint"
)


def describe(
  state: ModelState,
  task: tasks.Task,
  settings: Mapping[str, Any],
  views: str = "plain",
) -> dict[str, Any]:
  """Returns the description of a trained model.

  Args:
    state: the trained state.
    task: gives the classes and the normalisation.
    settings: the config's block `model`.
    views: of test-time ensembling.
  """
  description: dict[str, Any] = {
    "model": dict(settings),
    "classes": list(task.class_names),
    "image_shape": list(task.image_shape),
    "mean": list(task.mean),
    "std": list(task.std),
    "decoding": task.decoding._asdict(),
  }
  if task.crop_size or task.resize != "stretch":
    description["pictures"] = {
      "size": list(task.images.shape[1:3]),
      "resize": task.resize,
    }
  if views != "plain":
    description["views"] = views
  head = _head_shapes(state.balanced_head)
  if head != _head_shapes(state.head):
    description["balanced_head"] = head
  return description


def pictures(description: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what pictures are brought to: the input, unless it is described.

  Args:
    description: the content of `model.json`.

  Returns:
    `size`, `[H, W]`, and `resize`, how.

  Raises:
    ValueError: if the network's input does not fit in.
  """
  size = list(description["image_shape"][:2])
  found = dict(description.get("pictures", {"size": size, "resize": "stretch"}))
  whole = all(type(n) is int for n in found["size"])
  if (
    not whole
    or len(found["size"]) != 2
    or any(have < need for have, need in zip(found["size"], size))
  ):
    raise ValueError(f"pictures of size {found['size']!r} hold no input {size}")
  if found["resize"] not in image_kinds.RESIZES:
    raise ValueError(f"pictures have resize {found['resize']!r}")
  return found


def decoding(description: Mapping[str, Any]) -> decodings.Decoding:
  """Returns how pictures that are not 8-bit grey or RGB are read.

  Args:
    description: the content of `model.json`; older ones do not tell.

  Raises:
    ValueError: if it is none that there is.
    TypeError: if it is not described as one.
  """
  if "decoding" not in description:
    return decodings.BEFORE
  found = decodings.Decoding(**description["decoding"])
  decodings.check(found)
  return found


def variables(
  description: Mapping[str, Any], model: models.Model
) -> dict[str, Any]:
  """Returns the shapes of the variables that a run of this network saves.

  Args:
    description: the content of `model.json`.
    model: the network that it describes.
  """

  def init() -> dict[str, Any]:
    key = jax.random.key(0)
    params, batch_stats = model.init(key)
    return {
      "backbone": params["backbone"],
      "batch_stats": batch_stats,
      "head": params["head"],
      "balanced_head": model.head_init(key),
    }

  shapes = jax.eval_shape(init)
  if "balanced_head" in description:
    shapes["balanced_head"] = {
      name: jax.ShapeDtypeStruct(shape, jnp.float32)
      for name, shape in description["balanced_head"].items()
    }
  return shapes


def build(
  description: Any, path: Path
) -> tuple[models.Model, Callable[[jax.Array], jax.Array], ensemble.Views]:
  """Returns what `model.json` describes: network, transform and views.

  Raises:
    ValueError: if it does not describe a model; says why, and the way out.
  """
  try:
    settings, classes, shape, mean, std = (description[f] for f in _FIELDS)
    if not all(isinstance(name, str) for name in classes):
      raise ValueError(f"classes {classes!r} are not all names")
    if not all(type(size) is int for size in shape):
      raise ValueError(f"image_shape {shape!r} is not of whole numbers")
    for name, size in dict(description.get("balanced_head", {})).items():
      if not all(type(n) is int and n > 0 for n in size):
        raise ValueError(f"balanced_head has {name!r} of shape {size!r}")
    if not all(math.isfinite(x) for x in (*mean, *std)) or min(std) <= 0:
      raise ValueError("mean and std must be finite, and std above 0")
    if not len(mean) == len(std) == shape[-1]:
      raise ValueError(f"mean and std must have {shape[-1]} channels")
    decoding(description)
    crop = pictures(description)["size"] != list(shape[:2])
    model = models.create(
      **settings, num_classes=len(classes), image_shape=tuple(shape)
    )
    dtype = jnp.dtype(settings["dtype"])
    normalization = {"mean": mean, "std": std, "dtype": dtype}
    normalization["crop_size"] = shape[0] if crop else 0
    views = ensemble.make(
      description.get("views", "plain"),
      **normalization,
      resized=not model.normalizes,
    )
  except (KeyError, TypeError, IndexError, ValueError) as error:
    reason = f"no {error}" if isinstance(error, KeyError) else error
    raise ValueError(
      f"{path} does not describe a model ({reason}); {AGAIN}."
    ) from None
  _, transform = transforms.make(**normalization)
  return model, transform, views


def _head_shapes(head: Mapping[str, Any]) -> dict[str, list[int]]:
  return {name: list(head[name].shape) for name in sorted(head)}

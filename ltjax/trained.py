"""A trained model on disk: what a finished run leaves for others to use.

`model/` holds the variables (the embedding `f` and both heads), `model.json`
what they mean: the network, the classes and the transform of an image, and the
arrays of the head `g` where it is of another structure than the network's own,
such as nearest class means. The two belong together, so the variables carry a
copy of the description, and loading compares. Loading changes nothing in the
folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import checkpoints, models
from ltjax import workdir as workdirs
from ltjax.augment import transforms
from ltjax.data import images as pictures
from ltjax.data import task as tasks
from ltjax.state import ModelState

# The name of each head, and its name in the variables.
HEADS = {"balanced": "balanced_head", "random": "head"}
_FIELDS = ("model", "classes", "image_shape", "mean", "std")
_AGAIN = (
  "delete summary.json and run the same training command again: it trains"
  " nothing anew and writes the model from the last checkpoint"
)


@dataclasses.dataclass(frozen=True)
class Trained:
  """A trained model, ready for images.

  Attributes:
    model: the network.
    variables: `backbone` and `batch_stats` of the embedding `f`, `head` (g')
      and `balanced_head` (g).
    classes: one name a class.
    transform: the test transform, uint8 `[B, H, W, C]` to what the network
      takes.
    image_shape: `(H, W, C)` of the network's input.
    picture_shape: `(H, W, C)` to bring a picture to before the transform.
    resize: how: `stretch` or `crop`.
    description: the content of `model.json`.
  """

  model: models.Model
  variables: dict[str, Any]
  classes: tuple[str, ...]
  transform: Callable[[jax.Array], jax.Array]
  image_shape: tuple[int, int, int]
  picture_shape: tuple[int, int, int]
  resize: str
  description: dict[str, Any]

  def predictor(
    self, head: str = "balanced"
  ) -> Callable[[np.ndarray], np.ndarray]:
    """Returns `uint8 [B, H, W, C] -> float32 [B, C]`, class probabilities.

    It compiles once for every `B`.

    Args:
      head: `balanced` for g, `random` for g'.
    """
    parameters = {
      "backbone": self.variables["backbone"],
      "head": self.variables[HEADS[head]],
    }

    @jax.jit
    def run(parameters, batch_stats, images):
      images = self.transform(images)
      _, logits, _ = self.model.apply(parameters, batch_stats, images, False)
      return jax.nn.softmax(logits)

    return lambda images: np.asarray(
      run(parameters, self.variables["batch_stats"], images)
    )


def save(
  workdir: str | Path,
  state: ModelState,
  *,
  task: tasks.Task,
  settings: Mapping[str, Any],
) -> None:
  """Saves what prediction needs: the variables, the classes, the transform.

  Args:
    workdir: the run's folder; gets `model/` and `model.json`.
    state: the trained state.
    task: gives the classes and the normalisation.
    settings: the config's block `model`.

  Raises:
    CheckpointError: if the variables cannot be written.
  """
  description = {
    "model": dict(settings),
    "classes": list(task.class_names),
    "image_shape": list(task.image_shape),
    "mean": list(task.mean),
    "std": list(task.std),
  }
  if task.crop_size or task.resize != "stretch":
    description["pictures"] = {
      "size": list(task.images.shape[1:3]),
      "resize": task.resize,
    }
  head = _head_shapes(state.balanced_head)
  if head != _head_shapes(state.head):
    description["balanced_head"] = head
  variables = {
    "backbone": state.backbone,
    "batch_stats": state.batch_stats,
    "head": state.head,
    "balanced_head": state.balanced_head,
  }
  folder = checkpoints.Checkpoints(Path(workdir) / "model", keep=2)
  try:
    folder.save(
      (0, 0), variables, {"stage": "final", "description": description}
    )
  finally:
    folder.close()
  workdirs.write_json(Path(workdir) / "model.json", description)


def load(workdir: str | Path) -> Trained:
  """Loads the model of a finished run.

  Args:
    workdir: the run's folder.

  Raises:
    FileNotFoundError: if there is no such folder, or no run in it.
    ValueError: if the run is not finished, or its model is incomplete, changed
      or of another run.
  """
  folder = Path(workdir)
  check_finished(folder)
  path = folder / "model.json"
  try:
    description = json.loads(path.read_text())
  except FileNotFoundError:
    raise ValueError(f"{path} is missing; {_AGAIN}.") from None
  except (OSError, ValueError) as error:
    raise ValueError(f"{path} cannot be read ({error}); {_AGAIN}.") from None
  model, transform = _build(description, path)

  def target(record: Mapping[str, Any]) -> Any:
    if record.get("description", description) != description:
      raise ValueError(
        f"{path} does not belong to the variables in {folder / 'model'}: it"
        " was edited, or one of the two is of another run. Put back what"
        f" belongs together, or {_AGAIN}."
      )
    variables = jax.eval_shape(lambda: _variables(model))
    if "balanced_head" in description:
      variables["balanced_head"] = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, shape in description["balanced_head"].items()
      }
    return variables

  try:
    variables, _ = checkpoints.read(folder / "model", target)
  except checkpoints.CheckpointError as error:
    raise ValueError(f"{error} To make it whole, {_AGAIN}.") from None
  return Trained(
    model=model,
    variables=variables,
    classes=tuple(description["classes"]),
    transform=transform,
    image_shape=model.image_shape,
    picture_shape=(*_pictures(description)["size"], model.image_shape[2]),
    resize=_pictures(description)["resize"],
    description=description,
  )


def check_finished(workdir: str | Path) -> None:
  """Checks that a folder holds a finished run.

  Args:
    workdir: the run's folder.

  Raises:
    FileNotFoundError: if there is no such folder, or no run in it.
    ValueError: if the run is not finished.
  """
  folder = Path(workdir)
  if not folder.is_dir():
    raise FileNotFoundError(f"The workdir {folder} does not exist.")
  if not (folder / "config.json").exists():
    raise FileNotFoundError(
      f"{folder} holds no run: it has no config.json. Give the --workdir of a"
      " training run."
    )
  if not (folder / "summary.json").exists():
    raise ValueError(
      f"The run in {folder} is not finished. Run the same training command"
      " again; it goes on where it stopped."
    )


def _pictures(description: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what pictures are brought to: the input, unless it is described."""
  size = list(description["image_shape"][:2])
  found = dict(description.get("pictures", {"size": size, "resize": "stretch"}))
  whole = all(type(n) is int for n in found["size"])
  if (
    not whole
    or len(found["size"]) != 2
    or any(have < need for have, need in zip(found["size"], size))
  ):
    raise ValueError(f"pictures of size {found['size']!r} hold no input {size}")
  if found["resize"] not in pictures.RESIZES:
    raise ValueError(f"pictures have resize {found['resize']!r}")
  return found


def _head_shapes(head: Mapping[str, Any]) -> dict[str, list[int]]:
  return {name: list(head[name].shape) for name in sorted(head)}


def _variables(model: models.Model) -> dict[str, Any]:
  """Returns variables of the shapes that a run of this network saves."""
  key = jax.random.key(0)
  params, batch_stats = model.init(key)
  return {
    "backbone": params["backbone"],
    "batch_stats": batch_stats,
    "head": params["head"],
    "balanced_head": model.head_init(key),
  }


def _build(
  description: Any, path: Path
) -> tuple[models.Model, Callable[[jax.Array], jax.Array]]:
  """Returns the network and the transform that `model.json` describes."""
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
    crop = _pictures(description)["size"] != list(shape[:2])
    model = models.create(
      **settings, num_classes=len(classes), image_shape=tuple(shape)
    )
    dtype = jnp.dtype(settings["dtype"])
  except (KeyError, TypeError, IndexError, ValueError) as error:
    reason = f"no {error}" if isinstance(error, KeyError) else error
    raise ValueError(
      f"{path} does not describe a model ({reason}); {_AGAIN}."
    ) from None
  _, transform = transforms.make(
    mean=mean, std=std, dtype=dtype, crop_size=shape[0] if crop else 0
  )
  return model, transform

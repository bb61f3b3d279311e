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
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import models
from ltjax.augment import ensemble
from ltjax.checkpoints import integrity
from ltjax.checkpoints import manager as checkpoints
from ltjax.data import task as tasks
from ltjax.data.files import decoding as decodings
from ltjax.runs import model_description
from ltjax.runs import workdir as workdirs
from ltjax.training.state import ModelState

# The name of each head, and its name in the variables.
HEADS = {"balanced": "balanced_head", "random": "head"}


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
    views: of the image, whose logits are averaged.
    image_shape: `(H, W, C)` of the network's input.
    picture_shape: `(H, W, C)` to bring a picture to before the transform.
    resize: how: `stretch` or `crop`.
    decoding: how pixels that are not 8-bit grey or RGB are read.
    description: the content of `model.json`.
  """

  model: models.Model
  variables: dict[str, Any]
  classes: tuple[str, ...]
  transform: Callable[[jax.Array], jax.Array]
  views: ensemble.Views
  image_shape: tuple[int, int, int]
  picture_shape: tuple[int, int, int]
  resize: str
  decoding: decodings.Decoding
  description: dict[str, Any]

  def predictor(
    self, head: str = "balanced", *, logits: bool = False
  ) -> Callable[[np.ndarray], np.ndarray]:
    """Returns `uint8 [B, H, W, C] -> float32 [B, C]`, class probabilities.

    It compiles once for every `B`.

    Args:
      head: `balanced` for g, `random` for g'.
      logits: whether to return logits, of which they are the softmax.
    """

    def predict(images):
      found = self.run(images, head)[1]
      return found if logits else np.asarray(jax.nn.softmax(found))

    return predict

  def run(self, images: np.ndarray, head: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns features `[B, D]` and logits `[B, C]`, fp32.

    Features are of the plain images, or of the first view; logits are the mean
    of all views.

    Args:
      images: uint8 `[B, H, W, C]`.
      head: as of `predictor`.
    """
    parameters = {
      "backbone": self.variables["backbone"],
      "head": self.variables[HEADS[head]],
    }
    stats = self.variables["batch_stats"]
    found = [
      self._program(
        *(parameters, stats, images), None if view is None else np.int32(view)
      )
      for view in self.views.averaged
    ]
    logits = ensemble.mean([logits for _, logits in found])
    return np.asarray(found[0][0]), np.asarray(logits)

  @functools.cached_property
  def _program(self) -> Callable[..., tuple[jax.Array, jax.Array]]:
    @jax.jit
    def run(parameters, batch_stats, images, view):
      if view is None:
        x = self.transform(images)
      else:
        x = self.views.apply(view, images)
      features, logits, _ = self.model.apply(parameters, batch_stats, x, False)
      return features.astype(jnp.float32), logits.astype(jnp.float32)

    return run


def save(
  workdir: str | Path,
  state: ModelState,
  *,
  task: tasks.Task,
  settings: Mapping[str, Any],
  views: str = "plain",
) -> None:
  """Saves what prediction needs: the variables, the classes, the transform.

  Args:
    workdir: the run's folder; gets `model/` and `model.json`.
    state: the trained state.
    task: gives the classes and the normalisation.
    settings: the config's block `model`.
    views: as of `model_description.describe`.

  Raises:
    CheckpointError: if the variables cannot be written.
  """
  description = model_description.describe(state, task, settings, views)
  variables = {
    "backbone": state.backbone,
    "batch_stats": state.batch_stats,
    "head": state.head,
    "balanced_head": state.balanced_head,
  }
  folder = checkpoints.Checkpoints(Path(workdir) / "model", keep=2)
  try:
    folder.save(
      (0, 0),
      variables,
      {
        "stage": "final",
        "description": description,
        "digest": integrity.fingerprint(variables),
      },
    )
  finally:
    folder.close()
  workdirs.write_json(Path(workdir) / "model.json", description)


def load(workdir: str | Path) -> Trained:
  """Loads the model of a finished run.

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
    raise ValueError(f"{path} is missing; {model_description.AGAIN}.") from None
  except (OSError, ValueError) as error:
    raise ValueError(
      f"{path} cannot be read ({error}); {model_description.AGAIN}."
    ) from None
  model, transform, views = model_description.build(description, path)

  def target(record: Mapping[str, Any]) -> Any:
    if record.get("description", description) != description:
      raise ValueError(
        f"{path} does not belong to the variables in {folder / 'model'}: it"
        " was edited, or one of the two is of another run. Put back what"
        f" belongs together, or {model_description.AGAIN}."
      )
    return model_description.variables(description, model)

  try:
    variables, _ = checkpoints.read(folder / "model", target)
  except checkpoints.CheckpointError as error:
    raise ValueError(
      f"{error} To make it whole, {model_description.AGAIN}."
    ) from None
  kept = model_description.pictures(description)
  return Trained(
    model=model,
    variables=variables,
    classes=tuple(description["classes"]),
    transform=transform,
    views=views,
    image_shape=model.image_shape,
    picture_shape=(*kept["size"], model.image_shape[2]),
    resize=kept["resize"],
    decoding=model_description.decoding(description),
    description=description,
  )


def check_finished(workdir: str | Path) -> None:
  """Checks that a folder holds a finished run.

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

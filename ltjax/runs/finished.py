"""A finished run with its data, to look at again.

The data is loaded and split as `config.json` says, and must be what the run
saw. Nothing in the run's folder is changed.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ltjax.config import check as config_check
from ltjax.data import task as tasks
from ltjax.data.splits import record
from ltjax.devices import sharding
from ltjax.methods import build, frozen
from ltjax.runs import trained as trained_lib
from ltjax.training import state as states

_NONE = {
  "test": "The run has no test images.",
  "validation": (
    "The run held out no validation images (data.validation.per_class is 0),"
    " and images that it trained on say nothing of new ones. Train one with"
    " --config.data.validation.per_class above 0, such as 10."
  ),
  "unlabeled": (
    "The run has no unlabeled images (data.unlabeled.factor is 0); give"
    " pictures to ltjax.predict instead."
  ),
}


@dataclasses.dataclass(frozen=True)
class Reopened:
  """A finished run: model, config, `summary.json`, data, and devices."""

  trained: trained_lib.Trained
  config: ml_collections.ConfigDict
  summary: dict[str, Any]
  task: tasks.Task
  mesh: jax.sharding.Mesh

  def state(self) -> states.ModelState:
    """Returns the model as a state on the devices, without training memory."""
    return states.ModelState(
      **sharding.replicate(self.trained.variables, self.mesh),
      pseudo_labels=jnp.zeros((0,), jnp.int32),
      memory=jnp.zeros((0, self.task.num_classes), jnp.float32),
    )

  def probabilities(
    self, part: str, *, head: str = "balanced"
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the model says of images of the run, and what is true.

    By all of `eval.views`, as in predictions.

    Args:
      part: `test`, `validation`, or `unlabeled` for the pool.
      head: `balanced` for g, `random` for g'.

    Returns:
      float32 `[T, C]` and int32 `[T]`, -1 where the class is not known.

    Raises:
      ValueError: if there are no such images, or their views were not kept;
        tells the way out.
    """
    task = self.task
    labels = {
      "test": task.test_labels,
      "validation": task.validation_labels,
      "unlabeled": task.truth,
    }[part]
    if not len(labels):
      raise ValueError(_NONE[part])
    learner = build.build_learner(self.config, task, self.mesh)
    kept = learner.model.frozen is not None
    if kept and part == "unlabeled" and learner.predictor.views.count:
      raise ValueError(
        f"eval.views is {self.config.eval.views!r}, and of unlabeled images a"
        " run on kept features has no such views; train it with"
        " --config.eval.views=plain to look at the pool."
      )
    learner = frozen.on_features(learner, self.config)
    images = getattr(learner.task, f"{part}_images")
    state = self.state()
    params = getattr(state, trained_lib.HEADS[head])
    found = learner.predictor.ensembled(state, images, head=params)
    return np.asarray(found), np.asarray(labels)

  def features(self) -> np.ndarray:
    """Returns features of the labeled images, as the network has them.

    Of the plain images, float32 `[N, D]`.
    """
    learner = build.build_learner(self.config, self.task, self.mesh)
    learner = frozen.on_features(learner, self.config)
    images = learner.task.images[: self.task.num_labeled]
    return np.asarray(learner.predictor.features(self.state(), images))


def reopen(workdir: str | Path, data_dir: str | None = None) -> Reopened:
  """Loads a finished run's model and data, and checks that they belong.

  Raises:
    FileNotFoundError: if there is no run, or its data is gone.
    ValueError: if the run is not finished, its files are damaged, or the data
      is not what it was.
  """
  folder = Path(workdir)
  trained = trained_lib.load(folder)
  found = _json(folder / "config.json")
  if not isinstance(found, dict):
    raise ValueError(f"{folder / 'config.json'} holds no config.")
  config: Any = config_check.completed(found)
  config_check.check(config)
  summary = _json(folder / "summary.json")
  mesh = sharding.make_mesh()
  task = build.build_task(config, mesh, data_dir)
  if record.Split.load(folder / "split.json").hash != task.split.hash:
    raise ValueError(
      f"{folder / 'split.json'} is another split than config.json gives now:"
      " the data set changed since the run. Restore the data (--data_dir)."
    )
  if (trained.classes, trained.image_shape) != (
    tuple(task.class_names),
    task.image_shape,
  ):
    raise ValueError(
      f"{folder / 'model.json'} is of other classes or images than the data of"
      " config.json. Put back the files of one run."
    )
  if trained.decoding != task.decoding:
    raise ValueError(
      f"{folder / 'model.json'} has pixels of {_range(trained)}, and the data"
      f" of config.json gives {_range(task)}: pictures came or went since the"
      " run. Put them back, or set data.pixel_range there to the first."
    )
  return Reopened(trained, config, summary, task, mesh)


def _range(given: trained_lib.Trained | tasks.Task) -> str:
  return f"{given.decoding.low} ... {given.decoding.high}"


def _json(path: Path) -> Any:
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise ValueError(f"{path} cannot be read ({error}).") from None

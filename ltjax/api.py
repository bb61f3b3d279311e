"""The Python API: arrays in, a trained model out, and arrays from it.

    trained = ltjax.fit("ldam_drw", images, labels)
    trained.predict(more_images)

It is the command line's run (`ltjax.train`) on arrays at hand, with its folder,
its checkpoints and its report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import functools
import operator
from pathlib import Path
import shutil
import tempfile
from typing import Any
import weakref

import jax
import ml_collections
import numpy as np

from ltjax import config as configs
from ltjax import require, train
from ltjax.config import check as config_check
from ltjax.config import rows
from ltjax.data.sources import given as givens
from ltjax.evaluation import metrics
from ltjax.methods import registry
from ltjax.report import page as report
from ltjax.runs import trained as trained_lib

# Up to so many labeled images a method has the lengths of
# configs/digits_sslt.py and configs/digits_fassl.py; with more those of its
# paper.
SMALL = 5000
EPOCHS = {
  "embedding": 40,
  "classifier": 10,
  "consistency": 8,
  "refit": 10,
  "pseudo": 24,  # as all loops of `consistency` together
  "semi": 24,
  "pretrain": 40,
  "prototypes": 15,
  "student": 30,
}
LOOPS = 3
_BATCH_SIZE = 256  # of prediction


def fit(
  method: str | ml_collections.ConfigDict,
  images: Any,
  labels: Any,
  *,
  unlabeled: Any = None,
  test: tuple[Any, Any] | float | None = None,
  validation: int | None = None,
  class_names: Sequence[str] | None = None,
  groups: Any = None,
  workdir: str | Path | None = None,
  seed: int | None = None,
  settings: Mapping[str, Any] | None = None,
  echo: Callable[[str], None] = print,
) -> Trained:
  """Trains a recogniser on images and labels.

  A method learns from all images that are neither for testing nor for
  validation, from as many of a class as there are. Batches, the network and the
  lengths of training follow from the size of the set; `settings` overrides any
  of them.

  Args:
    method: a row of the papers' tables, a name in `rows.ROWS` such as
      `ldam_drw` or `sslt`; or a whole config, of which every setting holds but
      for where images come from.
    images: uint8 `[N, H, W, C]` or `[N, H, W]`, C of 1 or 3.
    labels: `[N]`, class numbers 0 ... C-1 or names.
    unlabeled: uint8 `[M, H, W, C]` for methods that learn from unlabeled
      images; or a pair of them and their labels, -1 where unknown, which serve
      the diagnostics of the report and train nothing.
    test: images and labels to test on. Or the share of each class that is held
      out of `images` for it, which `echo` tells; None for the config's, 0.2.
    validation: images of each class held out of `images` to choose by; None for
      the config's, 0.
    class_names: a name a class, in the order of the class numbers. Without,
      names in `labels` are numbered in alphabetic order.
    groups: `[N]`, numbers or names of what images have in common, such as their
      patients. What is held out of `images`, for testing or validation, is
      whole groups; None for images that stand alone.
    workdir: the run's folder, where a run that was interrupted goes on and a
      finished one is opened; None for a temporary one, see `Trained.save`.
    seed: of initialization, of batches, of augmentation and of what is held
      out; None for the config's, 0.
    settings: further settings by dotted name, `{"embedding.epochs": 20}`.
    echo: where tables and results are printed.

  Returns:
    The trained model.

  Raises:
    ValueError: if an array, a setting or the folder does not fit; says why, and
      the way out.
    Interrupted: after Ctrl-C, with everything saved in `workdir`.
    NonFiniteLossError: if a loss is not finite.
  """
  held_out = not isinstance(test, tuple | list)
  share = isinstance(test, int | float) and 0 < test < 1
  if held_out and test is not None and not share:
    raise ValueError(
      f"test is {_brief(test)}; it must be a pair (images, labels), or a share"
      " of the images in (0, 1)."
    )
  arrays = givens.make(
    images,
    labels,
    unlabeled=unlabeled,
    test=None if held_out else test,
    class_names=class_names,
    groups=groups,
  )
  config = configure(method, arrays, settings or {})
  if seed is not None:
    config.seed = config.data.seed = seed
  if validation is not None:
    config.data.validation.per_class = validation
  config.data.source = arrays.source
  if arrays.pool and config.data.unlabeled.factor > 0:
    config.data.unlabeled.source = arrays.pool_source
  elif arrays.pool:
    echo("This method learns from no unlabeled images: they are left out.")
  if held_out and test is not None:
    config.data.test_fraction = float(test)
  if held_out:
    echo(
      f"No test images were given: {100 * config.data.test_fraction:g} % of"
      " each class are held out of images to test on, and not trained on."
    )
  if workdir is not None:
    train.train(config, str(workdir), given=arrays, echo=echo)
    return Trained(workdir)
  folder = tempfile.mkdtemp(prefix="ltjax-")
  try:
    train.train(config, folder, given=arrays, echo=echo)
    trained = Trained(folder)
  except BaseException:
    shutil.rmtree(folder, ignore_errors=True)
    raise
  weakref.finalize(trained, shutil.rmtree, folder, ignore_errors=True)
  return trained


def configure(
  method: str | ml_collections.ConfigDict,
  arrays: givens.Given,
  settings: Mapping[str, Any],
) -> ml_collections.ConfigDict:
  """Returns the config that `fit` trains with, but for seeds and sources.

  Args:
    method: as of `fit`.
    arrays: the images.
    settings: as of `fit`.

  Raises:
    ValueError: if the method or a setting is unknown, or unlabeled images are
      missing.
  """
  if not isinstance(method, str):
    config_check.check(method)
    config = method.copy_and_resolve_references()
    _override(config, settings)
    return config
  config = _protocol(arrays)
  _override(config, settings)  # Schedules of a row follow from the epochs.
  rows.apply(config, method)
  _override(config, settings)
  if not rows.needs_unlabeled(config):
    config.data.unlabeled.update({"profile": "same", "factor": 0.0})
  # Where they only pre-train, labeled ones without labels will do.
  elif not arrays.pool and registry.find(config.method).needs_unlabeled:
    raise ValueError(
      f"{method} learns from unlabeled images, too: give some as unlabeled=, or"
      " choose a method that needs none, such as ldam_drw."
    )
  return config


def load(workdir: str | Path) -> Trained:
  """Opens a finished run, of `fit` or of the command line.

  Args:
    workdir: its folder; nothing in it is changed.

  Raises:
    FileNotFoundError: if there is no such folder, or no run in it.
    ValueError: if the run is not finished, or its files are damaged.
  """
  return Trained(workdir)


class Trained:
  """A trained model with its run.

  Attributes:
    workdir: the run's folder.
    classes: one name a class.
    groups: class numbers of the groups `many`, `medium` and `few`.
    summary: the run's results, the content of `summary.json`.
  """

  def __init__(self, workdir: str | Path):
    self.workdir = Path(workdir)
    self._model = trained_lib.load(self.workdir)
    self.classes = self._model.classes
    self.summary = report.read_summary(self.workdir)
    self.groups = {k: tuple(v) for k, v in self.summary["groups"].items()}
    # Classes have names, unless these are but their numbers; `fit` knows.
    source = self.summary["config"]["data"]["source"]
    self._named = self.classes != tuple(map(str, range(len(self.classes))))
    if source.startswith("arrays:"):
      self._named = source.split(":")[1] == givens.NAMES

  def __repr__(self) -> str:
    last = self.summary["result"]["last"]
    return (
      f"<ltjax.Trained: {last['model']}, {len(self.classes)} classes, test"
      f" accuracy {100 * last['accuracy']:.1f} %>"
    )

  def predict(self, images: Any, *, head: str = "balanced") -> np.ndarray:
    """Returns the most probable class of each image.

    Args:
      images: uint8 `[N, H, W, C]`, or `[N, H, W]`, of the size trained on.
      head: `balanced` for the class-balanced classifier g, `random` for g',
        where the method has both.

    Returns:
      `[N]`: names where classes have names, else class numbers, int32.

    Raises:
      ValueError: if the images or the head do not fit.
    """
    best = self.probabilities(images, head=head).argmax(1)
    if self._named:
      return np.asarray(self.classes)[best]
    return best.astype(np.int32)

  def probabilities(self, images: Any, *, head: str = "balanced") -> np.ndarray:
    """Returns the probabilities of all classes, float32 `[N, C]`.

    Args:
      images, head: as of `predict`.

    Raises:
      ValueError: if the images or the head do not fit.
    """
    return self._run(images, head)[1]

  def features(self, images: Any) -> np.ndarray:
    """Returns what the network sees, before its head: float32 `[N, F]`.

    Args:
      images: as of `predict`.

    Raises:
      ValueError: if the images do not fit.
    """
    return self._run(images, "random")[0]

  def evaluate(
    self, images: Any, labels: Any, *, head: str = "balanced"
  ) -> dict[str, Any]:
    """Returns how good the model is on labeled images.

    Args:
      images: as of `predict`, one or more.
      labels: `[N]`, class numbers or names.
      head: as of `predict`.

    Returns:
      As `evaluation.metrics.classification`: `accuracy`, `balanced_accuracy`,
      `accuracy/many`, `per_class`, `confusion` and more, in [0, 1]. Groups are
      those of the images trained on.

    Raises:
      ValueError: if the images, the labels or the head do not fit.
    """
    found = self.probabilities(images, head=head)
    true = givens.numbers(labels, self.classes, "labels", len(found))
    return metrics.classification(found, true, groups=self.groups)

  def report(self) -> str:
    """Returns the report as Markdown; its plots lie in the run's folder."""
    path = self.workdir / "report.md"
    if not path.exists():
      report.write(self.workdir)
    return path.read_text(encoding="utf-8")

  def save(self, folder: str | Path) -> Path:
    """Copies the run to a folder, for `load` and for the command line.

    Args:
      folder: made; there must be none, or an empty one.

    Returns:
      The folder.

    Raises:
      ValueError: if there are files in it.
      OSError: if it cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
      raise ValueError(f"{folder} is not empty; choose another folder.")
    shutil.copytree(
      self.workdir,
      folder,
      ignore=shutil.ignore_patterns(".lock"),
      dirs_exist_ok=True,
    )
    return folder

  def _run(self, images: Any, head: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and probabilities, a batch at a time."""
    require.choice("head", head, trained_lib.HEADS)
    pixels = givens.check_images(images, "images", self._model.picture_shape)
    count, network = len(pixels), self._model.model
    features = np.empty((count, network.feature_dim), np.float32)
    found = np.empty((count, network.num_classes), np.float32)
    # A power of two, so that few sizes are compiled.
    size = min(_BATCH_SIZE, 1 << max(count - 1, 0).bit_length())
    batch = np.zeros((size, *pixels.shape[1:]), np.uint8)
    for first in range(0, count, size):
      part = slice(first, min(first + size, count))
      number = part.stop - first
      batch[:number] = pixels[part]
      results = self._model.run(batch, head)
      features[part] = results[0][:number]
      found[part] = jax.nn.softmax(results[1])[:number]
    return features, found


def _protocol(arrays: givens.Given) -> ml_collections.ConfigDict:
  """The config of a set, before a row chooses the method."""
  images, labels = arrays.content.train
  size, count = max(images.shape[1:3]), len(labels)
  config = configs.default()
  config.data.labeled.profile = "natural"
  config.data.unlabeled.profile = "natural"
  if not arrays.pool:
    config.data.unlabeled.profile, config.data.unlabeled.factor = "same", 0.0
  config.data.pad = size // 8
  config.model.name = "resnet8" if size <= 16 else "resnet32"
  if size > 48:
    config.model.name = "resnet18"
  batch_size = _batch_size(count, jax.device_count())
  for block, epochs in EPOCHS.items():
    config[block].batch_size = batch_size
    if count <= SMALL:
      config[block].epochs = epochs
  if count <= SMALL:
    config.loops = LOOPS
  return config


def _batch_size(count: int, devices: int) -> int:
  """A power of two: about an eighth of the images, 32 to 128, at most half."""
  size = min(max(count // 8, 32), 128, max(count // 2, 1))
  size = 1 << (size.bit_length() - 1)
  return max(size // devices, 1) * devices


def _override(
  config: ml_collections.ConfigDict, settings: Mapping[str, Any]
) -> None:
  """Sets fields by their dotted names."""
  for name, value in settings.items():
    *path, field = name.split(".")
    try:
      block = functools.reduce(operator.getitem, path, config)
      block[field]  # It is there, and is no place in a text or a tuple.
    except (KeyError, TypeError):
      raise ValueError(
        f"settings has {name!r}, which is no setting of a config; one is"
        " embedding.epochs, and `python -m ltjax.config METHOD` shows all."
      ) from None
    try:
      block[field] = value
    except TypeError as error:
      raise ValueError(f"settings[{name!r}]: {error}") from None


def _brief(value: Any) -> str:
  if isinstance(value, np.ndarray):
    return f"an array of shape {value.shape}"
  return repr(value)

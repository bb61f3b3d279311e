"""Features of images by a backbone that does not change, kept on disk.

They are computed and kept by pieces, each under a name made of all that it
depends on: the weights, the transform, the draw of an augmented view, and the
very pixels. So features of other images or of another backbone are never taken
for these, a run that was stopped goes on where it was, and runs share them.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from typing import Any
import uuid

import jax
import numpy as np
import rich.console
import rich.progress

from ltjax.checkpoints import integrity
from ltjax.data.host import host_images
from ltjax.devices import distributed
from ltjax.training import inference
from ltjax.training.state import ModelState

_PIECE = 2048  # images, about


def folder(chosen: str) -> pathlib.Path | None:
  """Returns where features are kept; None for nowhere.

  Args:
    chosen: a folder; `auto` for one in the user's cache; `off` for none.
  """
  if chosen == "off":
    return None
  if chosen == "auto":
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    chosen = f"{root}/ltjax/features"
  return pathlib.Path(chosen).expanduser().absolute()


class Store:
  """Computes features of image sets, or finds them.

  Args:
    predictor: runs the network.
    state: gives the backbone, which does not change.
    described: all that the features depend on beside these and the images.
    place: a folder; None to keep nothing. Several processes keep nothing.
  """

  def __init__(
    self,
    predictor: inference.Predictor,
    state: ModelState,
    *,
    described: str,
    place: pathlib.Path | None,
  ):
    self._predictor, self._state = predictor, state
    self._place = None if jax.process_count() > 1 else place
    weights = integrity.fingerprint((state.backbone, state.batch_stats))
    self._about = f"{weights} {described}"

  def features(
    self,
    images: jax.Array | host_images.HostImages,
    *,
    key: jax.Array | None = None,
    view: int | None = None,
    title: str = "",
  ) -> np.ndarray:
    """Returns the features of all images, float32 `[N, D]`.

    Args:
      images: uint8 `[N, H, W, C]`.
      key: of an augmented view; None for the plain images.
      view: of the predictor's views for testing; None for the plain images.
      title: what to call the images beside the bar of progress.

    Raises:
      OSError: if the folder cannot be written, or the disk is full.
      OutOfMemoryError: if a batch does not fit on the device.
    """
    count = len(images)
    step = max(self._predictor.batch(count).size, 1)
    size = max(_PIECE // step, 1) * step
    found = np.empty((count, self._predictor.model.feature_dim), np.float32)
    columns = (
      rich.progress.TextColumn("{task.description}"),
      rich.progress.BarColumn(),
      rich.progress.MofNCompleteColumn(),
      rich.progress.TimeRemainingColumn(),
    )
    console = rich.console.Console(stderr=True)
    shown = console.is_terminal and distributed.first()
    with rich.progress.Progress(
      *columns, console=console, disable=not shown
    ) as progress:
      bar = progress.add_task(f"features, {title}", total=count)
      for piece, first in enumerate(range(0, count, size)):
        part = images[first : first + size]
        drawn = None if key is None else jax.random.fold_in(key, piece)
        found[first : first + size] = self._piece(part, drawn, view)
        progress.advance(bar, len(part))
    return found

  def _piece(
    self, images: Any, key: jax.Array | None, view: int | None
  ) -> np.ndarray:
    def compute() -> np.ndarray:
      features = self._predictor.features(
        self._state, images, key=key, view=view
      )
      return np.asarray(features)

    if self._place is None:
      return compute()
    path = self._place / f"{self._name(images, key, view)}.npy"
    shape = (len(images), self._predictor.model.feature_dim)
    try:
      kept = np.load(path, allow_pickle=False)
      if kept.shape == shape and kept.dtype == np.float32:
        return kept
    except (OSError, ValueError, EOFError):  # none, or damaged
      pass
    features = compute()
    partial = path.with_name(f"{path.stem}-{uuid.uuid4().hex}.partial")
    try:
      self._place.mkdir(parents=True, exist_ok=True)
      with open(partial, "wb") as file:
        np.save(file, features)
      os.replace(partial, path)
    except OSError as error:
      partial.unlink(missing_ok=True)
      raise OSError(
        f"Features cannot be kept in {self._place} ({error.strerror or error});"
        " those that were computed before are kept. Make room, set"
        " --config.features.cache to another folder, or to off."
      ) from error
    return features

  def _name(self, images: Any, key: jax.Array | None, view: int | None) -> str:
    sha = hashlib.sha256(self._about.encode())
    if key is not None:
      sha.update(np.asarray(jax.random.key_data(key)).tobytes())
    if view is not None:
      sha.update(f"{self._predictor.views.name} {view}".encode())
    if isinstance(images, host_images.HostImages):
      pixels = images.read(np.arange(len(images), dtype=np.int32))
    else:
      pixels = np.asarray(images)
    sha.update(str(pixels.shape).encode())
    sha.update(np.ascontiguousarray(pixels).data)
    return sha.hexdigest()

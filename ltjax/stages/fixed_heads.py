"""Classifiers on an embedding that take no step: NCM, kNN and tau-norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ltjax.data.host import host_images
from ltjax.evaluation import knn as evaluation_knn
from ltjax.models import heads, rescaling
from ltjax.stages import tau as taus
from ltjax.training import inference
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

Report = Callable[[ModelState], list[dict[str, Any]]]


def ncm(
  name: str,
  predictor: inference.Predictor,
  *,
  images: jax.Array | host_images.HostImages,
  labels: jax.Array,
  features: str,
  field: str = "classifier",
  report: Report,
) -> Stage:
  """Returns the stage that makes `g` the nearest class mean.

  The means are of the plain images, with BatchNorm in evaluation mode.

  Args:
    name, predictor: the stage's name, and what runs the network.
    images, labels: the labeled images, uint8 `[N, H, W, C]` and int32 `[N]`.
    features: how they are normalised, see `heads.ncm`.
    field: the config block, for errors.
    report: rows to write when the stage is over.

  Raises:
    ValueError: if a class has no image.

  Source: Kang et al. (2020), Section 4.2.
  """
  num_classes = predictor.model.num_classes
  counts = np.bincount(np.asarray(labels), minlength=num_classes)
  if not counts.all():
    raise ValueError(
      f"{field}.kind=ncm needs a labeled image of every class; class"
      f" {int(np.argmin(counts))} has none. Choose another kind, or change"
      " data.labeled."
    )

  def means(x: jax.Array, y: jax.Array) -> heads.HeadParams:
    return heads.ncm(x, y, num_classes=num_classes, kind=features)

  return _of_features(name, predictor, means, images, labels, report)


def knn(
  name: str,
  predictor: inference.Predictor,
  *,
  images: jax.Array | host_images.HostImages,
  labels: jax.Array,
  neighbors: int,
  field: str = "classifier",
  report: Report,
) -> Stage:
  """Returns the stage that makes `g` the nearest labeled images.

  Args:
    name, predictor, images, labels, field, report: as of `ncm`.
    neighbors: k, see `heads.knn`.

  Raises:
    ValueError: if there are fewer images than neighbors.
  """
  evaluation_knn.check(neighbors, len(labels), f"{field}.neighbors")
  num_classes = predictor.model.num_classes

  def nearest(x: jax.Array, y: jax.Array) -> heads.HeadParams:
    settings = {"num_classes": num_classes, "neighbors": neighbors}
    return heads.knn(x, y, **settings)

  return _of_features(name, predictor, nearest, images, labels, report)


def _of_features(
  name: str,
  predictor: inference.Predictor,
  make: Callable[[jax.Array, jax.Array], heads.HeadParams],
  images: jax.Array | host_images.HostImages,
  labels: jax.Array,
  report: Report,
) -> Stage:
  """Returns the stage that makes `g` of the features of labeled images."""

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is None
    head = make(predictor.features(state, images), labels)
    return state.replace(balanced_head=head)  # type: ignore[attr-defined]

  def shapes(state: ModelState) -> ModelState:
    size = (len(labels), predictor.model.feature_dim)
    head = jax.eval_shape(
      make,
      jax.ShapeDtypeStruct(size, np.float32),
      jax.ShapeDtypeStruct(size[:1], np.int32),
    )
    return state.replace(balanced_head=head)  # type: ignore[attr-defined]

  return Stage(name=name, finish=finish, report=report, shapes=shapes)


def tau_norm(
  name: str,
  predictor: inference.Predictor,
  *,
  chooser: taus.Chooser,
  field: str = "classifier",
  report: Report,
) -> Stage:
  """Returns the stage that makes `g` of `g'` by tau-normalization.

  Args:
    name, predictor, field, report: as of `ncm`; a row on tau comes first. A
      head that is not linear is a ValueError: its lengths play no role.
    chooser: gives tau.

  Source: Kang et al. (2020), Section 4.3.
  """
  shape = jax.eval_shape(predictor.model.head_init, jax.random.key(0))
  rescaling.check_linear(shape, f"{field}.kind=tau_norm")

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is None

    def head_of(tau: float) -> heads.HeadParams:
      return rescaling.tau_normalize(state.head, tau=tau)

    head = head_of(chooser.choose(state, head_of))
    return state.replace(balanced_head=head)  # type: ignore[attr-defined]

  return Stage(
    name=name,
    finish=finish,
    report=lambda state: [*chooser.rows(), *report(state)],
    shapes=lambda state: state.replace(  # type: ignore[attr-defined]
      balanced_head=shape
    ),
  )

"""The function that is shipped: pictures in, probabilities out.

It takes bytes of the size that the run's pictures have, and holds all that
comes then: the crop, the normalisation, the network, the mean over
`eval.views`, the calibration and the shares of the classes where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.augment import ensemble
from ltjax.runs import trained as trained_lib
from ltjax.trust import calibration, prior

PLATFORMS = ("cpu", "cuda", "tpu")
_EXTRAS = {"onnx": "onnx", "savedmodel": "prepare"}


@dataclasses.dataclass(frozen=True)
class Shipped:
  """What is exported of a run.

  Attributes:
    trained: the model.
    head: `balanced` for g, `random` for g'.
    calibrated: by what, or None.
    source, target: shares of the classes that probabilities belong to and are
      corrected to, `[C]`; empty for no correction.
  """

  trained: trained_lib.Trained
  head: str = "balanced"
  calibrated: calibration.Calibration | None = None
  source: Sequence[float] = ()
  target: Sequence[float] = ()

  @property
  def shape(self) -> tuple[int, int, int]:
    """`(H, W, C)` of a picture."""
    return self.trained.picture_shape

  def probabilities(self, images: jax.Array) -> jax.Array:
    """Returns fp32 `[B, C]` of sum 1.

    Args:
      images: uint8 `[B, H, W, C]`.
    """
    given = self.trained
    params = {
      "backbone": given.variables["backbone"],
      "head": given.variables[trained_lib.HEADS[self.head]],
    }
    stats = given.variables["batch_stats"]
    logits = ensemble.mean(
      [
        given.model.apply(
          params,
          stats,
          given.transform(images)
          if view is None
          else given.views.apply(jnp.int32(view), images),
          False,
        )[1].astype(jnp.float32)
        for view in given.views.averaged
      ]
    )
    fitted = self.calibrated
    if fitted is not None:
      bias = np.asarray(fitted.bias, np.float32)
      logits = logits / fitted.temperature + bias[None]
    if len(self.target):
      ratio = np.log(np.asarray(self.target)) - np.log(np.asarray(self.source))
      logits = logits + ratio.astype(np.float32)[None]
    return jax.nn.softmax(logits)


def of_run(
  workdir: str | Path,
  *,
  head: str = "balanced",
  calibrated: bool = False,
  shares: str = "",
  source: str = "",
) -> Shipped:
  """Returns what is exported of a finished run.

  Args:
    workdir: its folder.
    head: `balanced` for g, `random` for g'.
    calibrated: whether by its calibration, see `evaluate --calibrate`.
    shares: of the classes where it is used: `uniform`, or a file as of
      `trust.prior.read`; "" for as they are.
    source: shares that uncalibrated probabilities belong to: `uniform` or
      `labeled`; "" where they are calibrated.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if the run is not finished, has no calibration, or shares do
      not fit.
  """
  trained = trained_lib.load(workdir)
  fitted = calibration.load(workdir, head) if calibrated else None
  if not shares:
    return Shipped(trained, head, fitted)
  classes = len(trained.classes)
  even = np.full(classes, 1 / classes)
  target = even if shares == "uniform" else prior.read(shares, trained.classes)
  if np.min(target) <= 0:
    raise ValueError(
      f"{shares} gives no share to {trained.classes[int(np.argmin(target))]},"
      " which would then never be told; give each class one above 0."
    )
  start = prior.source_shares(workdir, source, fitted, classes, asked=shares)
  return Shipped(trained, head, fitted, tuple(start), tuple(target))


def stablehlo(shipped: Shipped) -> bytes:
  """Returns the program as serialized StableHLO, for any batch size.

  `jax.export.deserialize(...).call(images)` runs it on a CPU, a GPU or a TPU;
  nothing but JAX is needed.

  Args:
    shipped: what to export.
  """
  made = jax.export.export(jax.jit(shipped.probabilities), platforms=PLATFORMS)(
    _symbolic(shipped)
  )
  return bytes(made.serialize())


def onnx(shipped: Shipped, path: Path) -> None:
  """Writes the program as ONNX, for any batch size.

  Args:
    shipped: what to export.
    path: the file.

  Raises:
    ValueError: if jax2onnx is not installed; tells how.
  """
  try:
    import jax2onnx  # pyrefly: ignore[missing-import]
  except ImportError:
    raise ValueError(_needs("onnx", "jax2onnx")) from None
  jax2onnx.to_onnx(
    shipped.probabilities,
    inputs=[jax.ShapeDtypeStruct(("B", *shipped.shape), jnp.uint8)],
    return_mode="file",
    output_path=str(path),
  )


def savedmodel(shipped: Shipped, folder: Path) -> None:
  """Writes the program as a TensorFlow SavedModel, for any batch size.

  Args:
    shipped: what to export.
    folder: to be made.

  Raises:
    ValueError: if TensorFlow is not installed; tells how.
  """
  try:
    from jax.experimental import jax2tf
    import tensorflow as tf  # pyrefly: ignore[missing-import]
  except ImportError:
    raise ValueError(_needs("savedmodel", "TensorFlow")) from None
  shape = ", ".join(map(str, shipped.shape))
  converted = jax2tf.convert(
    shipped.probabilities,
    polymorphic_shapes=[f"(b, {shape})"],
    with_gradient=False,
  )
  module = tf.Module()
  module.f = tf.function(
    converted,
    autograph=False,
    input_signature=[tf.TensorSpec((None, *shipped.shape), tf.uint8)],
  )
  tf.saved_model.save(module, str(folder))


def _symbolic(shipped: Shipped) -> jax.ShapeDtypeStruct:
  (batch,) = jax.export.symbolic_shape("b")
  return jax.ShapeDtypeStruct((batch, *shipped.shape), jnp.uint8)


def _needs(extra: str, what: str) -> str:
  return (
    f"--to={extra} needs {what}, which is not installed: pip install"
    f" 'ltjax[{_EXTRAS[extra]}]'."
  )

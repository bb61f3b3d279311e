"""Networks behind one seam of pure functions.

The rest of the library sees a `Model`: functions over plain dictionaries of
arrays. Flax Linen is an implementation detail of this package, and another
backbone library can be put behind the same four functions.
"""

from __future__ import annotations

from collections.abc import Callable
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax import require
from ltjax.models import heads, initializers, pretrained
from ltjax.models.backbones import resnet, wide_resnet

_IMAGENET_FAMILY = resnet.IMAGENET_FAMILY
# Blocks per stage, and channels of the first.
_CIFAR_FAMILY = {f"resnet{6 * n + 2}": (n, 16) for n in (1, 2, 3, 5, 7, 9)}
_CIFAR_FAMILY["resnet32_x4"] = (5, 64)
_WIDE_FAMILY = {"wrn28_2": (4, 2)}

OWN = (*_IMAGENET_FAMILY, *_CIFAR_FAMILY, *_WIDE_FAMILY)
NAMES = (*OWN, *pretrained.ARCHITECTURES)
STEMS = ("auto", "cifar", "imagenet")
DTYPES = ("float32", "bfloat16")


class Model(NamedTuple):
  """An embedding with a head, as functions.

  Attributes:
    init: `init(key) -> (params, batch_stats)`, with
      `params = {"backbone": ..., "head": ...}`, all fp32.
    apply: `apply(params, batch_stats, images, train) -> (features, logits,
      batch_stats)`. Images are normalised, `[B, H, W, C]`; features
      `[B, D]` and logits `[B, num_classes]` are fp32. Training uses the
      statistics of the batch and returns updated running ones; evaluation
      returns the very object it was given. What a pretrained network does not
      train is a part of `batch_stats`.
    head_init: `head_init(key) -> head_params`, a fresh head.
    head_apply: `head_apply(head_params, features [..., D]) -> logits`.
    feature_dim: D.
    num_classes: Width of the logits.
    image_shape: `(H, W, C)`.
    name: As given to `create`.
    normalizes: Whether it takes images of [0, 1], which it normalises itself.
    frozen: The parts of a network whose backbone does not change; else None.
    layer_decay: Of the learning rates of its layers, see `ltjax.optim.layers`.
  """

  init: Callable[[jax.Array], tuple[Any, Any]]
  apply: Callable[[Any, Any, jax.Array, bool], tuple[jax.Array, jax.Array, Any]]
  head_init: Callable[[jax.Array], Any]
  head_apply: Callable[[Any, jax.Array], jax.Array]
  feature_dim: int
  num_classes: int
  image_shape: tuple[int, int, int]
  name: str
  normalizes: bool = False
  frozen: Frozen | None = None
  layer_decay: float = 1.0


class Frozen(NamedTuple):
  """The two parts of a network whose backbone does not change.

  Attributes:
    backbone: The network whose features are those of the bare backbone.
    behind: `behind(views) -> Model`, of the rest, which takes such features
      `[B, 1, 1, D]` in the place of images; its parameters are the network's.
  """

  backbone: Model
  behind: Callable[[int], Model]


def create(
  name: str,
  *,
  num_classes: int,
  image_shape: tuple[int, int, int],
  head: str = "linear",
  head_scale: float = 16.0,
  stem: str = "auto",
  zero_init_last: bool = False,
  dtype: str = "float32",
  weights: str = "auto",
  tune: str = "all",
  tune_width: int = 0,
  image_size: int = 0,
  layer_decay: float = 1.0,
) -> Model:
  """Builds a network by name.

  Args:
    name: "resnet18", "resnet34", "resnet50", "resnext50_32x4d" (ImageNet
      family); "resnet8", "14", "20", "32", "44", "56" (CIFAR family; ResNet-8
      suits a small CPU), "resnet32_x4", which is ResNet-32 at four times the
      width; "wrn28_2"; or a pretrained one of `pretrained.ARCHITECTURES`.
    num_classes: C, at least 2.
    image_shape: `(H, W, C)` in pixels.
    head: "linear" or "cosine".
    head_scale: Scale of the cosine head.
    stem: "cifar" (3x3), "imagenet" (7x7/2, max-pool), or "auto": the CIFAR stem
      up to 64 pixels. Only the ImageNet family has the ImageNet stem.
    zero_init_last: Start the last BN scale of each block at 0.
    dtype: Compute dtype, "float32" or "bfloat16"; parameters, statistics,
      features and logits are fp32 under both.
    weights: Of a pretrained network, "auto" for those of an installed package,
      "none" to draw them, a file, or "hf:OWNER/NAME/FILE".
    tune: What is trained of it beside the head: "all", "head" (nothing),
      "last_block", "affine" (of normalisations), "bias"; of a ViT also
      "adaptformer", "lora", "vpt_shallow" and "vpt_deep".
    tune_width: Of what it adds; 0 for `pretrained.default_width`.
    image_size: Pixels that it brings images to; 0 for its own.
    layer_decay: What the learning rate falls by from a block of it to the one
      before, in (0, 1]; with `tune` of `pretrained.LAYERED`.

  Returns:
    A `Model`.

  Raises:
    ValueError: A name is unknown, a size out of range, or the image smaller
      than the total stride of the network.
  """
  require.choice("model.name", name, NAMES)
  if num_classes < 2:
    raise ValueError(
      f"A classifier needs 2 classes or more, not {num_classes}."
    )
  require.choice("model.stem", stem, STEMS)
  require.choice("model.dtype", dtype, DTYPES)
  _check_layer_decay(name, tune, layer_decay)
  if len(image_shape) != 3 or min(image_shape) < 1:
    raise ValueError(
      f"The image shape is (height, width, channels), not {tuple(image_shape)}."
    )
  height, width, channels = (int(n) for n in image_shape)
  compute = jnp.dtype(dtype)
  if name in pretrained.ARCHITECTURES:
    return _pretrained(
      name,
      (head, head_scale),
      num_classes=num_classes,
      image_shape=(height, width, channels),
      source=weights,
      tune=tune,
      tune_width=tune_width or pretrained.default_width(tune, num_classes),
      image_size=image_size,
      dtype=compute,
    )._replace(layer_decay=layer_decay)
  if name in _IMAGENET_FAMILY:
    block, depths = _IMAGENET_FAMILY[name]
    imagenet_stem = stem == "imagenet" or (
      stem == "auto" and max(height, width) > 64
    )
    feature_dim, stride = 512 * block.expansion, 32 if imagenet_stem else 8
    backbone = resnet.ResNet(
      block=block,
      depths=depths,
      width=64,
      imagenet_stem=imagenet_stem,
      option_a=False,
      zero_init_last=zero_init_last,
      dtype=compute,
    )
  elif stem == "imagenet":
    raise ValueError(
      f"{name} has only the CIFAR stem; for the ImageNet stem choose one of "
      f"{', '.join(_IMAGENET_FAMILY)}."
    )
  elif name in _CIFAR_FAMILY:
    blocks, first = _CIFAR_FAMILY[name]
    feature_dim, stride = 4 * first, 4
    backbone = resnet.ResNet(
      block=resnet.BasicBlock,
      depths=(blocks,) * 3,
      width=first,
      imagenet_stem=False,
      option_a=True,
      zero_init_last=zero_init_last,
      dtype=compute,
    )
  else:
    depth, widen = _WIDE_FAMILY[name]
    feature_dim, stride = 64 * widen, 4
    backbone = wide_resnet.WideResNet(
      depth=depth, widen=widen, zero_init_last=zero_init_last, dtype=compute
    )
  if min(height, width) < stride:
    raise ValueError(
      f"Images of {height} x {width} pixels are too small for {name}, whose "
      f"strides multiply to {stride}: resize the images to {stride} pixels or "
      "more, or choose the CIFAR stem or a model with fewer strides."
    )
  classifier = heads.create(
    head, feature_dim=feature_dim, num_classes=num_classes, scale=head_scale
  )
  # torchvision and the wide networks draw with fan_out; the CIFAR family,
  # after He et al. (2015) and the long-tail code bases, with fan_in.
  fan = "fan_in" if name in _CIFAR_FAMILY else "fan_out"
  shape = (height, width, channels)
  return _with_head(
    _functions(backbone, shape, fan),
    classifier,
    feature_dim=feature_dim,
    num_classes=num_classes,
    image_shape=shape,
    name=name,
  )


def parameter_table(params: Any) -> list[tuple[str, tuple[int, ...], int]]:
  """Lists every parameter array.

  Args:
    params: A tree of arrays, or of shapes as `jax.eval_shape` returns it.

  Returns:
    One `(path, shape, count)` an array, the path joined by "/".
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  return [
    (
      "/".join(str(entry.key) for entry in path),
      tuple(leaf.shape),
      math.prod(leaf.shape),
    )
    for path, leaf in leaves
  ]


def _check_layer_decay(name: str, tune: str, decay: float) -> None:
  require.within("model.layer_decay", decay, "(0, 1]")
  if decay == 1:
    return
  if name not in pretrained.ARCHITECTURES:
    raise ValueError(
      f"model.layer_decay is {decay}, and {name} starts from scratch, all of"
      " its layers alike; set it to 1, or choose a pretrained model.name."
    )
  if tune not in pretrained.LAYERED:
    raise ValueError(
      f"model.layer_decay is {decay}, but model.tune={tune} trains no layers of"
      f" {name}; set it to 1, or model.tune to one of"
      f" {', '.join(pretrained.LAYERED)}."
    )


def _pretrained(
  name: str,
  head: tuple[str, float],
  *,
  num_classes: int,
  image_shape: tuple[int, int, int],
  **settings: Any,
) -> Model:
  feature_dim = pretrained.ARCHITECTURES[name].feature_dim
  classifier = heads.create(
    head[0], feature_dim=feature_dim, num_classes=num_classes, scale=head[1]
  )
  backbone = pretrained.functions(name, image_shape=image_shape, **settings)
  described = {
    "feature_dim": feature_dim,
    "num_classes": num_classes,
    "name": name,
    "normalizes": True,
  }
  on_images = described | {"image_shape": image_shape}
  tune = settings["tune"]
  if tune not in pretrained.FROZEN:
    return _with_head(backbone, classifier, **on_images)
  width = settings["tune_width"] if tune == "feature_adapter" else 0
  adapter = pretrained.adapter(feature_dim, width)
  frozen = Frozen(
    _with_head(backbone, classifier, **on_images),
    lambda views: _with_head(
      adapter, classifier, image_shape=(views, 1, feature_dim), **described
    ),
  )
  whole = pretrained.behind(backbone, adapter)
  return _with_head(whole, classifier, frozen=frozen, **on_images)


def _functions(
  backbone: Any, image_shape: tuple[int, int, int], fan: str
) -> pretrained.Functions:
  """Returns `init` and `apply` of a backbone of our own, without its head."""

  def init(key: jax.Array) -> tuple[Any, Any]:
    images = jnp.zeros((1, *image_shape), jnp.float32)
    # Gives shapes and constants only; it draws nothing.
    variables = backbone.init(key, images, False)
    filled = initializers.he_normal(key, variables["params"], fan=fan)
    return filled, variables["batch_stats"]

  def apply(
    params: Any, batch_stats: Any, images: jax.Array, train: bool
  ) -> tuple[jax.Array, Any]:
    variables = {"params": params, "batch_stats": batch_stats}
    if not train:
      return backbone.apply(variables, images, False), batch_stats
    features, updated = backbone.apply(
      variables, images, True, mutable=["batch_stats"]
    )
    return features, updated["batch_stats"]

  return pretrained.Functions(init, apply)


def _with_head(
  backbone: pretrained.Functions, head: heads.Head, **described: Any
) -> Model:
  """Returns the network of a backbone and a head."""
  backbone_init, backbone_apply = backbone

  def init(key: jax.Array) -> tuple[Any, Any]:
    _, k_backbone, k_head = jax.random.split(key, 3)
    params, batch_stats = backbone_init(k_backbone)
    return {"backbone": params, "head": head.init(k_head)}, batch_stats

  def apply(
    params: Any, batch_stats: Any, images: jax.Array, train: bool
  ) -> tuple[jax.Array, jax.Array, Any]:
    features, batch_stats = backbone_apply(
      params["backbone"], batch_stats, images, train
    )
    return features, head.apply(params["head"], features), batch_stats

  # A pretrained network reads a file; the others are one program.
  reads = described.get("normalizes", False)
  return Model(
    init=init if reads else jax.jit(init),
    apply=apply,
    head_init=head.init,
    head_apply=head.apply,
    **described,
  )

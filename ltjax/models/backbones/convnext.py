"""ConvNeXt: depthwise 7x7 convolutions between LayerNorms.

Four stages, each after the first behind a LayerNorm and a 2x2/2 convolution.
Features are the mean over the last map and a LayerNorm of it, as the published
classifiers see them.

Source: Liu et al. (2022), "A ConvNet for the 2020s".
"""

from __future__ import annotations

import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ltjax.models.backbones import weights
from ltjax.models.backbones.architecture import IMAGENET, Architecture

# Blocks and channels of each stage.
_SIZES = {
  "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
  "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
  "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
  "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
}


class Block(nn.Module):
  """Filter each channel, then mix them in four times as many, scaled.

  Attributes:
    dtype: compute dtype.
  """

  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[B, H, W, D]` to the same shape."""
    width = x.shape[-1]
    y = nn.Conv(
      width,
      (7, 7),
      padding=3,
      feature_group_count=width,
      dtype=self.dtype,
      name="depthwise_conv",
    )(x)
    y = _norm(y, self.dtype, "norm")
    y = nn.Dense(4 * width, dtype=self.dtype, name="expand")(y)
    y = nn.gelu(y, approximate=False)
    y = nn.Dense(width, dtype=self.dtype, name="project")(y)
    start = nn.initializers.constant(1e-6)
    scale = self.param("layer_scale", start, (width,), jnp.float32)
    return x + y * scale.astype(self.dtype).reshape(1, 1, 1, -1)


class ConvNeXt(nn.Module):
  """The backbone without its classifier.

  Attributes:
    depths: blocks of each stage.
    widths: channels of each stage.
    dtype: compute dtype.
  """

  depths: tuple[int, ...]
  widths: tuple[int, ...]
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps normalised images `[B, H, W, 3]` to fp32 features `[B, D]`."""
    x = _patches(self.widths[0], 4, self.dtype, "stem_conv")(x)
    x = _norm(x, self.dtype, "stem_norm")
    for stage, (depth, width) in enumerate(zip(self.depths, self.widths), 1):
      if stage > 1:
        x = _norm(x, self.dtype, f"stage{stage}_norm")
        x = _patches(width, 2, self.dtype, f"stage{stage}_conv")(x)
      for index in range(1, depth + 1):
        x = Block(self.dtype, name=f"stage{stage}_block{index}")(x)
    x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    return _norm(x, jnp.float32, "norm")


def _patches(features: int, size: int, dtype: Any, name: str) -> nn.Conv:
  """Returns a convolution of patches; pixels short of a patch are dropped."""
  return nn.Conv(
    features,
    (size, size),
    strides=size,
    padding="VALID",
    dtype=dtype,
    name=name,
  )


def _norm(x: jax.Array, dtype: Any, name: str) -> jax.Array:
  """Normalises each pixel in fp32; returns the given dtype."""
  norm = nn.LayerNorm(
    epsilon=1e-6, use_fast_variance=False, dtype=jnp.float32, name=name
  )
  return norm(x.astype(jnp.float32)).astype(dtype)


# Layers as each layout calls them. Stages (`s`) and blocks (`b`) count from 0;
# torchvision numbers what lies between stages (`even`) along with them (`odd`).
_TORCHVISION = {
  "stem_conv": "features.0.0",
  "stem_norm": "features.0.1",
  "stage_norm": "features.{even}.0",
  "stage_conv": "features.{even}.1",
  "block": "features.{odd}.{b}.",
  "block/depthwise_conv": "block.0",
  "block/norm": "block.2",
  "block/expand": "block.3",
  "block/project": "block.5",
  "block/layer_scale": "layer_scale",
  "norm": "classifier.0",
}
_FACEBOOK = {
  "stem_conv": "downsample_layers.0.0",
  "stem_norm": "downsample_layers.0.1",
  "stage_norm": "downsample_layers.{s}.0",
  "stage_conv": "downsample_layers.{s}.1",
  "block": "stages.{s}.{b}.",
  "block/depthwise_conv": "dwconv",
  "block/norm": "norm",
  "block/expand": "pwconv1",
  "block/project": "pwconv2",
  "block/layer_scale": "gamma",
  "norm": "norm",
}
_TIMM = {
  "stem_conv": "stem.0",
  "stem_norm": "stem.1",
  "stage_norm": "stages.{s}.downsample.0",
  "stage_conv": "stages.{s}.downsample.1",
  "block": "stages.{s}.blocks.{b}.",
  "block/depthwise_conv": "conv_dw",
  "block/norm": "norm",
  "block/expand": "mlp.fc1",
  "block/project": "mlp.fc2",
  "block/layer_scale": "gamma",
  "norm": "head.norm",
}
_TRANSFORMERS = {
  "stem_conv": "convnext.embeddings.patch_embeddings",
  "stem_norm": "convnext.embeddings.layernorm",
  "stage_norm": "convnext.encoder.stages.{s}.downsampling_layer.0",
  "stage_conv": "convnext.encoder.stages.{s}.downsampling_layer.1",
  "block": "convnext.encoder.stages.{s}.layers.{b}.",
  "block/depthwise_conv": "dwconv",
  "block/norm": "layernorm",
  "block/expand": "pwconv1",
  "block/project": "pwconv2",
  "block/layer_scale": "layer_scale_parameter",
  "norm": "convnext.layernorm",
}


def _flat(tensor: np.ndarray) -> np.ndarray:
  return tensor.reshape(-1)  # torchvision's is [D, 1, 1].


def _source(path: str, *, names: dict[str, str]) -> weights.Source:
  # Such as stem_conv/kernel, stage2_norm/scale, stage1_block1/expand/bias and
  # stage1_block1/layer_scale.
  layer, *inner, leaf = path.split("/")[1:]
  place, _, kind = layer.rpartition("_")
  stage = int(place.removeprefix("stage")) - 1 if place[-1:].isdigit() else 0
  counts = {"s": stage, "even": 2 * stage, "odd": 2 * stage + 1}
  if kind.startswith("block"):
    counts["b"] = int(kind.removeprefix("block")) - 1
    layer = "/".join(("block", *(inner or [leaf])))
    name = (names["block"] + names[layer]).format(**counts)
  else:
    name = names[layer.replace(f"stage{stage + 1}", "stage")].format(**counts)
  if leaf == "layer_scale":
    return weights.Source((name,), _flat)
  if leaf != "kernel":
    theirs = "bias" if leaf == "bias" else "weight"
    return weights.Source((f"{name}.{theirs}",))
  dense = inner in (["expand"], ["project"])
  change = weights.transposed if dense else weights.convolution
  return weights.Source((f"{name}.weight",), change)


def _layout(name: str, names: dict[str, str], unused: str) -> weights.Layout:
  return weights.Layout(
    name,
    marker=f"{names['stem_conv']}.weight",
    source=functools.partial(_source, names=names),
    unused=unused,
  )


_LAYOUTS = (
  _layout("torchvision", _TORCHVISION, r"classifier\.2\..*"),
  _layout("Facebook", _FACEBOOK, r"head\..*"),
  _layout("timm", _TIMM, r"head\.fc\..*"),
  _layout("transformers", _TRANSFORMERS, r"classifier\..*"),
)


def _architecture(
  depths: tuple[int, ...], widths: tuple[int, ...]
) -> Architecture:
  make = functools.partial(ConvNeXt, depths, widths)
  return Architecture(
    module=lambda size, dtype, tune, tune_width: make(dtype),
    feature_dim=widths[-1],
    size=224,
    stride=32,
    normalization=IMAGENET,
    # Of Facebook's and timm's weights; torchvision's are bilinear.
    resample="bicubic",
    layouts=lambda size: _LAYOUTS,
    last_block=rf"(stage4_block{depths[-1]}|norm)/.*",
  )


ARCHITECTURES = {
  f"convnext_{name}": _architecture(*size) for name, size in _SIZES.items()
}

"""Residual networks with the weights that torchvision publishes.

timm's have the same names of tensors. The networks are those of `resnet`, with
the ImageNet stem whatever the size of the images.
"""

from __future__ import annotations

import functools
from typing import Any

from ltjax.models.backbones import resnet, weights
from ltjax.models.backbones.architecture import IMAGENET, Architecture

_LEAVES = {
  "kernel": ("weight", weights.convolution),
  "scale": ("weight", weights.same),
  "bias": ("bias", weights.same),
  "mean": ("running_mean", weights.same),
  "var": ("running_var", weights.same),
}
_LAYERS = {
  "stem_conv": "conv1",
  "stem_bn": "bn1",
  "shortcut_conv": "downsample.0",
  "shortcut_bn": "downsample.1",
}


def _source(path: str) -> weights.Source:
  *block, layer, leaf = path.split("/")[1:]
  prefix = ""
  if block:  # such as stage1_block1, which is layer1.0
    stage, index = block[0].removeprefix("stage").split("_block")
    prefix = f"layer{stage}.{int(index) - 1}."
  name, change = _LEAVES[leaf]
  return weights.Source(
    (f"{prefix}{_LAYERS.get(layer, layer)}.{name}",), change
  )


_LAYOUT = weights.Layout(
  "torchvision",
  marker="layer1.0.conv1.weight",
  source=_source,
  unused=r"fc\..*|.*num_batches_tracked",
)


def _architecture(block: Any, depths: tuple[int, ...]) -> Architecture:
  make = functools.partial(
    resnet.ResNet,
    block,
    depths,
    width=64,
    imagenet_stem=True,
    option_a=False,
    zero_init_last=False,
  )
  return Architecture(
    module=lambda size, dtype, tune, width: make(dtype=dtype),
    feature_dim=512 * block.expansion,
    size=224,
    stride=32,
    normalization=IMAGENET,
    resample="bilinear",  # Of torchvision's weights; timm's are bicubic.
    layouts=lambda size: (_LAYOUT,),
    last_block=rf"stage4_block{depths[-1]}/.*",
  )


ARCHITECTURES = {
  f"{name}_imagenet": _architecture(*size)
  for name, size in resnet.IMAGENET_FAMILY.items()
}

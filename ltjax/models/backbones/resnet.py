"""Residual networks (He et al., 2016), in their two lineages.

The *ImageNet family* (ResNet-18/34/50, and ResNeXt-50, whose 3x3 convolutions
are wider and in 32 groups) has four stages of width 64 to 512 and a learned 1x1
projection wherever the shape changes. Its stem is chosen by
image size: 7x7/2 with a max-pool for photographs, a plain 3x3 for small images.
The 50-layer bottleneck is "v1.5": the stride sits in the 3x3 convolution.

The *CIFAR family* (ResNet-8/14/20/32/44/56) has three stages of width 16, 32
and 64 and the parameter-free "option A" shortcut: every second pixel, new
channels zero. Most published long-tail numbers on CIFAR are of its ResNet-32;
those of GLMC are of one with 64, 128 and 256 channels under the same name,
which has 16 times as many parameters and is `resnet32_x4` here.

Padding is written out, because "SAME" pads a strided convolution on the other
side than PyTorch does, and weights could then not be compared.
"""

from __future__ import annotations

import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from ltjax.models.layers import convolution
from ltjax.models.layers.batch_norm import BatchNorm


def conv(
  features: int,
  size: int,
  *,
  stride: int = 1,
  groups: int = 1,
  dtype: Any,
  name: str,
) -> convolution.Conv:
  """A bias-free convolution which pads `size // 2` on every side.

  Args:
    features: Output channels.
    size: Height and width of the kernel.
    stride: Of both axes.
    groups: Parts of the channels that do not mix.
    dtype: Of the computation; parameters are fp32.
    name: Of its parameters.
  """
  return convolution.Conv(features, size, stride, dtype, groups, name=name)


def pool(x: jax.Array) -> jax.Array:
  """Global average pooling in fp32, `[B, H, W, D]` to `[B, D]`."""
  return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


class BasicBlock(nn.Module):
  """Two 3x3 convolutions around a shortcut.

  Attributes:
    features: Output channels.
    stride: Stride of the first convolution and of the shortcut.
    option_a: Parameter-free shortcut instead of a 1x1 projection.
    zero_init_last: Start the last BN scale at 0, so the block is the identity.
    dtype: Compute dtype.
  """

  features: int
  stride: int
  option_a: bool
  zero_init_last: bool
  dtype: Any
  expansion = 1

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps `[B, H, W, D]` to `[B, H / stride, W / stride, D']`."""
    cv = functools.partial(conv, dtype=self.dtype)
    bn = functools.partial(BatchNorm, train=train, dtype=self.dtype)
    y = cv(self.features, 3, stride=self.stride, name="conv1")(x)
    y = nn.relu(bn(name="bn1")(y))
    y = cv(self.features, 3, name="conv2")(y)
    y = bn(name="bn2", zero=self.zero_init_last)(y)
    if self.stride != 1 or x.shape[-1] != self.features:
      if self.option_a:
        x = x[:, :: self.stride, :: self.stride]
        grow = self.features - x.shape[-1]
        before = grow // 2
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (before, grow - before)))
      else:
        x = cv(self.features, 1, stride=self.stride, name="shortcut_conv")(x)
        x = bn(name="shortcut_bn")(x)
    return nn.relu(x + y)


class BottleneckBlock(nn.Module):
  """1x1 reduce, 3x3 (with the stride), 1x1 expand by four.

  Attributes: as of `BasicBlock`; the 3x3 has `widening` times `features`
  channels, in `groups`.
  """

  features: int
  stride: int
  option_a: bool
  zero_init_last: bool
  dtype: Any
  expansion = 4
  widening = 1
  groups = 1

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps `[B, H, W, D]` to `[B, H / stride, W / stride, D']`."""
    cv = functools.partial(conv, dtype=self.dtype)
    bn = functools.partial(BatchNorm, train=train, dtype=self.dtype)
    out, inner = self.features * self.expansion, self.features * self.widening
    y = nn.relu(bn(name="bn1")(cv(inner, 1, name="conv1")(x)))
    y = cv(inner, 3, stride=self.stride, groups=self.groups, name="conv2")(y)
    y = nn.relu(bn(name="bn2")(y))
    y = cv(out, 1, name="conv3")(y)
    y = bn(name="bn3", zero=self.zero_init_last)(y)
    if self.stride != 1 or x.shape[-1] != out:
      x = cv(out, 1, stride=self.stride, name="shortcut_conv")(x)
      x = bn(name="shortcut_bn")(x)
    return nn.relu(x + y)


class ResNeXtBlock(BottleneckBlock):
  """The block of ResNeXt 32x4d: the 3x3 in 32 groups, of 4 channels each at 64.

  Source: Xie et al. (2017), "Aggregated residual transformations for deep
    neural networks".
  """

  widening = 2
  groups = 32


class ResNet(nn.Module):
  """A residual backbone without its head.

  Attributes:
    block: `BasicBlock`, `BottleneckBlock` or `ResNeXtBlock`.
    depths: Blocks per stage; every stage but the first halves the map.
    width: Channels of the first stage, doubled at every following one.
    imagenet_stem: 7x7/2 convolution and 3x3/2 max-pool, else one 3x3/1.
    option_a, zero_init_last: See `BasicBlock`.
    dtype: Compute dtype; parameters and statistics stay fp32.
  """

  block: Any
  depths: tuple[int, ...]
  width: int
  imagenet_stem: bool
  option_a: bool
  zero_init_last: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps normalised images `[B, H, W, C]` to fp32 features `[B, D]`."""
    cv = functools.partial(conv, dtype=self.dtype)
    size, stride = (7, 2) if self.imagenet_stem else (3, 1)
    x = cv(self.width, size, stride=stride, name="stem_conv")(x)
    x = nn.relu(BatchNorm(train=train, dtype=self.dtype, name="stem_bn")(x))
    if self.imagenet_stem:
      x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    for stage, depth in enumerate(self.depths):
      for index in range(depth):
        x = self.block(
          self.width * 2**stage,
          2 if stage > 0 and index == 0 else 1,
          self.option_a,
          self.zero_init_last,
          self.dtype,
          name=f"stage{stage + 1}_block{index + 1}",
        )(x, train)
    return pool(x)


# Block, and blocks per stage; the first stage has 64 channels.
IMAGENET_FAMILY = {
  "resnet18": (BasicBlock, (2, 2, 2, 2)),
  "resnet34": (BasicBlock, (3, 4, 6, 3)),
  "resnet50": (BottleneckBlock, (3, 4, 6, 3)),
  "resnext50_32x4d": (ResNeXtBlock, (3, 4, 6, 3)),
}

"""Wide residual networks (Zagoruyko & Komodakis, 2016): shallow and broad.

Pre-activation blocks in three groups of width 16k, 32k and 64k. This is the
variant of the semi-supervised literature (Oliver et al., 2018; FixMatch):
leaky ReLU of slope 0.1, and only the very first block feeds its shortcut with
the *activated* input. It has as many parameters as the original.
"""

from __future__ import annotations

import functools
from typing import Any

from flax import linen as nn
import jax

from ltjax.models.backbones import resnet
from ltjax.models.layers.batch_norm import BatchNorm

_activation = functools.partial(nn.leaky_relu, negative_slope=0.1)


class WideBlock(nn.Module):
  """BN, activation, 3x3, twice, around a shortcut.

  Attributes:
    features: Output channels.
    stride: Stride of the first convolution and of the shortcut.
    activate_first: Feed the shortcut with the activated input.
    zero_init_last: Start the scale of the second BN at 0. (A pre-activation
      block ends with a convolution; this is its last scale, and with it the
      block starts as its shortcut.)
    dtype: Compute dtype.
  """

  features: int
  stride: int
  activate_first: bool
  zero_init_last: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps `[B, H, W, D]` to `[B, H / stride, W / stride, D']`."""
    cv = functools.partial(resnet.conv, dtype=self.dtype)
    bn = functools.partial(BatchNorm, train=train, dtype=self.dtype)
    y = _activation(bn(name="bn1")(x))
    if self.activate_first:
      x = y
    y = cv(self.features, 3, stride=self.stride, name="conv1")(y)
    y = _activation(bn(name="bn2", zero=self.zero_init_last)(y))
    y = cv(self.features, 3, name="conv2")(y)
    if self.stride != 1 or x.shape[-1] != self.features:
      x = cv(self.features, 1, stride=self.stride, name="shortcut_conv")(x)
    return x + y


class WideResNet(nn.Module):
  """A wide residual backbone without its head.

  Attributes:
    depth: Blocks per group, (layers - 4) / 6: 4 for WRN-28.
    widen: Width factor k.
    zero_init_last: See `WideBlock`.
    dtype: Compute dtype; parameters and statistics stay fp32.
  """

  depth: int
  widen: int
  zero_init_last: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps normalised images `[B, H, W, C]` to fp32 features `[B, D]`."""
    x = resnet.conv(16, 3, dtype=self.dtype, name="stem_conv")(x)
    for stage in range(3):
      for index in range(self.depth):
        x = WideBlock(
          16 * self.widen * 2**stage,
          2 if stage > 0 and index == 0 else 1,
          stage == 0 and index == 0,
          self.zero_init_last,
          self.dtype,
          name=f"stage{stage + 1}_block{index + 1}",
        )(x, train)
    x = BatchNorm(train=train, dtype=self.dtype, name="last_bn")(x)
    return resnet.pool(_activation(x))

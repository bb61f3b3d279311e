"""Vision Transformer, as its published families build it, and ways to tune it.

Parameters that `tune` adds have a module or leaf whose name starts with
`tuned_`. With `adaptformer` and `lora`, features start as they are without.

Source: Dosovitskiy et al. (2021), "An image is worth 16x16 words"; Touvron et
  al. (2021), "Going deeper with image transformers", for layer scale; Chen et
  al. (2022), "AdaptFormer"; Hu et al. (2022), "LoRA"; Jia et al. (2022),
  "Visual prompt tuning"; Shi et al. (2024), "Long-tail learning with foundation
  model: heavy fine-tuning hurts" (LIFT), whose use of the three this is.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

TUNES = ("adaptformer", "lora", "vpt_shallow", "vpt_deep")
_PERIOD = 100.0  # RoPE's base, of DINOv3.
# ViT's truncation, at 100 standard deviations, cuts nothing.
_start = nn.initializers.normal(0.02)
_zeros = nn.initializers.zeros
# PyTorch's default of a linear layer, U(-1, 1) / sqrt(fan_in).
_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_ACTIVATIONS = {
  "gelu": functools.partial(nn.gelu, approximate=False),
  "gelu_tanh": functools.partial(nn.gelu, approximate=True),
  "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
}


class Config(NamedTuple):
  """What a Vision Transformer is.

  Attributes:
    patch: pixels of a patch's side.
    features: channels D of a token.
    depth: blocks.
    heads: of each attention.
    epsilon: of the norms.
    activation: `gelu`, `gelu_tanh` or `quick_gelu`.
    pooled: an attention with a learnt query reads the features from the
      patches (Zhai et al., 2022); else they are a class token's.
    registers: further tokens (Darcet et al., 2024).
    rotary: positions turn queries and keys (RoPE), instead of a table.
    pre_norm: a norm before the blocks, and no bias of patches, as in CLIP.
    layer_scale: learnt factors of each branch's channels.
    key_bias: whether keys have a bias.
  """

  patch: int
  features: int
  depth: int
  heads: int
  epsilon: float = 1e-6
  activation: str = "gelu"
  pooled: bool = False
  registers: int = 0
  rotary: bool = False
  pre_norm: bool = False
  layer_scale: bool = False
  key_bias: bool = True


class ViT(nn.Module):
  """The backbone without its classifier. Nothing is dropped out.

  Attributes:
    config: the architecture.
    dtype: compute dtype; parameters, norms and softmax are fp32.
    tune: one of `TUNES` adds parameters, any other value none.
    width: AdaptFormer's channels, LoRA's rank or the number of prompts.
  """

  config: Config
  dtype: Any
  tune: str = ""
  width: int = 0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps normalised images `[B, H, W, 3]` to fp32 features `[B, D]`."""
    del train  # Nothing differs.
    config, kind = self.config, (self.config, self.dtype)
    x = nn.Conv(
      config.features,
      (config.patch, config.patch),
      strides=config.patch,
      padding="VALID",
      use_bias=not config.pre_norm,
      dtype=self.dtype,
      kernel_init=_start,
      name="patch",
    )(x)
    _, rows, columns, _ = x.shape
    count = rows * columns
    x = x.reshape(len(x), count, config.features)
    if not config.pooled:
      x = _prepended(self._table("cls")[None], x)
    if not config.rotary:
      x = x + self._table("position", x.shape[1])[None].astype(x.dtype)
    if config.registers:
      registers = self._table("registers", config.registers)
      x = jnp.concatenate([x[:, :1], _prepended(registers, x[:, 1:])], axis=1)
    if config.pre_norm:
      x = _norm(config, "pre_norm", x).astype(self.dtype)
    angles = None
    if config.rotary:
      angles = _angles(rows, columns, config.features // config.heads)
    others, prompts = x.shape[1] - count, self._prompts()
    for index in range(config.depth):
      if index < len(prompts):  # In the place of those of the block before.
        rest = _prepended(prompts[index], x[:, -count:])
        x = jnp.concatenate([x[:, :others], rest], axis=1)
      block = _Block(*kind, self.tune, self.width, name=f"blocks_{index}")
      x = block(x, angles)
    if not config.pooled:
      return _norm(config, "norm", x[:, 0])
    x = _norm(config, "norm", x[:, -count:]).astype(self.dtype)
    return _Pool(*kind, name="pool")(x)

  def _table(self, name: str, *rows: int) -> jax.Array:
    return self.param(name, _start, (*rows, self.config.features))

  def _prompts(self) -> Any:
    """Returns the prompts of the first blocks, `[blocks, width, D]`."""
    if self.tune not in ("vpt_shallow", "vpt_deep"):
      return ()
    config = self.config
    limit = math.sqrt(6 / (3 * config.patch**2 + config.features))

    def draw(key, shape):
      return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

    blocks = config.depth if self.tune == "vpt_deep" else 1
    shape = (blocks, self.width, config.features)
    return self.param("tuned_prompt", draw, shape)


class _Block(nn.Module):
  """Attention and an MLP, each after a norm and beside a shortcut."""

  config: Config
  dtype: Any
  tune: str
  width: int

  @nn.compact
  def __call__(self, x: jax.Array, angles: Any) -> jax.Array:
    kind = self.config, self.dtype
    y = _norm(self.config, "norm1", x).astype(self.dtype)
    rank = self.width if self.tune == "lora" else 0
    y = _Attention(*kind, rank, name="attention")(y, y, angles)
    x = x + self._scaled(y, "layer_scale1")
    y = _norm(self.config, "norm2", x).astype(self.dtype)
    y = self._scaled(_Mlp(*kind, name="mlp")(y), "layer_scale2")
    if self.tune == "adaptformer":
      y = y + _Adapter(*kind, self.width, name="tuned_adapter")(x)
    return x + y

  def _scaled(self, x: jax.Array, name: str) -> jax.Array:
    if not self.config.layer_scale:
      return x
    scale = self.param(name, nn.initializers.constant(1e-5), x.shape[-1:])
    return x * scale.astype(x.dtype)[None, None]


class _Attention(nn.Module):
  """Multi-head attention; `rank` of LoRA's updates, scaled by 1, or 0."""

  config: Config
  dtype: Any
  rank: int = 0

  @nn.compact
  def __call__(self, query: jax.Array, x: jax.Array, angles: Any) -> jax.Array:
    width, parts = self.config.features, []
    dense = functools.partial(nn.Dense, dtype=self.dtype)
    for name, source in (("query", query), ("key", x), ("value", x)):
      has_bias = self.config.key_bias or name != "key"
      part = dense(width, has_bias, kernel_init=_start, name=name)(source)
      if self.rank and name != "key":
        lora = f"tuned_lora_{name}"
        down = dense(
          self.rank, False, kernel_init=_uniform, name=f"{lora}_down"
        )
        up = dense(width, False, kernel_init=_zeros, name=f"{lora}_up")
        part = part + up(down(source))
      part = part.reshape(*part.shape[:2], self.config.heads, -1)
      if angles is not None and name != "value":
        part = _turned(part, angles)
      parts.append(part)
    y = _attended(*parts).reshape(query.shape)
    return dense(width, kernel_init=_start, name="out")(y)


class _Mlp(nn.Module):
  config: Config
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    width = self.config.features
    dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=_start)
    y = _ACTIVATIONS[self.config.activation](dense(4 * width, name="in")(x))
    return dense(width, name="out")(y)


class _Adapter(nn.Module):
  """AdaptFormer: `s up(relu(down(norm(x))))`, `up` 0 and s 1 at the start."""

  config: Config
  dtype: Any
  width: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dense = functools.partial(nn.Dense, dtype=self.dtype)
    y = _norm(self.config, "norm", x).astype(self.dtype)
    y = nn.relu(dense(self.width, kernel_init=_uniform, name="down")(y))
    y = dense(x.shape[-1], kernel_init=_zeros, name="up")(y)
    return self.param("scale", nn.initializers.ones, ()).astype(y.dtype) * y


class _Pool(nn.Module):
  config: Config
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    probe = self.param("probe", _start, x.shape[-1:]).astype(self.dtype)
    query = jnp.broadcast_to(probe, (len(x), 1, x.shape[-1]))
    kind = self.config, self.dtype
    x = _Attention(*kind, name="attention")(query, x, None)
    y = _norm(self.config, "norm", x).astype(self.dtype)
    y = _Mlp(*kind, name="mlp")(y)
    return (x + y)[:, 0].astype(jnp.float32)


def _norm(config: Config, name: str, x: jax.Array) -> jax.Array:
  norm = nn.LayerNorm(config.epsilon, use_fast_variance=False, name=name)
  return norm(x.astype(jnp.float32))


def _attended(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  """Attends with logits in fp32; all are `[B, T, heads, width]`."""
  q = q * (1 / math.sqrt(q.shape[-1]))
  scores = jnp.einsum(
    "bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32
  )
  shares = nn.softmax(scores).astype(v.dtype)
  return jnp.einsum("bhqk,bkhd->bqhd", shares, v)


def _prepended(tokens: jax.Array, x: jax.Array) -> jax.Array:
  """Puts the same `[T, D]` before each row of `[B, N, D]`."""
  tokens = jnp.broadcast_to(tokens[None], (len(x), *tokens.shape))
  return jnp.concatenate([tokens.astype(x.dtype), x], axis=1)


def _angles(rows: int, columns: int, width: int) -> np.ndarray:
  """Returns DINOv3's angles of RoPE, fp32 `[rows * columns, width]`.

  The centre of a patch is at (y, x) in [-1, 1]. A quarter of the channels turns
  with y, another with x; the second half are their partners.
  """
  turns = 2 * np.pi / _PERIOD ** np.arange(0, 1, 4 / width)
  y, x = ((2 * np.arange(n) + 1) / n - 1 for n in (rows, columns))
  places = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)
  angles = places[..., None] * turns
  return np.tile(angles.reshape(rows * columns, -1), 2).astype(np.float32)


def _turned(x: jax.Array, angles: np.ndarray) -> jax.Array:
  """Turns the last tokens of `[B, T, heads, width]`, in fp32."""
  others = x.shape[1] - len(angles)
  angles = np.pad(angles, ((others, 0), (0, 0)))[None, :, None]
  wide = x.astype(jnp.float32)
  first, second = jnp.split(wide, 2, axis=-1)
  partner = jnp.concatenate([-second, first], axis=-1)
  return (wide * np.cos(angles) + partner * np.sin(angles)).astype(x.dtype)

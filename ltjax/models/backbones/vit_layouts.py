"""Names of Vision Transformers' tensors in their published files."""

from __future__ import annotations

import functools
import math
import re
from typing import NamedTuple

import numpy as np

from ltjax.models.backbones import weights


class Names(NamedTuple):
  """How a layout names tensors.

  Attributes:
    layout: its name.
    table: our names, of leaves or of modules, to theirs; `{}` is the block.
    prefix: of all of theirs.
    unused: pattern of the tensors that are not part of the backbone.
    flax: kernels are those of Flax, not of PyTorch.
  """

  layout: str
  table: dict[str, str]
  prefix: str = ""
  unused: str = r"$^"
  flax: bool = False


def layout(
  names: Names, side: int, *, others: int, antialias: bool
) -> weights.Layout:
  """Returns a layout for one image size.

  A table of positions of another size is resized, bicubic as PyTorch does.

  Args:
    names: of the tensors.
    side: patches along a side of the image.
    others: positions before those of the patches, 1 with a class token.
    antialias: whether the kernel widens where the table shrinks.
  """
  table = names.table
  positions = functools.partial(
    _positions, side=side, others=others, antialias=antialias
  )
  leaves = {} if names.flax else {"kernel": "weight", "scale": "weight"}

  def source(path: str) -> weights.Source:
    index = "".join(re.findall(r"/blocks_(\d+)/", path))
    key = re.sub(r"blocks_\d+", "blocks", path.removeprefix("params/"))
    if key in table:
      change = {"position": positions, "registers": _rows}.get(key, _vector)
      return weights.Source((names.prefix + table[key].format(index),), change)
    module, _, leaf = key.rpartition("/")
    name = names.prefix + table[module].format(index) + leaves.get(leaf, leaf)
    if names.flax:
      change = functools.partial(_merged, key=key)
    elif key == "patch/kernel":
      change = weights.convolution
    else:
      together = [other for other in table if table[other] == table[module]]
      place = together.index(module)
      change = functools.partial(_part, place=place, count=len(together))
    return weights.Source((name,), change)

  marker = names.prefix + table["cls" if others else "position"]
  return weights.Layout(names.layout, marker, source, names.unused)


def _vector(tensor: np.ndarray) -> np.ndarray:
  return tensor.reshape(tensor.shape[-1:])


def _rows(tensor: np.ndarray) -> np.ndarray:
  return tensor.reshape(tensor.shape[-2:])


def _part(tensor: np.ndarray, place: int, count: int) -> np.ndarray:
  """Returns the kernel or bias of one of the layers of a PyTorch linear one."""
  return np.split(tensor, count)[place].T


def _merged(tensor: np.ndarray, key: str) -> np.ndarray:
  """Returns a tensor of Flax with its axes of heads and of their width as one.

  These are a kernel's last axes, of `out` its first.
  """
  if key == "patch/kernel":
    return tensor
  if not key.endswith("kernel"):
    return tensor.reshape(-1)
  rows = -1 if key.endswith("out/kernel") else len(tensor)
  return tensor.reshape(rows, -1 if rows > 0 else tensor.shape[-1])


def _positions(
  tensor: np.ndarray, side: int, others: int, antialias: bool
) -> np.ndarray:
  """Returns the table for `side**2` patches; `others` before them stay."""
  table = _rows(tensor).astype(np.float32)
  old = math.isqrt(max(0, len(table) - others))
  if old == side:
    return table
  grid = table[others:].reshape(old, old, -1)
  taps = _taps(old, side, antialias)
  grid = np.einsum("ih,jw,hwd->ijd", taps, taps, grid, optimize=True)
  grid = grid.reshape(side * side, -1)
  return np.concatenate([table[:others], grid.astype(np.float32)])


def _taps(old: int, size: int, antialias: bool) -> np.ndarray:
  """Returns the weights `[size, old]` of PyTorch's bicubic interpolation.

  Beyond the ends lie copies of them; with antialiasing the kernel is as wide as
  the steps, of another shape, and nothing lies there.

  Source: Keys (1981), "Cubic convolution interpolation for digital image
    processing", with a = -3/4, or -1/2 with antialiasing.
  """
  a, stretch = (-0.5, max(1.0, old / size)) if antialias else (-0.75, 1.0)
  centers = (np.arange(size)[:, None] + 0.5) * old / size - 0.5
  places = np.arange(-2, old + 2)
  x = np.abs(places - centers) / stretch
  near = (a + 2) * x**3 - (a + 3) * x**2 + 1
  far = a * (x**3 - 5 * x**2 + 8 * x - 4)
  wide = np.where(x <= 1, near, np.where(x < 2, far, 0))
  if antialias:
    return wide[:, 2:-2] / wide[:, 2:-2].sum(axis=1, keepdims=True)
  taps = wide[:, 2:-2]
  taps[:, 0] += wide[:, :2].sum(axis=1)
  taps[:, -1] += wide[:, -2:].sum(axis=1)
  return taps


# The order in which `_table` takes names.
_BLOCK = (
  *("norm1", "attention/query", "attention/key", "attention/value"),
  *("attention/out", "norm2", "mlp/in", "mlp/out"),
  *("layer_scale1", "layer_scale2"),
)
_POOL = (
  *("attention/query", "attention/key", "attention/value", "attention/out"),
  *("norm", "mlp/in", "mlp/out", "probe"),
)


def _table(
  prefix: str, block: str, pool: str = "", **others: str
) -> dict[str, str]:
  """Returns a table: the block's names and those of the pool, in order."""
  blocks = {
    f"blocks/{ours}": prefix + theirs
    for ours, theirs in zip(_BLOCK, block.split())
  }
  pools = {f"pool/{ours}": name for ours, name in zip(_POOL, pool.split())}
  return others | blocks | pools


TIMM = _table(
  "blocks.{}.",
  "norm1. attn.qkv. attn.qkv. attn.qkv. attn.proj. norm2. mlp.fc1. mlp.fc2."
  " ls1.gamma ls2.gamma",
  "attn_pool.q. attn_pool.kv. attn_pool.kv. attn_pool.proj. attn_pool.norm."
  " attn_pool.mlp.fc1. attn_pool.mlp.fc2. attn_pool.latent",
  cls="cls_token",
  registers="register_tokens",
  position="pos_embed",
  patch="patch_embed.proj.",
  pre_norm="norm_pre.",
  norm="norm.",
)
_EMBEDDINGS = {
  "cls": "embeddings.cls_token",
  "registers": "embeddings.register_tokens",
  "position": "embeddings.position_embeddings",
  "patch": "embeddings.patch_embeddings.projection.",
  "norm": "layernorm.",
}
_ATTENTION = (
  "attention.attention.query. attention.attention.key."
  " attention.attention.value. attention.output.dense."
)
DINOV2 = _table(
  "encoder.layer.{}.",
  f"norm1. {_ATTENTION} norm2. mlp.fc1. mlp.fc2."
  " layer_scale1.lambda1 layer_scale2.lambda1",
  **_EMBEDDINGS,
)
VIT = _table(
  "encoder.layer.{}.",
  f"layernorm_before. {_ATTENTION} layernorm_after. intermediate.dense."
  " output.dense.",
  **_EMBEDDINGS,
)
DINOV3 = _table(
  "layer.{}.",
  "norm1. attention.q_proj. attention.k_proj. attention.v_proj."
  " attention.o_proj. norm2. mlp.up_proj. mlp.down_proj."
  " layer_scale1.lambda1 layer_scale2.lambda1",
  cls="embeddings.cls_token",
  registers="embeddings.register_tokens",
  patch="embeddings.patch_embeddings.",
  norm="norm.",
)
CLIP_VISION = _table(
  "encoder.layers.{}.",
  "layer_norm1. self_attn.q_proj. self_attn.k_proj. self_attn.v_proj."
  " self_attn.out_proj. layer_norm2. mlp.fc1. mlp.fc2.",
  "head.attention.in_proj_ head.attention.in_proj_ head.attention.in_proj_"
  " head.attention.out_proj. head.layernorm. head.mlp.fc1. head.mlp.fc2."
  " head.probe",
  cls="embeddings.class_embedding",
  position="embeddings.position_embedding.weight",
  patch="embeddings.patch_embedding.",
  pre_norm="pre_layrnorm.",
  norm="post_layernorm.",
)
OPEN_CLIP = _table(
  "transformer.resblocks.{}.",
  "ln_1. attn.in_proj_ attn.in_proj_ attn.in_proj_ attn.out_proj. ln_2."
  " mlp.c_fc. mlp.c_proj.",
  cls="class_embedding",
  position="positional_embedding",
  patch="conv1.",
  pre_norm="ln_pre.",
  norm="ln_post.",
)


def _flax(position: str, attention: str, norm2: str, mlp: str, pool: str = ""):
  """Returns the table of Google's files, whose modules are numbered."""
  query, key, value, out = (
    f"MultiHeadDotProductAttention_{attention}/{name}/"
    for name in ("query", "key", "value", "out")
  )
  return _table(
    "Transformer/encoderblock_{}/",
    f"LayerNorm_0/ {query} {key} {value} {out} LayerNorm_{norm2}/"
    f" MlpBlock_{mlp}/Dense_0/ MlpBlock_{mlp}/Dense_1/",
    pool,
    cls="cls",
    position=position,
    patch="embedding/",
    norm="Transformer/encoder_norm/",
  )


OLD = _flax("Transformer/posembed_input/pos_embedding", "1", "2", "3")
NEW = _flax("pos_embedding", "0", "1", "0")
_HEAD = "MAPHead_0/MultiHeadDotProductAttention_0/"
POOLED = _flax(
  *("pos_embedding", "0", "1", "0"),
  f"{_HEAD}query/ {_HEAD}key/ {_HEAD}value/ {_HEAD}out/ MAPHead_0/LayerNorm_0/"
  " MAPHead_0/MlpBlock_0/Dense_0/ MAPHead_0/MlpBlock_0/Dense_1/"
  " MAPHead_0/probe",
)
# DINOv3 by the names of Meta.
STORAGE = TIMM | {"registers": "storage_tokens"}

"""The families of Vision Transformers whose weights are published.

Each is taken as its users take it: the class token after the last norm, and of
SigLIP what its pooling attention reads. CLIP's is not projected into the space
of its texts; `projection` returns the matrix that does it. `vit_*_clip` are for
weights trained with QuickGELU (OpenAI's, DFN's, MetaCLIP's), `vit_*_openclip`
for others of OpenCLIP (LAION's, DataComp's).

A table of positions of another image size is resized, bicubic and without
antialiasing, as transformers does; with it for DINOv2 with registers.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import math
import re
from typing import Any, NamedTuple

import numpy as np

from ltjax.models.backbones import vit, weights
from ltjax.models.backbones.architecture import HALF, IMAGENET, Architecture

_CLIP = (
  (0.48145466, 0.4578275, 0.40821073),
  (0.26862954, 0.26130258, 0.27577711),
)
# Channels, blocks and heads.
_SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16)}
# Tensors of a projection.
_PROJECTIONS = {
  "visual.proj": weights.same,
  "visual_projection.weight": weights.transposed,
}


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


class Family(NamedTuple):
  """What the sizes of a family share.

  Attributes:
    settings: of `vit.Config`.
    normalization: as of `Architecture`.
    names: of its layouts.
    antialias: whether a table of positions is smoothed before it shrinks.
  """

  settings: dict[str, Any]
  normalization: Any
  names: tuple[Names, ...]
  antialias: bool = False


def architecture(
  family: Family, patch: int, features: int, depth: int, heads: int
) -> Architecture:
  """Returns a family's architecture of some size.

  Args:
    family: one of `FAMILIES`.
    patch: pixels of a patch's side.
    features: channels.
    depth: blocks.
    heads: of each attention.
  """
  config = vit.Config(patch, features, depth, heads, **family.settings)

  def module(size: int, dtype: Any, tune: str, width: int) -> vit.ViT:
    if size < patch or size % patch:
      raise ValueError(
        f"image size: {size} pixels are no multiple of a patch's {patch}; take"
        f" {max(1, round(size / patch)) * patch}."
      )
    return vit.ViT(config, dtype, tune, width)

  def layouts(size: int) -> tuple[weights.Layout, ...]:
    resize = functools.partial(
      _positions,
      side=size // patch,
      others=int(not config.pooled),
      antialias=family.antialias,
    )
    marker = "position" if config.pooled else "cls"
    return tuple(_layout(names, resize, marker) for names in family.names)

  return Architecture(
    module=module,
    feature_dim=features,
    size=224,
    stride=patch,
    normalization=family.normalization,
    resample="bicubic",
    layouts=layouts,
    last_block=rf"params/(blocks_{depth - 1}|norm|pool)/.*",
    tunes=vit.TUNES,
  )


def projection(tensors: weights.Tensors) -> np.ndarray:
  """Returns CLIP's map from features to the space of its texts, fp32 `[D, P]`.

  Args:
    tensors: of the file.

  Raises:
    ValueError: if it holds none.
  """
  for name, change in _PROJECTIONS.items():
    if name in tensors:
      return change(np.asarray(tensors[name], np.float32))
  raise ValueError(
    "the weights hold no projection into the space of texts"
    f" ({' or '.join(_PROJECTIONS)}); take a file of CLIP with it."
  )


def _layout(
  names: Names, positions: Callable[..., np.ndarray], marker: str
) -> weights.Layout:
  """Returns a layout; `positions` changes the table of positions."""
  table = names.table
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

  return weights.Layout(
    names.layout, names.prefix + table[marker], source, names.unused
  )


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


_TIMM = _table(
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
_DINOV2 = _table(
  "encoder.layer.{}.",
  f"norm1. {_ATTENTION} norm2. mlp.fc1. mlp.fc2."
  " layer_scale1.lambda1 layer_scale2.lambda1",
  **_EMBEDDINGS,
)
_VIT = _table(
  "encoder.layer.{}.",
  f"layernorm_before. {_ATTENTION} layernorm_after. intermediate.dense."
  " output.dense.",
  **_EMBEDDINGS,
)
_DINOV3 = _table(
  "layer.{}.",
  "norm1. attention.q_proj. attention.k_proj. attention.v_proj."
  " attention.o_proj. norm2. mlp.up_proj. mlp.down_proj."
  " layer_scale1.lambda1 layer_scale2.lambda1",
  cls="embeddings.cls_token",
  registers="embeddings.register_tokens",
  patch="embeddings.patch_embeddings.",
  norm="norm.",
)
_CLIP_VISION = _table(
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
_OPEN_CLIP = _table(
  "transformer.resblocks.{}.",
  "ln_1. attn.in_proj_ attn.in_proj_ attn.in_proj_ attn.out_proj. ln_2."
  " mlp.c_fc. mlp.c_proj.",
  cls="class_embedding",
  position="positional_embedding",
  patch="conv1.",
  pre_norm="ln_pre.",
  norm="ln_post.",
)


def _flax(position: str, attention: str, norm2: str, mlp: str):
  """Returns the table of Google's files, whose modules are numbered."""
  query, key, value, out = (
    f"MultiHeadDotProductAttention_{attention}/{name}/"
    for name in ("query", "key", "value", "out")
  )
  return _table(
    "Transformer/encoderblock_{}/",
    f"LayerNorm_0/ {query} {key} {value} {out} LayerNorm_{norm2}/"
    f" MlpBlock_{mlp}/Dense_0/ MlpBlock_{mlp}/Dense_1/",
    cls="cls",
    position=position,
    patch="embedding/",
    norm="Transformer/encoder_norm/",
  )


_OLD = _flax("Transformer/posembed_input/pos_embedding", "1", "2", "3")
_NEW = _flax("pos_embedding", "0", "1", "0")
_CLASSIFIER = r"(.*/)?(head|pre_logits)[./].*"
_MASK = r"(.*\.)?mask_token"
_TEXTS = r"text_model\..*|\w+_projection\.weight|logit_\w+|.*position_ids"
_NOT_VISUAL = r"(?!visual\.).*|visual\.proj"
_VITS = tuple(
  Names("transformers", _VIT, prefix, r"(pooler|classifier|decoder)\..*")
  for prefix in ("", "vit.")
)
_CLIPS = (
  Names("OpenCLIP", _OPEN_CLIP, "visual.", _NOT_VISUAL),
  Names("timm", _TIMM, unused=_CLASSIFIER),
  *(
    Names("transformers", _CLIP_VISION, p, _TEXTS)
    for p in ("vision_model.", "")
  ),
)
_DINOV2S = (
  Names("DINOv2", _TIMM, unused=_MASK),
  Names("transformers", _DINOV2, unused=_MASK),
)
_CLIP_SETTINGS = {"pre_norm": True, "epsilon": 1e-5}

FAMILIES = {
  "in21k": Family(
    {},
    HALF,
    (
      Names("timm", _TIMM, unused=_CLASSIFIER),
      Names("vision_transformer", _OLD, unused=_CLASSIFIER, flax=True),
      Names("big_vision", _NEW, "params/", _CLASSIFIER, flax=True),
      *_VITS,
    ),
  ),
  "dinov2": Family({"layer_scale": True}, IMAGENET, _DINOV2S),
  "dinov2_reg": Family(
    {"layer_scale": True, "registers": 4}, IMAGENET, _DINOV2S, antialias=True
  ),
  "dinov3": Family(
    {
      "layer_scale": True,
      "registers": 4,
      "rotary": True,
      "key_bias": False,
      "epsilon": 1e-5,
    },
    IMAGENET,
    (Names("transformers", _DINOV3, unused=_MASK),),
  ),
  "clip": Family(_CLIP_SETTINGS | {"activation": "quick_gelu"}, _CLIP, _CLIPS),
  "openclip": Family(_CLIP_SETTINGS, _CLIP, _CLIPS),
  "siglip": Family(
    {"pooled": True, "activation": "gelu_tanh"},
    HALF,
    (
      Names("timm", _TIMM),
      Names("OpenCLIP", _TIMM, "visual.trunk.", _NOT_VISUAL),
      *_CLIPS[2:],
    ),
  ),
  "mae": Family(
    {}, IMAGENET, (Names("MAE", _TIMM, unused=r"decoder_.*|mask_token"), *_VITS)
  ),
}
# Sizes and patches of each family.
_PUBLISHED = {
  "in21k": "s16 b16 l16",
  "dinov2": "s14 b14 l14",
  "dinov2_reg": "s14 b14 l14",
  "dinov3": "s16 b16 l16",
  "clip": "b16 b32 l14",
  "openclip": "b16 b32 l14",
  "siglip": "b16",
  "mae": "b16 l16",
}
ARCHITECTURES = {
  f"vit_{form}_{family}": architecture(
    FAMILIES[family], int(form[1:]), *_SIZES[form[0]]
  )
  for family, forms in _PUBLISHED.items()
  for form in forms.split()
}

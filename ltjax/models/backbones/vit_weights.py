"""The families of Vision Transformers whose weights are published.

Each is taken as its users take it: the class token after the last norm, and of
SigLIP what its pooling attention reads. CLIP's is not projected into the space
of its texts; `projection` returns the matrix that does it. `vit_*_clip` are for
weights trained with QuickGELU (OpenAI's, DFN's, MetaCLIP's), `vit_*_openclip`
for others of OpenCLIP (LAION's, DataComp's).

A table of positions of another image size is resized as transformers does,
without antialiasing save for DINOv2 with registers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ltjax.models.backbones import vit, vit_layouts, weights
from ltjax.models.backbones.architecture import HALF, IMAGENET, Architecture
from ltjax.models.backbones.vit_layouts import Names

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
    return tuple(
      vit_layouts.layout(
        names,
        size // patch,
        others=int(not config.pooled),
        antialias=family.antialias,
      )
      for names in family.names
    )

  return Architecture(
    module=module,
    feature_dim=features,
    size=224,
    stride=patch,
    normalization=family.normalization,
    resample="bicubic",
    layouts=layouts,
    last_block=rf"(blocks_{depth - 1}|norm|pool)/.*",
    tunes=vit.TUNES,
    whole=True,
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


_CLASSIFIER = r"(.*/)?(head|pre_logits)[./].*"
_MASK = r"(.*\.)?mask_token"
_TEXTS = r"text_model\..*|\w+_projection\.weight|logit_\w+|.*position_ids"
_NOT_VISUAL = r"(?!visual\.).*|visual\.proj"
_VITS = tuple(
  Names(
    "transformers", vit_layouts.VIT, prefix, r"(pooler|classifier|decoder)\..*"
  )
  for prefix in ("", "vit.")
)
_CLIPS = (
  Names("OpenCLIP", vit_layouts.OPEN_CLIP, "visual.", _NOT_VISUAL),
  Names("timm", vit_layouts.TIMM, unused=_CLASSIFIER),
  *(
    Names("transformers", vit_layouts.CLIP_VISION, p, _TEXTS)
    for p in ("vision_model.", "")
  ),
)
_DINOV2S = (
  Names("DINOv2", vit_layouts.TIMM, unused=_MASK),
  Names("transformers", vit_layouts.DINOV2, unused=_MASK),
)
_CLIP_SETTINGS = {"pre_norm": True, "epsilon": 1e-5}

FAMILIES = {
  "in21k": Family(
    {},
    HALF,
    (
      Names("timm", vit_layouts.TIMM, unused=_CLASSIFIER),
      Names(
        "vision_transformer", vit_layouts.OLD, unused=_CLASSIFIER, flax=True
      ),
      Names("big_vision", vit_layouts.NEW, "params/", _CLASSIFIER, flax=True),
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
    (
      Names("transformers", vit_layouts.DINOV3, unused=_MASK),
      # Keys have no bias there: a mask makes it 0.
      Names(
        "DINOv3",
        vit_layouts.STORAGE,
        unused=rf"{_MASK}|rope_embed\.periods|.*\.bias_mask",
      ),
    ),
  ),
  "clip": Family(_CLIP_SETTINGS | {"activation": "quick_gelu"}, _CLIP, _CLIPS),
  "openclip": Family(_CLIP_SETTINGS, _CLIP, _CLIPS),
  "siglip": Family(
    {"pooled": True, "activation": "gelu_tanh"},
    HALF,
    (
      Names("timm", vit_layouts.TIMM),
      Names("OpenCLIP", vit_layouts.TIMM, "visual.trunk.", _NOT_VISUAL),
      Names(
        "big_vision",
        vit_layouts.POOLED,
        "params/img/",
        r"(?!params/img/).*",
        flax=True,
      ),
      *_CLIPS[2:],
    ),
  ),
  "mae": Family(
    {},
    IMAGENET,
    (Names("MAE", vit_layouts.TIMM, unused=r"decoder_.*|mask_token"), *_VITS),
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

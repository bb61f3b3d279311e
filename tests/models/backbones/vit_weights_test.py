"""Published names of Vision Transformers against the networks they come from.

Tiny tensors of every layout, drawn by name, must give the features that timm
and transformers computed with them: their literals, and themselves where they
are installed.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models.backbones import vit, vit_weights, weights

D, DEPTH, HEADS, PATCH, SIZE = 16, 2, 2, 4, 12
GRID = SIZE // PATCH


def linear(name, out, width=D, joint="."):
  return {f"{name}{joint}weight": (out, width), f"{name}{joint}bias": (out,)}


def norm(name):
  return {f"{name}.weight": (D,), f"{name}.bias": (D,)}


def patch(name, bias=True):
  shape = {f"{name}.weight": (D, 3, PATCH, PATCH)}
  return shape | ({f"{name}.bias": (D,)} if bias else {})


def blocks(prefix, *parts):
  return {
    prefix.format(index) + name: shape
    for index in range(DEPTH)
    for part in parts
    for name, shape in part.items()
  }


def prefixed(prefix, names):
  return {prefix + name: shape for name, shape in names.items()}


def timm(*, scale=False, others=1, grid=GRID):
  scales = {"ls1.gamma": (D,), "ls2.gamma": (D,)} if scale else {}
  return {
    "pos_embed": (1, grid**2 + others, D),
    **({"cls_token": (1, 1, D)} if others else {}),
    **patch("patch_embed.proj"),
    **blocks(
      "blocks.{}.",
      norm("norm1"),
      linear("attn.qkv", 3 * D),
      linear("attn.proj", D),
      norm("norm2"),
      linear("mlp.fc1", 4 * D),
      linear("mlp.fc2", D, 4 * D),
      scales,
    ),
    **norm("norm"),
  }


TIMM_POOL = {
  "attn_pool.latent": (1, 1, D),
  **linear("attn_pool.q", D),
  **linear("attn_pool.kv", 2 * D),
  **linear("attn_pool.proj", D),
  **norm("attn_pool.norm"),
  **linear("attn_pool.mlp.fc1", 4 * D),
  **linear("attn_pool.mlp.fc2", D, 4 * D),
}


def google(position, attention, second, mlp):
  heads = (D, HEADS, D // HEADS)
  attention = f"MultiHeadDotProductAttention_{attention}/"
  inner = {
    "LayerNorm_0/scale": (D,),
    "LayerNorm_0/bias": (D,),
    f"LayerNorm_{second}/scale": (D,),
    f"LayerNorm_{second}/bias": (D,),
    f"{attention}out/kernel": (*heads[1:], D),
    f"{attention}out/bias": (D,),
    f"MlpBlock_{mlp}/Dense_0/kernel": (D, 4 * D),
    f"MlpBlock_{mlp}/Dense_0/bias": (4 * D,),
    f"MlpBlock_{mlp}/Dense_1/kernel": (4 * D, D),
    f"MlpBlock_{mlp}/Dense_1/bias": (D,),
  }
  for name in ("query", "key", "value"):
    inner[f"{attention}{name}/kernel"] = heads
    inner[f"{attention}{name}/bias"] = heads[1:]
  return {
    "cls": (1, 1, D),
    position: (1, GRID**2 + 1, D),
    "embedding/kernel": (PATCH, PATCH, 3, D),
    "embedding/bias": (D,),
    "Transformer/encoder_norm/scale": (D,),
    "Transformer/encoder_norm/bias": (D,),
    **blocks("Transformer/encoderblock_{}/", inner),
    "head/kernel": (D, 5),
    "head/bias": (5,),
  }


def transformers_vit(inner, grid=GRID):
  attention = "attention.attention."
  return {
    "embeddings.cls_token": (1, 1, D),
    "embeddings.position_embeddings": (1, grid**2 + 1, D),
    **patch("embeddings.patch_embeddings.projection"),
    **blocks(
      "encoder.layer.{}.",
      *(linear(attention + n, D) for n in ("query", "key", "value")),
      linear("attention.output.dense", D),
      inner,
    ),
    **norm("layernorm"),
  }


VIT = transformers_vit(
  {
    **norm("layernorm_before"),
    **norm("layernorm_after"),
    **linear("intermediate.dense", 4 * D),
    **linear("output.dense", D, 4 * D),
  }
)
DINOV2_BLOCK = {
  **norm("norm1"),
  **norm("norm2"),
  **linear("mlp.fc1", 4 * D),
  **linear("mlp.fc2", D, 4 * D),
  "layer_scale1.lambda1": (D,),
  "layer_scale2.lambda1": (D,),
}
DINOV3 = {
  "embeddings.cls_token": (1, 1, D),
  "embeddings.mask_token": (1, 1, D),
  "embeddings.register_tokens": (1, 4, D),
  **patch("embeddings.patch_embeddings"),
  **blocks(
    "layer.{}.",
    norm("norm1"),
    norm("norm2"),
    linear("attention.q_proj", D),
    {"attention.k_proj.weight": (D, D)},
    linear("attention.v_proj", D),
    linear("attention.o_proj", D),
    linear("mlp.up_proj", 4 * D),
    linear("mlp.down_proj", D, 4 * D),
    {"layer_scale1.lambda1": (D,), "layer_scale2.lambda1": (D,)},
  ),
  **norm("norm"),
}


def tower(others):
  """Of the image towers of CLIP and SigLIP in transformers."""
  return {
    "embeddings.position_embedding.weight": (GRID**2 + others, D),
    **patch("embeddings.patch_embedding", bias=not others),
    **blocks(
      "encoder.layers.{}.",
      norm("layer_norm1"),
      norm("layer_norm2"),
      *(linear(f"self_attn.{n}_proj", D) for n in ("q", "k", "v", "out")),
      linear("mlp.fc1", 4 * D),
      linear("mlp.fc2", D, 4 * D),
    ),
    **norm("post_layernorm"),
  }


CLIP = {
  **tower(1),
  "embeddings.class_embedding": (D,),
  **norm("pre_layrnorm"),
}
SIGLIP = {
  **tower(0),
  "head.probe": (1, 1, D),
  **linear("head.attention.in_proj", 3 * D, joint="_"),
  **linear("head.attention.out_proj", D),
  **norm("head.layernorm"),
  **linear("head.mlp.fc1", 4 * D),
  **linear("head.mlp.fc2", D, 4 * D),
}
OPEN_CLIP = {
  "visual.class_embedding": (D,),
  "visual.positional_embedding": (GRID**2 + 1, D),
  "visual.proj": (D, 6),
  **patch("visual.conv1", bias=False),
  **norm("visual.ln_pre"),
  **norm("visual.ln_post"),
  **blocks(
    "visual.transformer.resblocks.{}.",
    norm("ln_1"),
    norm("ln_2"),
    linear("attn.in_proj", 3 * D, joint="_"),
    linear("attn.out_proj", D),
    linear("mlp.c_fc", 4 * D),
    linear("mlp.c_proj", D, 4 * D),
  ),
}
TIMM_CLIP = {
  **{n: s for n, s in timm().items() if n != "patch_embed.proj.bias"},
  **norm("norm_pre"),
}
DINOV2 = transformers_vit(DINOV2_BLOCK, grid=7)
MASK = {"embeddings.mask_token": (1, D)}
REGISTERS = {"embeddings.register_tokens": (1, 4, D)}
TEXTS = {"text_model.final_layer_norm.bias": (D,), "logit_scale": ()}
TIMM_SIGLIP = {**timm(others=0), **TIMM_POOL}

# Family, names, and the two libraries' network with its settings. The tables of
# positions of DINOv2 are of a larger image, 7 x 7 patches.
CASES = {
  "in21k-timm": (
    "in21k",
    timm() | linear("head", 5),
    ("timm", {}),
  ),
  "in21k-vision_transformer": (
    "in21k",
    google("Transformer/posembed_input/pos_embedding", 1, 2, 3),
    ("timm", {}),
  ),
  "in21k-big_vision": (
    "in21k",
    prefixed("params/", google("pos_embedding", 0, 1, 0)),
    ("timm", {}),
  ),
  "in21k-transformers": (
    "in21k",
    VIT | linear("pooler.dense", D),
    ("ViTModel", {"intermediate_size": 4 * D, "layer_norm_eps": 1e-6}),
  ),
  "dinov2-hub": (
    "dinov2",
    timm(scale=True) | {"mask_token": (1, D)},
    ("timm", {"init_values": 1.0}),
  ),
  "dinov2-transformers": (
    "dinov2",
    DINOV2 | MASK,
    ("Dinov2Model", {"image_size": 7 * PATCH}),
  ),
  "dinov2_reg-hub": (
    "dinov2_reg",
    timm(scale=True, grid=7)
    | {"mask_token": (1, D), "register_tokens": (1, 4, D)},
    ("timm", {"init_values": 1.0, "reg_tokens": 4, "no_embed_class": True}),
  ),
  "dinov2_reg-transformers": (
    "dinov2_reg",
    DINOV2 | MASK | REGISTERS,
    ("Dinov2WithRegistersModel", {"image_size": 7 * PATCH}),
  ),
  "dinov3-transformers": (
    "dinov3",
    DINOV3,
    ("DINOv3ViTModel", {"intermediate_size": 4 * D, "num_register_tokens": 4}),
  ),
  "clip-openai": (
    "clip",
    OPEN_CLIP | {"logit_scale": (), "ln_final.bias": (D,)},
    ("timm", {"pre_norm": True, "act_layer": "quick_gelu", "eps": 1e-5}),
  ),
  "clip-timm": (
    "clip",
    TIMM_CLIP | linear("head", 6),
    ("timm", {"pre_norm": True, "act_layer": "quick_gelu", "eps": 1e-5}),
  ),
  "clip-transformers": (
    "clip",
    prefixed("vision_model.", CLIP)
    | {"visual_projection.weight": (6, D)}
    | TEXTS,
    ("CLIPVisionModel", {"intermediate_size": 4 * D}),
  ),
  "openclip-transformers": (
    "openclip",
    CLIP,
    ("CLIPVisionModel", {"intermediate_size": 4 * D, "hidden_act": "gelu"}),
  ),
  "siglip-transformers": (
    "siglip",
    SIGLIP,
    ("SiglipVisionModel", {"intermediate_size": 4 * D}),
  ),
  "siglip-full": (
    "siglip",
    prefixed("vision_model.", SIGLIP) | TEXTS | {"logit_bias": (1,)},
    ("SiglipVisionModel", {"intermediate_size": 4 * D}),
  ),
  "siglip-timm": (
    "siglip",
    TIMM_SIGLIP,
    ("timm", {"act_layer": "gelu_tanh", "global_pool": "map"}),
  ),
  "siglip-open_clip": (
    "siglip",
    prefixed("visual.trunk.", TIMM_SIGLIP) | {"text.ln_final.bias": (D,)},
    ("timm", {"act_layer": "gelu_tanh", "global_pool": "map"}),
  ),
  "mae-authors": (
    "mae",
    timm() | {"mask_token": (1, 1, D), "decoder_pos_embed": (1, 10, 8)},
    ("timm", {}),
  ),
  "mae-transformers": (
    "mae",
    prefixed("vit.", VIT) | {"decoder.mask_token": (1, 1, 8)},
    (
      "ViTMAEModel",
      {
        "intermediate_size": 4 * D,
        "mask_ratio": 0.0,
        "layer_norm_eps": 1e-6,
      },
    ),
  ),
}
# Three features of each of two images, as the libraries computed them.
EXPECTED = {
  "in21k-timm": [[0.53348, 0.17805, 0.61746], [0.86501, 0.88846, 0.36620]],
  "in21k-vision_transformer": [
    [0.14554, 1.42568, -1.71064],
    [-0.59219, 1.66006, -1.90292],
  ],
  "in21k-big_vision": [
    [-0.02609, 0.64047, -1.45464],
    [-0.96937, 1.36700, -0.64749],
  ],
  "in21k-transformers": [
    [0.63034, 0.10541, -0.60580],
    [-1.38532, -0.10019, -1.25950],
  ],
  "dinov2-hub": [[0.73213, -0.86458, -1.83608], [0.43446, -1.39520, -1.54939]],
  "dinov2-transformers": [
    [1.36689, -0.28523, 0.04422],
    [1.52814, 0.65665, 0.62839],
  ],
  "dinov2_reg-hub": [
    [0.68797, -0.93087, -1.68023],
    [0.58203, -1.29498, -1.63623],
  ],
  "dinov2_reg-transformers": [
    [-0.71988, -0.22352, -0.26175],
    [-1.18198, 0.69164, -0.98625],
  ],
  "dinov3-transformers": [
    [0.61039, 0.52232, 0.57492],
    [-0.27396, -0.80151, 1.09021],
  ],
  "clip-openai": [[0.60862, -0.44548, 1.98409], [0.48182, -0.19865, 2.02898]],
  "clip-timm": [[0.48863, 0.60683, 0.61755], [0.27203, 0.65324, 0.26627]],
  "clip-transformers": [
    [0.58114, -0.49656, 1.88114],
    [-0.02426, -0.77628, 1.66254],
  ],
  "openclip-transformers": [
    [-0.50592, -0.05423, -0.36484],
    [-0.50751, -0.67449, -0.59378],
  ],
  "siglip-transformers": [
    [0.20523, -1.13978, -0.58247],
    [0.34199, -1.22989, -0.73056],
  ],
  "siglip-full": [[0.40178, -0.94071, 0.08828], [0.32804, -0.86148, 0.79922]],
  "siglip-timm": [
    [-0.19757, -0.65244, 0.39770],
    [-1.40075, -0.99330, -0.27219],
  ],
  "siglip-open_clip": [
    [-0.45390, 0.62956, 0.37300],
    [-0.85292, 0.96050, 0.43499],
  ],
  "mae-authors": [[0.11071, 0.38350, -0.29235], [-0.01397, -0.53423, 1.10691]],
  "mae-transformers": [
    [-0.32174, 0.54696, 0.00749],
    [0.71378, 0.46278, 1.00315],
  ],
}


def draw(names):
  """Draws tensors in the order of their names; factors are near 1."""
  rng = np.random.default_rng(0)
  factor = re.compile(
    r".*(norm\w*|ln_\w+|LayerNorm_\d)[./](weight|scale)|.*\.(gamma|lambda1)"
  )
  return {
    name: np.asarray(
      rng.normal(bool(factor.fullmatch(name)), 0.2, names[name]), np.float32
    )
    for name in sorted(names)
  }


def images(size=SIZE):
  rng = np.random.default_rng(1)
  return np.float32(rng.uniform(-1, 1, (2, size, size, 3)))


def tiny(family):
  return vit_weights.architecture(
    vit_weights.FAMILIES[family], PATCH, D, DEPTH, HEADS
  )


def filled(family, tensors, size=SIZE):
  architecture = tiny(family)
  module = architecture.module(size, jnp.float32, "all", 0)
  shaped = jax.eval_shape(
    module.init, jax.random.key(0), jnp.asarray(images(size)), False
  )
  layouts = architecture.layouts(size)
  return module, weights.fill(shaped, tensors, layouts, what="a tiny file")


def features(family, tensors):
  module, variables = filled(family, tensors)
  run = jax.jit(module.apply, static_argnums=2)
  return np.asarray(run(variables, images(), False))


@pytest.mark.parametrize("case", CASES)
def test_features_are_those_of_the_library_the_names_come_from(case):
  family, names, _ = CASES[case]
  got = features(family, draw(names))
  assert got.shape == (2, D) and got.dtype == np.float32
  np.testing.assert_allclose(got[:, :3], EXPECTED[case], atol=2e-5)


def channels_first(x):
  import torch

  return torch.from_numpy(x).permute(0, 3, 1, 2)


def from_timm(tensors, settings, folder):
  """Returns what timm computes with tensors whose names it translates."""
  torch = pytest.importorskip("torch")
  pytest.importorskip("timm")
  from timm.models import vision_transformer

  pool = settings.get("global_pool", "token")
  settings = {"class_token": pool == "token", "norm_layer": None} | settings
  if "eps" in settings:
    settings["norm_layer"] = functools.partial(
      torch.nn.LayerNorm, eps=settings.pop("eps")
    )
  model = vision_transformer.VisionTransformer(
    SIZE,
    PATCH,
    num_classes=0,
    embed_dim=D,
    depth=DEPTH,
    num_heads=HEADS,
    **settings,
  ).eval()
  if any("/" in name for name in tensors):
    np.savez(folder / "weights.npz", **tensors)
    model.load_pretrained(str(folder / "weights.npz"))
  else:
    given = {name: torch.from_numpy(x) for name, x in tensors.items()}
    given = vision_transformer.checkpoint_filter_fn(given, model)
    missing, _ = model.load_state_dict(given, strict=False)
    assert not missing
  with torch.no_grad():
    return model(channels_first(images())).numpy()


def from_transformers(name, tensors, settings, folder):
  """Returns what transformers computes with a file of the tensors."""
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  safetensors = pytest.importorskip("safetensors.numpy")
  model_class = getattr(transformers, name)
  config = model_class.config_class(
    **{"hidden_size": D, "num_hidden_layers": DEPTH, "patch_size": PATCH},
    **{"num_attention_heads": HEADS, "image_size": SIZE} | settings,
  )
  config.save_pretrained(folder)
  file = folder / "model.safetensors"
  safetensors.save_file(tensors, file, metadata={"format": "pt"})
  model, loaded = model_class.from_pretrained(folder, output_loading_info=True)
  assert not loaded["missing_keys"]
  with torch.no_grad():
    return model.eval()(channels_first(images()))


def reference(case, folder):
  """Returns the features that the library of a case computes."""
  _, names, (kind, settings) = CASES[case]
  if kind == "timm":
    return from_timm(draw(names), settings, folder)
  found = from_transformers(kind, draw(names), settings, folder)
  if "CLIP" in kind or "Siglip" in kind:
    return found.pooler_output.numpy()
  return found.last_hidden_state[:, 0].numpy()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_literals_are_what_the_library_computes(case, tmp_path):
  family, names, _ = CASES[case]
  expected = reference(case, tmp_path)
  print(f'  "{case}":', np.round(expected[:, :3], 5).tolist(), ",")
  np.testing.assert_allclose(features(family, draw(names)), expected, atol=1e-4)
  np.testing.assert_allclose(expected[:, :3], EXPECTED[case], atol=1e-4)


# Without the classifier, mask token and projection, at 224 pixels, of DINOv2 at
# the 518 of its tables; counted in timm's and transformers' networks.
COUNTS = {
  "vit_s16_in21k": 21665664,
  "vit_b16_in21k": 85798656,
  "vit_l16_in21k": 303301632,
  "vit_s14_dinov2": 22056192,
  "vit_b14_dinov2": 86579712,
  "vit_l14_dinov2": 304367616,
  "vit_s14_dinov2_reg": 22057728,
  "vit_b14_dinov2_reg": 86582784,
  "vit_l14_dinov2_reg": 304371712,
  "vit_s16_dinov3": 21596160,
  "vit_b16_dinov3": 85659648,
  "vit_l16_dinov3": 303128576,
  "vit_b16_clip": 85799424,
  "vit_b32_clip": 87456000,
  "vit_l14_clip": 303179776,
  "vit_b16_openclip": 85799424,
  "vit_b32_openclip": 87456000,
  "vit_l14_openclip": 303179776,
  "vit_b16_siglip": 92884224,
  "vit_b16_mae": 85798656,
  "vit_l16_mae": 303301632,
}


@pytest.mark.parametrize("name", vit_weights.ARCHITECTURES)
def test_architectures_have_as_many_parameters_as_the_published(name):
  architecture = vit_weights.ARCHITECTURES[name]
  size = 518 if "dinov2" in name else architecture.size
  module = architecture.module(size, jnp.bfloat16, "all", 0)
  image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  shaped = jax.eval_shape(
    lambda x: module.init(jax.random.key(0), x, False), image
  )
  counted = sum(leaf.size for leaf in jax.tree.leaves(shaped))
  assert counted == COUNTS[name]
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(shaped))
  out = jax.eval_shape(lambda v, x: module.apply(v, x, False), shaped, image)
  assert out.shape == (1, architecture.feature_dim)
  assert out.dtype == jnp.float32
  assert architecture.size % architecture.stride == 0


@pytest.mark.parametrize(
  "family, name",
  [
    ("dinov2", "Dinov2Config"),
    ("dinov2_reg", "Dinov2WithRegistersConfig"),
    ("dinov3", "DINOv3ViTConfig"),
    ("clip", "CLIPVisionConfig"),
    ("siglip", "SiglipVisionConfig"),
  ],
)
def test_epsilon_and_activation_are_those_of_transformers(family, name):
  config = getattr(pytest.importorskip("transformers"), name)()
  ours = vit.Config(1, 1, 1, 1, **vit_weights.FAMILIES[family].settings)
  names = {"gelu_pytorch_tanh": "gelu_tanh"}
  assert ours.epsilon == config.layer_norm_eps
  assert ours.activation == names.get(config.hidden_act, config.hidden_act)


def test_pictures_are_normalised_as_the_weights_were_trained():
  means = {
    name: architecture.normalization[0][0]
    for name, architecture in vit_weights.ARCHITECTURES.items()
    if "_b" in name
  }
  assert means == {
    "vit_b16_in21k": 0.5,
    "vit_b14_dinov2": 0.485,
    "vit_b14_dinov2_reg": 0.485,
    "vit_b16_dinov3": 0.485,
    "vit_b16_clip": 0.48145466,
    "vit_b32_clip": 0.48145466,
    "vit_b16_openclip": 0.48145466,
    "vit_b32_openclip": 0.48145466,
    "vit_b16_siglip": 0.5,
    "vit_b16_mae": 0.485,
  }


def test_projection_is_that_of_either_layout():
  matrix = np.arange(6.0).reshape(2, 3)
  for tensors in (
    {"visual.proj": np.float16(matrix)},
    {"visual_projection.weight": matrix.T},
  ):
    found = vit_weights.projection(tensors)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, matrix)
  with pytest.raises(ValueError, match="hold no projection .*visual.proj"):
    vit_weights.projection({"conv1.weight": matrix})


@pytest.mark.filterwarnings("ignore")
def test_projected_features_are_those_of_transformers(tmp_path):
  names = CASES["clip-transformers"][1]
  found = from_transformers(
    "CLIPVisionModelWithProjection",
    draw(names),
    {"intermediate_size": 4 * D, "projection_dim": 6},
    tmp_path,
  )
  tensors = draw(names)
  got = features("clip", tensors) @ vit_weights.projection(tensors)
  np.testing.assert_allclose(got, found.image_embeds.numpy(), atol=1e-4)


@pytest.mark.parametrize(
  "family, names, change, told",
  [
    ("in21k", timm(), {"norm.bias": None}, r"1 missing \(norm.bias\)"),
    ("in21k", timm(), {"cls_token": None}, "in a layout that is known"),
    ("in21k", timm(), {"dist_token": (1, 1, D)}, r"1 left over \(dist_token"),
    ("dinov2", timm(), {}, "missing .*blocks.0.ls1.gamma"),
    (
      "in21k",
      timm(),
      {"pos_embed": (1, 12, D)},
      r"mis-shaped \(pos_embed \(12, 16\) for \(10, 16\)",
    ),
    (
      "in21k",
      timm(),
      {"blocks.1.attn.qkv.weight": (3 * D, D - 1)},
      r"3 mis-shaped \(blocks.1.attn.qkv.weight \(15, 16\) for \(16, 16\)",
    ),
    (
      "in21k",
      timm(),
      {"blocks.1.attn.qkv.bias": (3 * D - 1,)},
      r"mis-shaped \(blocks.1.attn.qkv.bias \(47,\) for \(16,\)",
    ),
    (
      "in21k",
      google("Transformer/posembed_input/pos_embedding", 1, 2, 3),
      {"embedding/kernel": (8, 8, 3, D)},
      r"mis-shaped \(embedding/kernel \(8, 8, 3, 16\) for \(4, 4, 3, 16\)",
    ),
    (
      "clip",
      OPEN_CLIP,
      {"visual.attnpool": (D,)},
      "left over .*visual.attnpool",
    ),
    ("siglip", SIGLIP, {"head.probe": None}, r"missing \(head.probe\)"),
    ("dinov3", DINOV3, {"layer.0.attention.k_proj.bias": (D,)}, "left over"),
  ],
)
def test_files_of_something_else_are_refused(family, names, change, told):
  names = {k: s for k, s in (names | change).items() if s is not None}
  with pytest.raises(ValueError, match=told):
    filled(family, draw(names))


@pytest.mark.parametrize("size, instead", [(225, 224), (100, 98), (6, 14)])
def test_sizes_are_multiples_of_the_patch(size, instead):
  architecture = vit_weights.ARCHITECTURES["vit_s14_dinov2"]
  with pytest.raises(ValueError, match=f"{size} pixels .* 14; take {instead}"):
    architecture.module(size, jnp.float32, "all", 0)


def metas(tensors):
  """DINOv3 of transformers by the names of Meta; a bias of keys is masked."""
  plain = {
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.register_tokens": "storage_tokens",
    "embeddings.patch_embeddings.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.bias": "patch_embed.proj.bias",
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
  }
  found = {theirs: tensors[ours] for ours, theirs in plain.items()}
  found["rope_embed.periods"] = np.ones(D // HEADS // 4, np.float32)
  for n in range(DEPTH):
    own, new = f"layer.{n}.", f"blocks.{n}."
    parts = [tensors[f"{own}attention.{x}_proj.weight"] for x in "qkv"]
    found[f"{new}attn.qkv.weight"] = np.concatenate(parts)
    query, value = (tensors[f"{own}attention.{x}_proj.bias"] for x in "qv")
    found[f"{new}attn.qkv.bias"] = np.concatenate([query, query + 1, value])
    mask = np.repeat(np.float32([1, 0, 1]), D)
    found[f"{new}attn.qkv.bias_mask"] = mask
    for ours, theirs in (
      *(("norm1", "norm1"), ("norm2", "norm2")),
      *(("attention.o_proj", "attn.proj"), ("mlp.up_proj", "mlp.fc1")),
      ("mlp.down_proj", "mlp.fc2"),
    ):
      for leaf in ("weight", "bias"):
        found[f"{new}{theirs}.{leaf}"] = tensors[f"{own}{ours}.{leaf}"]
    for m in (1, 2):
      scale = tensors[f"{own}layer_scale{m}.lambda1"]
      found[f"{new}ls{m}.gamma"] = scale
  return found


def googles(tensors):
  """SigLIP of transformers by the names of big_vision, beside a text tower."""
  found = {"params/t": np.ones(1, np.float32)}
  found["params/txt/head/kernel"] = np.ones((D, D), np.float32)

  def put(name, weight, bias, heads=""):
    kernel, shape = weight.T, (HEADS, D // HEADS)
    if heads == "in":
      kernel, bias = kernel.reshape(D, *shape), bias.reshape(shape)
    if heads == "out":
      kernel = kernel.reshape(*shape, D)
    found[f"params/img/{name}/kernel"] = kernel
    found[f"params/img/{name}/bias"] = bias

  def copy(name, ours, heads=""):
    put(name, tensors[f"{ours}.weight"], tensors[f"{ours}.bias"], heads)

  def norm_of(name, ours):
    found[f"params/img/{name}/scale"] = tensors[f"{ours}.weight"]
    found[f"params/img/{name}/bias"] = tensors[f"{ours}.bias"]

  kernel = tensors["embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0)
  found["params/img/embedding/kernel"] = kernel
  bias = tensors["embeddings.patch_embedding.bias"]
  found["params/img/embedding/bias"] = bias
  table = tensors["embeddings.position_embedding.weight"]
  found["params/img/pos_embedding"] = table[None]
  norm_of("Transformer/encoder_norm", "post_layernorm")
  attention = "MultiHeadDotProductAttention_0"
  for n in range(DEPTH):
    own, new = f"encoder.layers.{n}.", f"Transformer/encoderblock_{n}/"
    norm_of(f"{new}LayerNorm_0", f"{own}layer_norm1")
    norm_of(f"{new}LayerNorm_1", f"{own}layer_norm2")
    for name in ("query", "key", "value"):
      short = f"{own}self_attn.{name[0]}_proj"
      copy(f"{new}{attention}/{name}", short, "in")
    copy(f"{new}{attention}/out", f"{own}self_attn.out_proj", "out")
    copy(f"{new}MlpBlock_0/Dense_0", f"{own}mlp.fc1")
    copy(f"{new}MlpBlock_0/Dense_1", f"{own}mlp.fc2")
  head = "MAPHead_0"
  found[f"params/img/{head}/probe"] = tensors["head.probe"]
  weights_of = np.split(tensors["head.attention.in_proj_weight"], 3)
  biases = np.split(tensors["head.attention.in_proj_bias"], 3)
  for name, weight, bias in zip(("query", "key", "value"), weights_of, biases):
    put(f"{head}/{attention}/{name}", weight, bias, "in")
  copy(f"{head}/{attention}/out", "head.attention.out_proj", "out")
  norm_of(f"{head}/LayerNorm_0", "head.layernorm")
  copy(f"{head}/MlpBlock_0/Dense_0", "head.mlp.fc1")
  copy(f"{head}/MlpBlock_0/Dense_1", "head.mlp.fc2")
  return found


@pytest.mark.parametrize(
  ("family", "names", "rename"),
  [("dinov3", DINOV3, metas), ("siglip", SIGLIP, googles)],
)
def test_names_of_the_authors_fill_the_same_network(family, names, rename):
  tensors = draw(names)
  _, expected = filled(family, tensors)
  _, found = filled(family, rename(tensors))
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  broken = rename(tensors)
  del broken[
    next(n for n in broken if n.endswith("norm.weight") or "probe" in n)
  ]
  with pytest.raises(ValueError, match="missing|lack|no "):
    filled(family, broken)

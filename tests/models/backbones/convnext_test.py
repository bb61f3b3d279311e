"""ConvNeXt with published weights against other implementations."""

import math
import re

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models.backbones import convnext, weights

DEPTHS, WIDTHS = (1, 1, 2, 1), (4, 8, 12, 16)
IMAGES = drawn.images(2, 70, 64, 3)  # 70: pixels that no patch holds.
TINY = convnext.ARCHITECTURES["convnext_tiny"]
# Of timm 1.0.31 on PyTorch 2.13, with `drawn.tensors` under timm's names.
FEATURES = (
  (
    0.25213,
    1.05746,
    0.18254,
    0.05430,
    0.17598,
    2.60315,
    1.21717,
    -0.19109,
    0.83431,
    2.48923,
    -1.94854,
    1.70586,
    1.62416,
    3.09921,
    0.12571,
    0.19067,
  ),
  (
    0.29509,
    1.13132,
    0.17233,
    0.08439,
    0.18367,
    2.58025,
    1.13444,
    -0.10718,
    0.74782,
    2.50921,
    -1.99289,
    1.68961,
    1.58215,
    3.18211,
    0.13765,
    0.13856,
  ),
)


def timm_shapes():
  """The tensors of timm's network of these sizes and three classes."""
  found = {
    "stem.0.weight": (WIDTHS[0], 3, 4, 4),
    "stem.0.bias": WIDTHS[:1],
    "head.norm.weight": WIDTHS[-1:],
    "head.norm.bias": WIDTHS[-1:],
    "head.fc.weight": (3, WIDTHS[-1]),
    "head.fc.bias": (3,),
  }
  norms = {"stem.1": WIDTHS[0]}
  for s, (depth, width) in enumerate(zip(DEPTHS, WIDTHS)):
    if s:
      down = f"stages.{s}.downsample"
      norms[f"{down}.0"] = WIDTHS[s - 1]
      found[f"{down}.1.weight"] = (width, WIDTHS[s - 1], 2, 2)
      found[f"{down}.1.bias"] = (width,)
    for b in range(depth):
      block = f"stages.{s}.blocks.{b}"
      norms[f"{block}.norm"] = width
      found[f"{block}.gamma"] = (width,)
      found[f"{block}.conv_dw.weight"] = (width, 1, 7, 7)
      found[f"{block}.conv_dw.bias"] = (width,)
      found[f"{block}.mlp.fc1.weight"] = (4 * width, width)
      found[f"{block}.mlp.fc1.bias"] = (4 * width,)
      found[f"{block}.mlp.fc2.weight"] = (width, 4 * width)
      found[f"{block}.mlp.fc2.bias"] = (width,)
  for name, width in norms.items():
    found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)
  return found


# Parts of timm's names in the order in which they are replaced.
FACEBOOK = {
  "stem.": "downsample_layers.0.",
  **{f"stages.{s}.downsample.": f"downsample_layers.{s}." for s in (1, 2, 3)},
  ".blocks.": ".",
  "conv_dw": "dwconv",
  "mlp.fc": "pwconv",
  "head.norm": "norm",
  "head.fc": "head",
}
TRANSFORMERS = {
  "stem.0": "convnext.embeddings.patch_embeddings",
  "stem.1": "convnext.embeddings.layernorm",
  "stages.": "convnext.encoder.stages.",
  ".downsample.": ".downsampling_layer.",
  ".blocks.": ".layers.",
  "conv_dw": "dwconv",
  "mlp.fc": "pwconv",
  "gamma": "layer_scale_parameter",
  "head.norm": "convnext.layernorm",
  "head.fc": "classifier",
  ".norm.": ".layernorm.",
}
TORCHVISION = {
  "stem.": "features.0.",
  **{f"stages.{s}.downsample": f"features.{2 * s}" for s in (1, 2, 3)},
  **{f"stages.{s}.blocks": f"features.{2 * s + 1}" for s in range(4)},
  "conv_dw": "block.0",
  "head.norm": "classifier.0",
  ".norm.": ".block.2.",
  "mlp.fc1": "block.3",
  "mlp.fc2": "block.5",
  "gamma": "layer_scale",
  "head.fc": "classifier.2",
}


def renamed(tensors, parts):
  found = {}
  for name, array in tensors.items():
    for old, new in parts.items():
      name = name.replace(old, new)
    found[name] = array
  return found


def facebook(tensors):
  return renamed(tensors, FACEBOOK)


def transformers(tensors):
  return renamed(tensors, TRANSFORMERS)


def torchvision(tensors):
  return {
    name: array[:, None, None] if name.endswith("layer_scale") else array
    for name, array in renamed(tensors, TORCHVISION).items()
  }


def features(tensors, dtype=jnp.float32, train=False):
  net = convnext.ConvNeXt(DEPTHS, WIDTHS, dtype)
  images = jnp.asarray(IMAGES)
  shapes = jax.eval_shape(
    lambda key: net.init(key, images, False), jax.random.key(0)
  )
  layouts = TINY.layouts(224)
  variables = weights.fill(shapes, tensors, layouts, what="net.pth")
  found = jax.jit(net.apply, static_argnums=2)(variables, images, train)
  assert found.dtype == jnp.float32
  return found


@pytest.mark.parametrize(
  "change",
  [dict, facebook, transformers, torchvision],
  ids=lambda f: f.__name__,
)
def test_features_of_every_layout(change):
  found = features(change(drawn.tensors(timm_shapes())))
  np.testing.assert_allclose(found, FEATURES, rtol=1e-5, atol=1e-5)


def test_names_of_each_layout():
  """Some, by hand, as the packages' files have them."""
  tensors = drawn.tensors(timm_shapes())
  assert {
    "downsample_layers.0.1.weight",
    "downsample_layers.3.0.bias",
    "stages.2.1.pwconv2.bias",
    "stages.0.0.gamma",
    "stages.0.0.norm.weight",
    "norm.weight",
    "head.bias",
  } < set(facebook(tensors))
  assert {
    "features.0.1.weight",
    "features.6.1.bias",
    "features.5.1.block.5.bias",
    "features.1.0.layer_scale",
    "features.1.0.block.2.weight",
    "classifier.0.weight",
    "classifier.2.bias",
  } < set(torchvision(tensors))


def test_training_changes_nothing():
  tensors = drawn.tensors(timm_shapes())
  np.testing.assert_array_equal(
    features(tensors), features(tensors, train=True)
  )


def test_half_precision_is_near():
  found = features(drawn.tensors(timm_shapes()), jnp.bfloat16)
  error = np.abs(np.asarray(found) - np.array(FEATURES)).max()
  assert 1e-5 < error < 0.1


def test_the_classifier_alone_is_left_out():
  tensors = drawn.tensors(timm_shapes())
  tensors["stages.0.blocks.1.gamma"] = np.ones(4)
  with pytest.raises(ValueError, match=r"1 left over \(stages.0.blocks.1.gamm"):
    features(tensors)


@pytest.mark.parametrize(
  "name, width, parameters, blocks",
  # As published, with a classifier of 1,000 classes.
  [
    ("tiny", 768, 28_589_128, 3),
    ("small", 768, 50_223_688, 3),
    ("base", 1024, 88_591_464, 3),
    ("large", 1536, 197_767_336, 3),
  ],
)
def test_sizes(name, width, parameters, blocks):
  arch = convnext.ARCHITECTURES[f"convnext_{name}"]
  net = arch.module(arch.size, jnp.float32, "all", 0)
  images = jnp.zeros((1, arch.size, arch.size, 3))
  found, shapes = jax.eval_shape(
    lambda key: net.init_with_output(key, images, False), jax.random.key(0)
  )
  assert found.shape == (1, width) == (1, arch.feature_dim)
  assert set(shapes) == {"params"}
  count = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
  assert count == parameters - 1000 * (width + 1)
  paths = [
    "/".join(str(e.key) for e in path)
    for path, _ in (jax.tree_util.tree_flatten_with_path(shapes)[0])
  ]
  paths = [path.removeprefix("params/") for path in paths]
  last = {p.split("/")[0] for p in paths if re.fullmatch(arch.last_block, p)}
  assert last == {f"stage4_block{blocks}", "norm"}


def test_equals_timm():
  torch = pytest.importorskip("torch")
  timm = pytest.importorskip("timm.models.convnext", exc_type=ImportError)
  net = timm.ConvNeXt(depths=DEPTHS, dims=WIDTHS, num_classes=3).eval()
  tensors = drawn.tensors(
    {name: tuple(x.shape) for name, x in net.state_dict().items()}
  )
  assert {n: x.shape for n, x in tensors.items()} == timm_shapes()
  net.load_state_dict({n: torch.tensor(x) for n, x in tensors.items()})
  images = torch.tensor(IMAGES.transpose(0, 3, 1, 2))
  with torch.no_grad():
    expected = net.forward_head(net.forward_features(images), pre_logits=True)
  np.testing.assert_allclose(features(tensors), expected.numpy(), atol=1e-4)
  np.testing.assert_allclose(FEATURES, expected.numpy(), atol=1e-4)


def test_equals_transformers():
  torch = pytest.importorskip("torch")
  hugging = pytest.importorskip("transformers")
  # Its last norm has another eps unless told.
  config = hugging.ConvNextConfig(
    depths=DEPTHS, hidden_sizes=WIDTHS, num_labels=3, layer_norm_eps=1e-6
  )
  net = hugging.ConvNextForImageClassification(config).eval()
  tensors = transformers(drawn.tensors(timm_shapes()))
  net.load_state_dict({n: torch.tensor(x) for n, x in tensors.items()})
  images = torch.tensor(IMAGES.transpose(0, 3, 1, 2))
  with torch.no_grad():
    expected = net.convnext(images).pooler_output
  np.testing.assert_allclose(features(tensors), expected.numpy(), atol=1e-4)

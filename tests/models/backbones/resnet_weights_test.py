"""ResNet with torchvision's weights against other implementations."""

import math
import re

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.models.backbones import resnet, resnet_weights, weights

DEPTHS, WIDTH = (1, 2, 1, 1), 8
IMAGES = drawn.images(2, 77, 64, 3)  # Odd maps tell how each layer pads.
BASIC, BOTTLENECK = resnet.BasicBlock, resnet.BottleneckBlock
# Of transformers 5.24 on PyTorch 2.13, with `drawn.tensors` under torchvision's
# names; of each image eight features, evenly spread.
FEATURES = {
  BASIC: [
    [0.00000, 1.37099, 0.72295, 0.27290, 4.92963, 0.01745, 7.37010, 0.00000],
    [0.00000, 1.12017, 1.00866, 0.05113, 5.01026, 0.00000, 6.98454, 0.00000],
  ],
  BOTTLENECK: [
    [1.57660, 0.00000, 0.63595, 0.01347, 0.00000, 1.12699, 0.21382, 1.52167],
    [1.72165, 0.12391, 0.86506, 0.00000, 0.00000, 1.15371, 0.23610, 1.42212],
  ],
}


def torchvision_shapes(block, width=WIDTH):
  """The tensors of torchvision's network of these sizes and three classes."""
  convs, norms = {"conv1": (width, 3, 7, 7)}, {"bn1": width}
  inputs = width
  for stage, depth in enumerate(DEPTHS):
    for index in range(depth):
      name = f"layer{stage + 1}.{index}"
      mid = width * 2**stage
      out = mid * block.expansion
      if block is BASIC:
        sizes = [(mid, inputs, 3), (mid, mid, 3)]
      else:
        inner = mid * block.widening
        sizes = [
          (inner, inputs, 1),
          (inner, inner // block.groups, 3),
          (out, inner, 1),
        ]
      for layer, (to, of, side) in enumerate(sizes, 1):
        convs[f"{name}.conv{layer}"] = (to, of, side, side)
        norms[f"{name}.bn{layer}"] = to
      if inputs != out:
        convs[f"{name}.downsample.0"] = (out, inputs, 1, 1)
        norms[f"{name}.downsample.1"] = out
      inputs = out
  found = {f"{name}.weight": shape for name, shape in convs.items()}
  for name, channels in norms.items():
    for leaf in ("weight", "bias", "running_mean", "running_var"):
      found[f"{name}.{leaf}"] = (channels,)
    found[f"{name}.num_batches_tracked"] = ()
  return found | {"fc.weight": (3, inputs), "fc.bias": (3,)}


def features(block, tensors, width=WIDTH):
  net = resnet.ResNet(
    block, DEPTHS, width, True, False, False, jnp.dtype("float32")
  )
  images = jnp.asarray(IMAGES)
  shapes = jax.eval_shape(
    lambda key: net.init(key, images, False), jax.random.key(0)
  )
  layouts = resnet_weights.ARCHITECTURES["resnet50_imagenet"].layouts(224)
  variables = weights.fill(shapes, tensors, layouts, what="net.pth")
  return np.asarray(
    jax.jit(net.apply, static_argnums=2)(variables, images, False)
  )


@pytest.mark.parametrize("block", [BASIC, BOTTLENECK])
def test_features(block):
  found = features(block, drawn.tensors(torchvision_shapes(block)))
  assert found.shape == (2, 8 * WIDTH * block.expansion)
  expected = np.array(FEATURES[block])
  every = found.shape[1] // expected.shape[1]
  np.testing.assert_allclose(found[:, ::every], expected, rtol=2e-5, atol=2e-5)


def test_small_variances_have_pytorchs_epsilon():
  """(x - m) / sqrt(v + 10), if all are a thousandth and 1e-5 is added to v."""
  small = drawn.tensors(torchvision_shapes(BASIC))
  large = dict(small, **{"bn1.running_var": small["bn1.running_var"] + 10})
  for name, factor in (
    ("conv1.weight", 1e-3),
    ("bn1.running_mean", 1e-3),
    ("bn1.running_var", 1e-6),
  ):
    small[name] = small[name] * np.float32(factor)
  np.testing.assert_allclose(
    features(BASIC, small), features(BASIC, large), rtol=2e-5, atol=2e-5
  )


def test_file_of_another_depth():
  tensors = drawn.tensors(torchvision_shapes(BASIC))
  tensors["layer2.2.conv1.weight"] = np.ones((16, 16, 3, 3))
  del tensors["layer2.1.bn2.running_var"]
  with pytest.raises(
    ValueError,
    match=r"torchvision's, 1 missing \(layer2.1.bn2.running_var\); 1 left over"
    r" \(layer2.2.conv1.weight\)",
  ):
    features(BASIC, tensors)


@pytest.mark.parametrize(
  "name, width, parameters, blocks",
  # As published, with a classifier of 1,000 classes.
  [
    ("resnet18", 512, 11_689_512, 2),
    ("resnet34", 512, 21_797_672, 3),
    ("resnet50", 2048, 25_557_032, 3),
    ("resnext50_32x4d", 2048, 25_028_904, 3),
  ],
)
def test_sizes(name, width, parameters, blocks):
  arch = resnet_weights.ARCHITECTURES[f"{name}_imagenet"]
  net = arch.module(arch.size, jnp.dtype("float32"), "all", 0)
  images = jnp.zeros((1, arch.size, arch.size, 3))
  found, shapes = jax.eval_shape(
    lambda key: net.init_with_output(key, images, False), jax.random.key(0)
  )
  assert found.shape == (1, width) == (1, arch.feature_dim)
  params = {"params": shapes["params"]}
  count = sum(math.prod(x.shape) for x in jax.tree.leaves(params))
  assert count == parameters - 1000 * (width + 1)
  paths = [
    "/".join(str(e.key) for e in path)
    for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]
  ]
  paths = [path.removeprefix("params/") for path in paths]
  last = {p.split("/")[0] for p in paths if re.fullmatch(arch.last_block, p)}
  assert last == {f"stage4_block{blocks}"}


@pytest.mark.parametrize("block", [BASIC, BOTTLENECK])
def test_equals_transformers(block):
  torch = pytest.importorskip("torch")
  hugging = pytest.importorskip("transformers")
  config = hugging.ResNetConfig(
    embedding_size=WIDTH,
    hidden_sizes=[WIDTH * 2**s * block.expansion for s in range(4)],
    depths=DEPTHS,
    layer_type="basic" if block is BASIC else "bottleneck",
  )
  net = hugging.ResNetModel(config).eval()
  shapes = torchvision_shapes(block)
  tensors = drawn.tensors(shapes)
  given = {
    name: torch.tensor(tensors[_torchvision(name)]) for name in net.state_dict()
  }
  assert len(given) == len(shapes) - 2
  net.load_state_dict(given)
  with torch.no_grad():
    expected = net(torch.tensor(IMAGES.transpose(0, 3, 1, 2))).pooler_output
  expected = expected.numpy()[:, :, 0, 0]
  np.testing.assert_allclose(features(block, tensors), expected, atol=1e-4)
  every = expected.shape[1] // 8
  np.testing.assert_allclose(FEATURES[block], expected[:, ::every], atol=1e-4)


def _torchvision(name):
  """Returns torchvision's name of one of transformers'."""
  name = re.sub(r"^embedder\.embedder\.", "1.", name)
  name = re.sub(
    r"^encoder\.stages\.(\d)\.layers\.(\d)\.",
    lambda m: f"layer{int(m[1]) + 1}.{m[2]}.",
    name,
  )
  name = re.sub(r"shortcut\.convolution", "downsample.0", name)
  name = re.sub(r"shortcut\.normalization", "downsample.1", name)
  name = re.sub(r"layer\.(\d)\.", lambda m: f"{int(m[1]) + 1}.", name)
  name = re.sub(r"(\d)\.convolution", r"conv\1", name)
  return re.sub(r"(\d)\.normalization", r"bn\1", name)


@pytest.mark.parametrize("block", [BASIC, BOTTLENECK, resnet.ResNeXtBlock])
def test_equals_timm(block):
  torch = pytest.importorskip("torch")
  timm = pytest.importorskip("timm.models.resnet", exc_type=ImportError)
  theirs = timm.BasicBlock if block is BASIC else timm.Bottleneck
  extra = {}
  if block is resnet.ResNeXtBlock:
    extra = {"cardinality": 32, "base_width": 4}
  net = timm.ResNet(theirs, DEPTHS, num_classes=3, **extra).eval()
  shapes = {name: tuple(x.shape) for name, x in net.state_dict().items()}
  assert shapes == torchvision_shapes(block, 64)
  tensors = drawn.tensors(shapes)
  net.load_state_dict({n: torch.tensor(x) for n, x in tensors.items()})
  images = torch.tensor(IMAGES.transpose(0, 3, 1, 2))
  with torch.no_grad():
    expected = net.forward_head(net.forward_features(images), pre_logits=True)
  found = features(block, tensors, 64)
  np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)

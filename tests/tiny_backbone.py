"""A backbone with "published" weights that is small enough for tests."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ltjax.models import pretrained
from ltjax.models.backbones import weights
from ltjax.models.backbones.architecture import HALF, Architecture

# Taken over: settings know which networks are pretrained by their names.
NAME = "efficientnet_lite0"
DIM = 6


class Tiny(nn.Module):
  """Convolution, BatchNorm, a block and the mean; `tune=lora` adds a scale."""

  tune: str

  @nn.compact
  def __call__(self, x, train):
    x = nn.Conv(4, (3, 3), strides=2, use_bias=False, name="stem_conv")(x)
    x = nn.relu(nn.BatchNorm(not train, name="stem_bn")(x))
    x = nn.Conv(DIM, (1, 1), name="block_conv")(x)
    if self.tune == "lora":
      zeros = nn.initializers.zeros
      x = x + self.param("tuned_lora", zeros, (1, 1, 1, DIM), jnp.float32)
    return jnp.mean(nn.relu(x), axis=(1, 2))


def _source(path):
  return weights.Source((path.replace("/", "."),))


ARCHITECTURE = Architecture(
  module=lambda size, dtype, tune, width: Tiny(tune),
  feature_dim=DIM,
  size=8,
  stride=2,
  normalization=HALF,
  resample="bilinear",
  layouts=lambda size: (
    weights.Layout("tiny", "params.stem_conv.kernel", _source, r"classifier"),
  ),
  last_block=r"block_.*",
  tunes=("lora",),
)


@functools.cache
def tensors(seed=0):
  """Returns weights by name, as a file of them holds."""
  shapes = jax.eval_shape(
    lambda: Tiny("all").init(
      jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False
    )
  )
  rng = np.random.default_rng(seed)
  flat = jax.tree_util.tree_flatten_with_path(shapes)[0]
  found = {"classifier": np.zeros((DIM, 9), np.float32)}
  for path, leaf in flat:
    name = ".".join(str(entry.key) for entry in path)
    found[name] = rng.normal(size=leaf.shape).astype(np.float32)
    if name.endswith("var"):
      found[name] = np.abs(found[name]) + 1
  return found


def save(folder, seed=0):
  """Saves weights to a file; returns its path."""
  path = folder / f"tiny-{seed}.npz"
  np.savez(path, **tensors(seed))
  return str(path)


def register(monkeypatch):
  """Puts this backbone under its name for a test."""
  monkeypatch.setitem(pretrained.ARCHITECTURES, NAME, ARCHITECTURE)

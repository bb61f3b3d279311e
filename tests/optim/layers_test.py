"""Learning rates by layer: names in order, updates scaled, nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltjax.models import pretrained
from ltjax.optim import layers, optimizers


def names(architecture):
  """Names of a backbone's layers, from shapes alone."""
  known = pretrained.ARCHITECTURES[architecture]
  module = known.module(known.stride, jnp.float32, "all", 0)
  image = jnp.zeros((1, known.stride, known.stride, 3))
  shapes = jax.eval_shape(
    lambda: module.init(jax.random.key(0), image, False)["params"]
  )
  return {name: 0.0 for name in shapes}


# Exponents of the decay: of the stem, of some blocks, of what is behind.
@pytest.mark.parametrize(
  ("architecture", "expected"),
  [
    (
      "efficientnet_lite0",
      {"stem_conv": 17, "stem_bn": 17, "blocks_0": 16, "blocks_2": 14}
      | {"blocks_10": 6, "blocks_15": 1, "last_conv": 0, "last_bn": 0},
    ),
    (
      "resnet18_imagenet",
      {"stem_conv": 9, "stem_bn": 9, "stage1_block1": 8, "stage1_block2": 7}
      | {"stage2_block1": 6, "stage4_block2": 1},
    ),
    ("resnet50_imagenet", {"stem_bn": 17, "stage3_block6": 4}),
    (
      "convnext_tiny",
      {"stem_conv": 19, "stem_norm": 19, "stage1_block1": 18}
      | {"stage1_block3": 16, "stage2_norm": 15, "stage2_conv": 15}
      | {"stage2_block1": 15, "stage3_block9": 4, "stage4_conv": 3}
      | {"stage4_block1": 3, "stage4_block3": 1, "norm": 0},
    ),
    (
      "vit_s16_in21k",
      {"patch": 13, "cls": 13, "position": 13, "blocks_0": 12}
      | {"blocks_2": 10, "blocks_10": 2, "blocks_11": 1, "norm": 0},
    ),
    ("vit_s14_dinov2_reg", {"registers": 13, "blocks_11": 1}),
    ("vit_s16_dinov3", {"registers": 13, "cls": 13, "blocks_0": 12}),
    ("vit_b32_clip", {"pre_norm": 13, "patch": 13, "blocks_0": 12, "norm": 0}),
    ("vit_b16_siglip", {"patch": 13, "blocks_11": 1, "norm": 0, "pool": 0}),
  ],
)
def test_factors_of_architectures(architecture, expected):
  found = layers.rates({"backbone": names(architecture), "head": 0.0}, 0.5)
  assert found["head"] == 1
  rates = found["backbone"]
  assert {name: rates[name] for name in expected} == {
    name: 0.5**exponent for name, exponent in expected.items()
  }
  known = {e for e in range(max(expected.values()) + 1)}
  if not any(name in rates for name in ("norm", "pool", "last_bn")):
    known.remove(0)  # the head alone has the factor 1
  assert {np.log2(1 / rate) for rate in rates.values()} == known


def test_a_last_block_alone_is_one_below_the_head():
  params = {"backbone": {"blocks_11": {"k": 1.0}, "norm": 1.0}, "head": 1.0}
  assert layers.rates(params, 0.75) == {
    "backbone": {"blocks_11": {"k": 0.75}, "norm": 1.0},
    "head": 1.0,
  }
  assert layers.rates({"head": {"kernel": 3.0}}, 0.5) == {
    "head": {"kernel": 1.0}
  }


def tree(seed):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda shape: rng.normal(size=shape).astype(np.float32),
    {
      "backbone": {"stem_conv": {"kernel": (2, 3)}, "blocks_0": (3,)},
      "head": {"kernel": (3, 2), "bias": (2,)},
    },
    is_leaf=lambda x: isinstance(x, tuple),
  )


@pytest.mark.parametrize("name", optimizers.NAMES)
def test_updates_are_those_of_a_learning_rate_each(name):
  plain = optimizers.make(name, optax.linear_schedule(0.1, 0.0, 9))
  decayed = layers.decayed(plain, 0.5)
  params = tree(0)
  states = [plain.init(params), decayed.init(params)]
  states = [optimizers.at_step(state, 2) for state in states]
  for step in range(3):
    grads = tree(step + 1)
    usual, states[0] = plain.update(grads, states[0], params)
    found, states[1] = decayed.update(grads, states[1], params)
    for layer, factor in (("stem_conv", 0.25), ("blocks_0", 0.5)):
      jax.tree.map(
        lambda x, y, factor=factor: np.testing.assert_array_equal(
          x, factor * y
        ),
        found["backbone"][layer],
        usual["backbone"][layer],
      )
    jax.tree.map(np.testing.assert_array_equal, found["head"], usual["head"])


def test_without_decay_it_is_the_optimizer_itself():
  plain = optax.sgd(0.1)
  assert layers.decayed(plain, 1.0) is plain

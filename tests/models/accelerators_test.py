"""What an accelerator gets of a network: XLA's convolutions, none of a CPU's.

The programs are lowered for it, not compiled, which takes no accelerator.
XLA:GPU aborted the process on a strided slice in a product (JAX 0.11.2, an
H200).
"""

import re

import jax
import jax.numpy as jnp
import pytest
import toys

from ltjax import models
from ltjax.models import pretrained
from ltjax.models.backbones import convnext, efficientnet_lite, vit
from ltjax.training import fit

SIDE = 32
# One block a stage: the further ones repeat its convolutions and shortcuts.
SHORT = {
  "_IMAGENET_FAMILY": {
    name: (block, (1,) * len(depths))
    for name, (block, depths) in models._IMAGENET_FAMILY.items()
  },
  "_CIFAR_FAMILY": dict.fromkeys(models._CIFAR_FAMILY, (1, 16)),
  "_WIDE_FAMILY": {
    n: (1, widen) for n, (_, widen) in models._WIDE_FAMILY.items()
  },
}
# Names that now stand for one and the same network, under the first of them.
FIRST = {}
for _family in SHORT.values():
  for _name, _network in _family.items():
    FIRST.setdefault(_network, _name)


def test_every_backbone_is_looked_at():
  assert {n for family in SHORT.values() for n in family} == set(models.OWN)
  names = ["resnet18", "resnet50", "resnext50_32x4d", "resnet8", "wrn28_2"]
  assert list(FIRST.values()) == names


@pytest.mark.parametrize("name", FIRST.values())
@pytest.mark.parametrize(
  "dtype, head", [("float32", "linear"), ("bfloat16", "cosine")]
)
def test_accelerators_convolve(name, dtype, head, monkeypatch):
  for family, networks in SHORT.items():
    monkeypatch.setattr(models, family, networks)
  learner = toys.learner(
    size=SIDE,
    network=models.create(
      name,
      num_classes=toys.C,
      image_shape=(SIDE, SIDE, 1),
      stem="imagenet" if "50" in name else "cifar",
      dtype=dtype,
      head=head,
    ),
  )
  stage = toys.embedding_stage(learner)
  state = jax.eval_shape(learner.init)
  kernels = [x for x in jax.tree.leaves(state.backbone) if x.ndim == 4]
  index = jax.ShapeDtypeStruct((toys.BATCH,), jnp.int32)
  images = learner.task.images
  training = fit.compiled(stage.step, learner.mesh, False).trace(
    jax.eval_shape(stage.init, state),
    index,
    {
      "images": images,
      "labels": learner.task.labels,
      "counts": jnp.ones(toys.C),
    },
  )
  features = learner.predictor._features.trace(
    *(state.backbone, state.batch_stats, state.head, images, index, None),
    augment=False,
  )
  # The output, the gradient of the kernel and that of the input, which the
  # images need not; of the head as many. Of a pass for features just the
  # output.
  count = len(kernels)
  for program, convolved, multiplied in (
    (training, 3 * count - 1, 3),
    (features, count, 0),
  ):
    for platform in ("cuda", "tpu"):
      text = program.lower(lowering_platforms=(platform,)).as_text()
      found = re.findall(r"stablehlo\.convolution\(", text)
      assert len(found) == convolved
      products = re.findall(
        r"stablehlo\.dot_general.*: \(tensor<(\S+?)>, tensor<(\S+?)>\)", text
      )
      assert len(products) == text.count("dot_general") == multiplied
      # Of `[B, D]` and the like: no pixels, and so no slice of them.
      assert all(x.count("x") == 2 for pair in products for x in pair)
      # What a CPU's ways are made of.
      for word in ("while", "optimization_barrier"):
        assert f"stablehlo.{word}" not in text, (platform, word)


def test_accelerators_convolve_depthwise(monkeypatch):
  """Each channel's kernel as one of XLA's groups, and the batch whole."""
  monkeypatch.setattr(efficientnet_lite, "_PIECE_BYTES", 1)
  net = efficientnet_lite.EfficientNetLite(0.25, 0.34, jnp.float32)
  x = jnp.ones((toys.BATCH, SIDE, SIDE, 3))
  variables = jax.eval_shape(lambda: net.init(jax.random.key(0), x, False))
  features = jax.jit(lambda variables: net.apply(variables, x, False))
  training = jax.jit(
    lambda variables: net.apply(variables, x, True, mutable="batch_stats")
  )
  gradient = jax.jit(jax.grad(lambda v: net.apply(v, x, False).sum()))
  leaves = jax.tree.leaves(variables["params"])
  count = sum(leaf.ndim == 4 for leaf in leaves)
  for program, convolved in (
    (features, count),
    (training, count),
    (gradient, 3 * count - 1),
  ):
    for platform in ("cuda", "tpu"):
      traced = program.trace(variables)
      text = traced.lower(lowering_platforms=(platform,)).as_text()
      assert len(re.findall(r"stablehlo\.convolution\(", text)) == convolved
      for word in ("while", "optimization_barrier", "dot_general"):
        assert f"stablehlo.{word}" not in text, (platform, word)


# One small network of each pretrained family, the vision transformers as they
# differ: a table of positions and a class token, RoPE, pooling by attention.
_VIT = {"patch": 16, "features": 8, "depth": 1, "heads": 2}
PRETRAINED = {
  "efficientnet_lite1": lambda dtype, tune: efficientnet_lite.EfficientNetLite(
    0.25, 0.34, dtype
  ),
  "convnext_tiny": lambda dtype, tune: convnext.ConvNeXt(
    (1, 1, 1, 1), (4, 4, 8, 8), dtype
  ),
  "vit_s16_in21k": lambda dtype, tune: vit.ViT(
    vit.Config(**_VIT), dtype, tune, 2
  ),
  "vit_s16_dinov3": lambda dtype, tune: vit.ViT(
    vit.Config(**_VIT, rotary=True, registers=2, layer_scale=True), dtype, tune
  ),
  "vit_b16_siglip": lambda dtype, tune: vit.ViT(
    vit.Config(**_VIT, pooled=True), dtype, tune
  ),
}


@pytest.mark.parametrize(
  ("name", "dtype", "tune"),
  [(name, "bfloat16", "all") for name in PRETRAINED]
  + [(name, "float32", "last_block") for name in list(PRETRAINED)[:3]]
  + [("vit_s16_in21k", "float32", "adaptformer")],
)
def test_accelerators_get_nothing_of_a_cpu_of_pretrained_networks(
  name, dtype, tune, monkeypatch
):
  monkeypatch.setattr(efficientnet_lite, "_PIECE_BYTES", 1)
  first = efficientnet_lite._STAGES[:3]
  monkeypatch.setattr(efficientnet_lite, "_STAGES", first)
  known, lite = pretrained.ARCHITECTURES[name], name.startswith("efficient")
  small = known._replace(
    module=lambda size, dtype, tune, width: PRETRAINED[name](dtype, tune),
    feature_dim=1280 if lite else 8,
    last_block=rf"(blocks_{3 if lite else 0}|last_.*|stage4_block1|norm)/.*",
  )
  monkeypatch.setitem(pretrained.ARCHITECTURES, name, small)
  network = models.create(
    name,
    num_classes=toys.C,
    image_shape=(SIDE, SIDE, 1),
    weights="none",
    image_size=SIDE,
    dtype=dtype,
    tune=tune,
  )
  learner = toys.learner(size=SIDE, network=network)
  state = jax.eval_shape(learner.init)
  both = state.backbone, state.batch_stats.get("frozen", {})
  count = sum(x.ndim == 4 for x in jax.tree.leaves(both))
  trained = sum(x.ndim == 4 for x in jax.tree.leaves(state.backbone))
  stage, images = toys.embedding_stage(learner), learner.task.images
  index = jax.ShapeDtypeStruct((toys.BATCH,), jnp.int32)
  training = fit.compiled(stage.step, learner.mesh, False).trace(
    jax.eval_shape(stage.init, state),
    index,
    {
      "images": images,
      "labels": learner.task.labels,
      "counts": jnp.ones(toys.C),
    },
  )
  features = learner.predictor._features.trace(
    *(state.backbone, state.batch_stats, state.head, images, index, None),
    augment=False,
  )
  # Of the first trained kernel the gradient of the input is not needed.
  gradients = 2 * trained - 1 if trained else 0
  for program, convolved in ((training, count + gradients), (features, count)):
    for platform in ("cuda", "tpu"):
      text = program.lower(lowering_platforms=(platform,)).as_text()
      assert len(re.findall(r"stablehlo\.convolution\(", text)) == convolved
      for word in ("while", "optimization_barrier", "custom_call"):
        assert f"stablehlo.{word}" not in text, (platform, word)

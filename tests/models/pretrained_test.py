"""Pretrained backbones behind the models' seam."""

import sys
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
import tiny_backbone

from ltjax import models
from ltjax.models import pretrained
from ltjax.models.backbones import convnext, efficientnet_lite, vit


@pytest.fixture(autouse=True)
def registered(monkeypatch):
  tiny_backbone.register(monkeypatch)


def create(folder, image_shape=(8, 8, 3), **settings):
  settings = {"weights": tiny_backbone.save(folder), **settings}
  return models.create(
    tiny_backbone.NAME, num_classes=3, image_shape=image_shape, **settings
  )


def slow(images, tensors):
  """Features of normalised images [B, 8, 8, 3], one place after another."""
  x = np.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)))
  kernel = tensors["params.stem_conv.kernel"]
  y = np.zeros((len(x), 4, 4, 4))
  for i in range(4):
    for j in range(4):
      seen = x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
      y[:, i, j] = np.einsum("bhwc,hwco->bo", seen, kernel)
  mean, var = (tensors[f"batch_stats.stem_bn.{n}"] for n in ("mean", "var"))
  y = (y - mean) / np.sqrt(var + 1e-5)
  y = y * tensors["params.stem_bn.scale"] + tensors["params.stem_bn.bias"]
  y = np.maximum(y, 0) @ tensors["params.block_conv.kernel"][0, 0]
  return np.maximum(y + tensors["params.block_conv.bias"], 0).mean((1, 2))


def test_features_are_those_of_the_published_weights(tmp_path):
  model = create(tmp_path)
  params, fixed = model.init(jax.random.key(0))
  images = np.random.default_rng(1).random((5, 8, 8, 3)).astype(np.float32)
  features, logits, _ = model.apply(params, fixed, images, False)
  expected = slow((images - 0.5) / 0.5, tiny_backbone.tensors())
  np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)
  chex.assert_shape(logits, (5, 3))
  assert model.normalizes and model.frozen is None


def test_pictures_are_brought_to_three_channels_and_the_size(tmp_path):
  model = create(tmp_path, image_shape=(5, 7, 1))
  params, fixed = model.init(jax.random.key(0))
  gray = np.random.default_rng(1).integers(256, size=(5, 7), dtype=np.uint8)
  resized = Image.fromarray(gray.astype(np.float32)).resize((8, 8), 2)
  x = np.repeat(np.asarray(resized)[None, ..., None], 3, -1) / 255
  found = model.apply(
    params, fixed, jnp.float32(gray)[None, ..., None] / 255, 0
  )
  expected = slow((x - 0.5) / 0.5, tiny_backbone.tensors())
  np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ("tune", "trained"),
  [
    (
      "all",
      {
        *("stem_conv/kernel", "stem_bn/scale", "stem_bn/bias"),
        *("block_conv/kernel", "block_conv/bias"),
      },
    ),
    ("head", set()),
    ("bias", {"stem_bn/bias", "block_conv/bias"}),
    ("affine", {"stem_bn/scale", "stem_bn/bias"}),
    ("last_block", {"block_conv/kernel", "block_conv/bias"}),
    ("lora", {"tuned_lora"}),
  ],
)
def test_what_is_tuned_are_the_parameters_and_the_rest_is_fixed(
  tmp_path, tune, trained
):
  model = create(tmp_path, tune=tune, tune_width=2)
  params, fixed = model.init(jax.random.key(0))
  table = models.parameter_table(params["backbone"])
  assert {path for path, _, _ in table} == trained
  images = np.random.default_rng(1).random((4, 8, 8, 3)).astype(np.float32)

  def loss(params):
    _, logits, after = model.apply(params, fixed, images, True)
    return jnp.sum(logits[:, 0]), after

  grads, after = jax.grad(loss, has_aux=True)(params)
  chex.assert_trees_all_equal_shapes(grads, params)
  assert all(jnp.any(x != 0) for x in jax.tree.leaves(grads["backbone"]))
  moved = after["stats"]["stem_bn"]["mean"] != fixed["stats"]["stem_bn"]["mean"]
  assert bool(jnp.any(moved)) == (tune == "all")
  chex.assert_trees_all_equal(after["frozen"], fixed["frozen"])


def test_nothing_changes_before_the_first_step(tmp_path):
  images = np.random.default_rng(1).random((4, 8, 8, 3)).astype(np.float32)
  found = []
  for tune in ("head", "feature_adapter"):
    model = create(tmp_path, tune=tune, tune_width=2)
    params, fixed = model.init(jax.random.key(0))
    found.append(model.apply(params, fixed, images, True)[0])
  np.testing.assert_array_equal(*found)
  plain = slow((images - 0.5) / 0.5, tiny_backbone.tensors())
  plain = plain - plain.mean(1, keepdims=True)
  plain /= 10 * np.sqrt(plain.var(1, keepdims=True) + 1e-5)
  np.testing.assert_allclose(found[0], plain, rtol=1e-4, atol=1e-4)


def test_what_is_behind_the_backbone_gives_the_same_logits(tmp_path):
  model = create(tmp_path, tune="feature_adapter", tune_width=2)
  behind = model.frozen.behind(1)
  params, fixed = model.init(jax.random.key(0))
  again, nothing = behind.init(jax.random.key(0))
  chex.assert_trees_all_equal(again, params)
  assert nothing == {}
  params = jax.tree.map(lambda x: x + 0.1, params)
  images = np.random.default_rng(1).random((4, 8, 8, 3)).astype(np.float32)
  features = model.frozen.backbone.apply(
    {**params, "backbone": {}}, fixed, images, False
  )[0]
  bare = slow((images - 0.5) / 0.5, tiny_backbone.tensors())
  np.testing.assert_allclose(features, bare, rtol=1e-5, atol=1e-5)
  expected = model.apply(params, fixed, images, False)[1]
  given = features[:, None, None]
  found = behind.apply(params, {}, given, True)[1]
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_shapes_need_no_file(tmp_path):
  model = create(tmp_path, weights=str(tmp_path / "none.npz"), tune="bias")
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  real = create(tmp_path, tune="bias").init(jax.random.key(0))
  chex.assert_trees_all_equal_shapes_and_dtypes(shapes, real)
  with pytest.raises(FileNotFoundError, match=r"none.npz.*no such file"):
    model.init(jax.random.key(0))


def test_weights_can_be_drawn(tmp_path):
  model = create(tmp_path, weights="none")
  one, two = (model.init(jax.random.key(n))[0] for n in (0, 1))
  kernels = [x["backbone"]["stem_conv"]["kernel"] for x in (one, two)]
  assert jnp.any(kernels[0] != kernels[1])


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"tune": "adaptformer"}, "model.tune is 'adaptformer'; choose one of all"),
    (
      {"image_size": 1},
      "model.image_size is 1; efficientnet_lite0 takes 2 pixels or more",
    ),
    (
      {"image_shape": (8, 8, 4)},
      "Images of 4 channels do not fit efficientnet_lite0",
    ),
  ],
)
def test_bad_settings(tmp_path, settings, message):
  with pytest.raises(ValueError, match=message):
    create(tmp_path, **settings)


@pytest.mark.parametrize(
  ("source", "message"),
  [
    ("auto", "are in no Python package: set model.weights"),
    ("hf:owner", "it must be hf:OWNER/NAME/FILE"),
  ],
)
def test_bad_sources(source, message):
  with pytest.raises(ValueError, match=message):
    pretrained.find(tiny_backbone.NAME, source)


def test_a_package_that_is_not_installed(monkeypatch):
  lacking = tiny_backbone.ARCHITECTURE._replace(package="no_such_package")
  monkeypatch.setitem(pretrained.ARCHITECTURES, tiny_backbone.NAME, lacking)
  with pytest.raises(ValueError, match=r"pip install 'ltjax\[pretrained\]'"):
    pretrained.find(tiny_backbone.NAME, "auto")


def test_a_file_of_the_hub(monkeypatch):
  def fetch(repository, file):
    if file == "lost.npz":
      raise OSError(f"no route to {repository}")
    return f"/cache/{repository}/{file}"

  hub = types.SimpleNamespace(hf_hub_download=fetch)
  monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
  found = pretrained.find(tiny_backbone.NAME, "hf:a/b/c/d.npz")
  assert str(found) == "/cache/a/b/c/d.npz"
  message = r"no route to a/b\).*fetch lost.npz of a/b elsewhere"
  with pytest.raises(ValueError, match=message):
    pretrained.find(tiny_backbone.NAME, "hf:a/b/lost.npz")
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)
  with pytest.raises(ValueError, match=r"pip install 'ltjax\[hub\]'"):
    pretrained.find(tiny_backbone.NAME, "hf:a/b/c.npz")


def test_weights_of_another_architecture_are_refused(tmp_path):
  tensors = dict(tiny_backbone.tensors())
  del tensors["params.block_conv.bias"]
  tensors["params.other"] = np.zeros(3, np.float32)
  path = tmp_path / "other.npz"
  np.savez(path, **tensors)
  model = create(tmp_path, weights=str(path))
  message = r"1 missing \(params.block_conv.bias\); 1 left over"
  with pytest.raises(ValueError, match=message):
    model.init(jax.random.key(0))


@pytest.mark.parametrize(
  ("tune", "classes", "width"),
  [
    *(("adaptformer", 10, 1), ("adaptformer", 100, 4), ("lora", 365, 8)),
    *(("adaptformer", 1000, 32), ("adaptformer", 8142, 256)),
    *(("feature_adapter", 10, 64), ("vpt_deep", 100, 10)),
  ],
)
def test_default_widths(tune, classes, width):
  assert pretrained.default_width(tune, classes) == width


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"layer_decay": 0.0}, r"model.layer_decay is 0"),
    ({"layer_decay": 1.5}, r"model.layer_decay is 1.5.*at most 1|1"),
    ({"layer_decay": float("nan")}, r"model.layer_decay is nan"),
    (
      {"layer_decay": 0.7, "tune": "head"},
      r"model.layer_decay is 0.7, but model.tune=head trains no layers",
    ),
    ({"layer_decay": 0.7, "tune": "lora"}, r"set it to 1, or model.tune to"),
  ],
)
def test_layer_decays_that_do_nothing_are_refused(tmp_path, settings, message):
  with pytest.raises(ValueError, match=message):
    create(tmp_path, **settings)


def test_a_network_from_scratch_has_no_layer_decay():
  with pytest.raises(ValueError, match="resnet8 starts from scratch"):
    models.create(
      "resnet8", num_classes=3, image_shape=(8, 8, 3), layer_decay=0.7
    )


SMALL = {
  "efficientnet_lite1": (
    lambda size, dtype, tune, width: efficientnet_lite.EfficientNetLite(
      0.25, 0.34, dtype
    ),
    1280,
  ),
  "convnext_tiny": (
    lambda size, dtype, tune, width: convnext.ConvNeXt(
      (1, 1, 1, 1), (4, 4, 8, 8), dtype
    ),
    8,
  ),
  "vit_s16_in21k": (
    lambda size, dtype, tune, width: vit.ViT(
      vit.Config(16, 8, 1, 2), dtype, tune, width
    ),
    8,
  ),
}


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_is_near_and_its_ends_are_float32(name, monkeypatch):
  """Under strict promotion: in training, its gradient, and frozen features."""
  module, dim = SMALL[name]
  known = pretrained.ARCHITECTURES[name]
  small = known._replace(module=module, feature_dim=dim)
  monkeypatch.setitem(pretrained.ARCHITECTURES, name, small)
  monkeypatch.setattr(efficientnet_lite, "_PIECE_BYTES", 1)
  first = efficientnet_lite._STAGES[:2]
  monkeypatch.setattr(efficientnet_lite, "_STAGES", first)
  images = np.random.default_rng(1).random((4, 32, 32, 3)).astype(np.float32)
  made = {
    (dtype, tune): models.create(
      name,
      num_classes=3,
      image_shape=(32, 32, 3),
      weights="none",
      image_size=32,
      dtype=dtype,
      tune=tune,
    )
    for dtype in ("float32", "bfloat16")
    for tune in ("all", "head")
  }
  model = made["bfloat16", "all"]
  params, fixed = model.init(jax.random.key(0))
  rng = np.random.default_rng(0)  # a head or a kernel may begin with zeros
  params = jax.tree.map(
    lambda x: x + rng.normal(0, 0.1, x.shape).astype(np.float32), params
  )
  frozen = made["bfloat16", "head"].frozen
  bare = {"backbone": {}, "head": params["head"]}
  stays = {**fixed, "frozen": params["backbone"]}

  @jax.jit
  def features():
    return (
      made["float32", "all"].apply(params, fixed, images, False)[0],
      model.apply(params, fixed, images, False)[0],
      frozen.backbone.apply(bare, stays, images, False)[0],
    )

  exact, half, kept = features()
  assert half.dtype == jnp.float32 and np.all(np.isfinite(half))
  error = np.abs(half - exact).max() / np.abs(exact).max()
  assert 1e-6 < error < 0.1
  np.testing.assert_allclose(kept, half, rtol=1e-2, atol=1e-2)
  logits = frozen.behind(1).apply(bare, {}, kept[:, None, None], True)[1]
  assert logits.dtype == jnp.float32

  def loss(params):
    features, logits, after = model.apply(params, fixed, images, True)
    assert features.dtype == logits.dtype == jnp.float32
    return jnp.sum(logits[:, 0]), after

  grads, after = jax.eval_shape(jax.grad(loss, has_aux=True), params)
  chex.assert_trees_all_equal_shapes_and_dtypes(grads, params)
  chex.assert_trees_all_equal_shapes_and_dtypes(after, fixed)

"""The seam: counts, shapes, types, modes and errors of every network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import models


def shapes(name, num_classes=10, size=32, **kwargs):
  model = models.create(
    name, num_classes=num_classes, image_shape=(size, size, 3), **kwargs
  )
  return model, jax.eval_shape(model.init, jax.random.key(0))


def count(params):
  return sum(n for _, _, n in models.parameter_table(params))


@pytest.mark.parametrize(
  "name, num_classes, size, expected",
  [
    ("resnet18", 1000, 224, 11_689_512),
    ("resnet34", 1000, 224, 21_797_672),
    ("resnet50", 1000, 224, 25_557_032),
    ("resnext50_32x4d", 1000, 224, 25_028_904),
    ("resnet18", 10, 32, 11_173_962),
    ("resnet20", 10, 32, 269_722),
    ("resnet32", 10, 32, 464_154),
    ("resnet44", 10, 32, 658_586),
    ("resnet56", 10, 32, 853_018),
    # GLMC's, who print 7,388,756 with their second head of 10 classes.
    ("resnet32_x4", 10, 32, 7_388_756 - 2_570),
    ("wrn28_2", 10, 32, 1_467_610),
  ],
)
def test_published_parameter_counts(name, num_classes, size, expected):
  _, (params, _) = shapes(name, num_classes, size)
  assert count(params) == expected


@pytest.mark.parametrize("depth", [8, 14, 20, 32, 44, 56])
def test_cifar_family_counts_by_arithmetic(depth):
  blocks = (depth - 2) // 6
  conv = lambda d, f: 9 * d * f + 2 * f  # noqa: E731  With its BN.
  total = conv(3, 16) + 64 * 10 + 10
  for before, width in ((16, 16), (16, 32), (32, 64)):
    total += conv(before, width) + (2 * blocks - 1) * conv(width, width)
  _, (params, stats) = shapes(f"resnet{depth}")
  assert count(params) == total
  # A mean and a variance for each scale and bias.
  affine = sum(
    n
    for path, _, n in models.parameter_table(params)
    if path.endswith(("scale", "bias")) and not path.startswith("head")
  )
  assert count(stats) == affine


def test_wide_count_by_arithmetic():
  total = 9 * 3 * 16 + 2 * 128 + 128 * 10 + 10
  for before, width in ((16, 32), (32, 64), (64, 128)):
    total += 2 * before + 9 * before * width + before * width
    total += 7 * (2 * width + 9 * width * width)
  assert total == 1_467_610


def test_parameter_table():
  _, (params, _) = shapes("resnet8")
  table = models.parameter_table(params)
  assert ("head/kernel", (64, 10), 640) in table
  assert ("backbone/stem_conv/kernel", (3, 3, 3, 16), 432) in table
  assert ("backbone/stage3_block1/bn2/scale", (64,), 64) in table
  assert len(table) == len(jax.tree.leaves(params)) == 23
  assert models.parameter_table({}) == []


@pytest.mark.parametrize(
  "name, feature_dim",
  [
    ("resnet8", 64),
    ("resnet32_x4", 256),
    ("resnet18", 512),
    ("resnext50_32x4d", 2048),
    ("wrn28_2", 128),
  ],
)
@pytest.mark.parametrize(
  "dtype, train", [("float32", False), ("bfloat16", True)]
)
def test_shapes_and_dtypes(name, feature_dim, dtype, train):
  model, (params, stats) = shapes(name, 7, dtype=dtype)
  images = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32)
  features, logits, new = jax.eval_shape(
    lambda p, s, x: model.apply(p, s, x, train), params, stats, images
  )
  assert features.shape == (4, feature_dim) == (4, model.feature_dim)
  assert logits.shape == (4, 7)
  assert jax.tree.structure(new) == jax.tree.structure(stats)
  leaves = jax.tree.leaves((features, logits, new, params, stats))
  assert {a.dtype for a in leaves} == {jnp.dtype("float32")}
  assert (model.num_classes, model.name) == (7, name)
  assert model.image_shape == (32, 32, 3)


def stem_kernel(**kwargs):
  _, (params, _) = shapes("resnet18", **kwargs)
  return params["backbone"]["stem_conv"]["kernel"].shape


def test_stems():
  assert stem_kernel(size=64) == (3, 3, 3, 64)
  assert stem_kernel(size=65) == (7, 7, 3, 64)
  assert stem_kernel(size=32, stem="imagenet") == (7, 7, 3, 64)
  assert stem_kernel(size=224, stem="cifar") == (3, 3, 3, 64)


@pytest.fixture(scope="module")
def small():
  model = models.create("resnet8", num_classes=4, image_shape=(8, 8, 1))
  params, stats = model.init(jax.random.key(0))
  images = jax.random.normal(jax.random.key(1), (6, 8, 8, 1))
  return model, params, stats, images


def test_eval_mode_keeps_the_very_statistics(small):
  model, params, stats, images = small
  kept = []

  @jax.jit
  def apply(stats):
    kept.append(model.apply(params, stats, images, False)[2] is stats)
    return stats

  apply(stats)
  assert kept == [True]


def test_eval_mode_is_per_example(small):
  model, params, stats, images = small
  apply = jax.jit(lambda x: model.apply(params, stats, x, False)[:2])
  features, logits = apply(images)
  one = apply(images[2:3])
  np.testing.assert_allclose(one[1], logits[2:3], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(
    model.head_apply(params["head"], features), logits, rtol=1e-6
  )


def test_train_mode_uses_and_updates_batch_statistics(small):
  model, params, stats, images = small
  apply = jax.jit(model.apply, static_argnums=3)
  _, logits, new = apply(params, stats, images, True)
  changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), stats, new)
  assert all(jax.tree.leaves(changed))
  # What the running values are does not matter to the output in training.
  _, again, _ = apply(params, new, images, True)
  np.testing.assert_array_equal(logits, again)


def test_every_parameter_has_a_gradient(small):
  model, params, stats, images = small

  @jax.jit
  @jax.grad
  def gradient(params):
    return jnp.sum(model.apply(params, stats, images, True)[1] ** 2)

  gradients = gradient(params)
  for path, _, _ in models.parameter_table(params):
    leaf = gradients
    for name in path.split("/"):
      leaf = leaf[name]
    assert np.abs(leaf).max() > 0, path


def test_init_depends_on_the_key_only(small, key_reuse):
  model, params, _, _ = small
  again, _ = model.init(jax.random.key(0))
  other, _ = model.init(jax.random.key(1))
  for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
    np.testing.assert_array_equal(a, b)
  kernel = lambda p: p["backbone"]["stage1_block1"]["conv1"]["kernel"]  # noqa: E731
  assert not np.array_equal(kernel(params), kernel(other))
  assert not np.array_equal(
    model.head_init(jax.random.key(0))["kernel"], params["head"]["kernel"]
  )


@pytest.mark.parametrize(
  "name, fan", [("resnet8", 9 * 16), ("resnet18", 9 * 128), ("wrn28_2", 9 * 64)]
)
def test_fan_of_each_family(name, fan):
  model, _ = shapes(name)
  params, _ = model.init(jax.random.key(0))
  kernel = np.asarray(params["backbone"]["stage2_block1"]["conv1"]["kernel"])
  np.testing.assert_allclose(kernel.std(), np.sqrt(2 / fan), rtol=0.05)
  assert (fan == 9 * kernel.shape[2]) == (name == "resnet8")


def test_zero_init_of_the_last_scale():
  for option, zeros in ((False, 0), (True, 3)):
    model, _ = shapes("resnet8", zero_init_last=option)
    params, _ = model.init(jax.random.key(0))
    scales = [
      b["bn2"]["scale"] for k, b in params["backbone"].items() if "block" in k
    ]
    assert sum(not np.any(scale) for scale in scales) == zeros


def test_bfloat16_is_close_to_float32(small):
  model, params, stats, images = small
  half = models.create(
    "resnet8", num_classes=4, image_shape=(8, 8, 1), dtype="bfloat16"
  )
  for train in (True, False):
    exact = jax.jit(model.apply, static_argnums=3)(params, stats, images, train)
    rough = jax.jit(half.apply, static_argnums=3)(params, stats, images, train)
    for a, b in zip(
      jax.tree.leaves(exact), jax.tree.leaves(rough), strict=True
    ):
      assert b.dtype == jnp.float32
      np.testing.assert_allclose(a, b, rtol=0.1, atol=0.1)
  assert not np.array_equal(exact[0], rough[0])


def test_cosine_head_and_its_scale():
  model, (params, _) = shapes("resnet8", head="cosine", head_scale=4.0)
  assert set(params["head"]) == {"kernel"}
  logits = model.head_apply(
    {"kernel": jnp.eye(64)[:, :10]}, 3 * jnp.eye(64)[:1]
  )
  np.testing.assert_allclose(logits, 4 * np.eye(10)[:1])


@pytest.mark.parametrize(
  "kwargs, message",
  [
    (
      {"name": "resnet23"},
      r"model.name is 'resnet23'; .*wrn28_2, .* Did you mean 'resnet",
    ),
    (
      {"name": "vgg"},
      r"model.name is 'vgg'; choose one of resnet18, resnet34",
    ),
    ({"num_classes": 1}, "2 classes or more, not 1"),
    ({"stem": "cifer"}, "stem is 'cifer'; .* Did you mean 'cifar'"),
    (
      {"dtype": "float16"},
      "dtype is 'float16'; choose one of float32, bfloat16",
    ),
    ({"head": "mlp"}, "Unknown head 'mlp'"),
    ({"stem": "imagenet"}, "resnet8 has only the CIFAR stem.*resnet50"),
    ({"image_shape": (3, 8, 1)}, "3 x 8 pixels are too small for resnet8.* 4 "),
    (
      {"name": "resnet18", "stem": "imagenet"},
      "8 x 8 pixels are too small for resnet18, .* 32: .*CIFAR stem",
    ),
    ({"image_shape": (8, 8)}, r"\(height, width, channels\), not \(8, 8\)"),
    ({"image_shape": (8, 8, 0)}, r"channels\), not \(8, 8, 0\)"),
  ],
)
def test_errors(kwargs, message):
  arguments = {"name": "resnet8", "num_classes": 10, "image_shape": (8, 8, 1)}
  arguments |= kwargs
  with pytest.raises(ValueError, match=message):
    models.create(**arguments)


def test_smallest_images():
  for name in models.OWN:
    size = 8 if name in models._IMAGENET_FAMILY else 4
    models.create(name, num_classes=2, image_shape=(size, size, 1))
    with pytest.raises(ValueError, match=f"multiply to {size}"):
      models.create(name, num_classes=2, image_shape=(size, size - 1, 1))

"""The Vision Transformer against NumPy, and what its tuning adds and trains.

How the families differ is tested by their published weights, beside this.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from ltjax.models.backbones import vit, vit_weights

CONFIG = vit.Config(patch=4, features=16, depth=2, heads=2)
FULL = CONFIG._replace(
  registers=3, rotary=True, layer_scale=True, key_bias=False
)
POOLED = CONFIG._replace(pooled=True)
IMAGES = np.float32(np.random.default_rng(0).uniform(-1, 1, (2, 12, 12, 3)))


def paths(tree):
  """Leaves by their paths, `params/...`."""
  flat = jax.tree_util.tree_leaves_with_path(tree)
  return {"/".join(e.key for e in path): leaf for path, leaf in flat}


def started(config=CONFIG, tune="", width=0, dtype=jnp.float32):
  module = vit.ViT(config, dtype, tune, width)
  init = jax.jit(lambda key: module.init(key, IMAGES, False))
  return module, init(jax.random.key(0))


def moved(variables, pattern=".*", seed=1):
  """Draws anew what the pattern names: whatever starts at 0 then counts."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    name = "/".join(entry.key for entry in path)
    if not re.fullmatch(pattern, name):
      return leaf
    center = float(name.endswith(("scale", "scale1", "scale2")))
    return jnp.float32(rng.normal(center, 0.3, leaf.shape))

  return jax.tree_util.tree_map_with_path(draw, variables)


@functools.cache
def compiled(module):
  return jax.jit(module.apply, static_argnums=2)


def apply(module, variables, images=IMAGES):
  return np.asarray(compiled(module)(variables, images, False))


def layer_norm(x, p):
  x = x - x.mean(axis=-1, keepdims=True)
  x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
  return x * p["scale"] + p["bias"]


def linear(x, p):
  return x @ p["kernel"] + p.get("bias", 0)


def attention(x, p, heads):
  """One head, query and key at a time."""
  q, k, v = (linear(x, p[name]) for name in ("query", "key", "value"))
  for name, part in (("query", q), ("value", v)):
    if f"tuned_lora_{name}_up" in p:
      down, up = (p[f"tuned_lora_{name}_{end}"] for end in ("down", "up"))
      part += x @ down["kernel"] @ up["kernel"]
  width = x.shape[-1] // heads
  out = np.zeros_like(x)
  for head in range(heads):
    part = slice(head * width, (head + 1) * width)
    for token in range(len(x)):
      scores = k[:, part] @ q[token, part] / np.sqrt(width)
      shares = np.exp(scores - scores.max())
      out[token, part] = shares / shares.sum() @ v[:, part]
  return linear(out, p["out"])


def slow(variables, image, depth=2, heads=2, patch=4):
  """The features of one image."""
  p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
  p = p["params"]
  side = image.shape[0] // patch
  tokens = [p["cls"]]
  for row in range(side):
    for column in range(side):
      place = np.s_[
        row * patch : (row + 1) * patch, column * patch : (column + 1) * patch
      ]
      flat = image[place].reshape(-1)
      kernel = p["patch"]["kernel"].reshape(len(flat), -1)
      tokens.append(flat @ kernel + p["patch"]["bias"])
  x = np.array(tokens) + p["position"]
  prompts = p.get("tuned_prompt", ())
  for index in range(depth):
    if index < len(prompts):
      x = np.concatenate([x[:1], prompts[index], x[-(side**2) :]])
    b = p[f"blocks_{index}"]
    x = x + attention(layer_norm(x, b["norm1"]), b["attention"], heads)
    y = linear(layer_norm(x, b["norm2"]), b["mlp"]["in"])
    y = y * (1 + special.erf(y / np.sqrt(2))) / 2
    y = linear(y, b["mlp"]["out"])
    if "tuned_adapter" in b:
      a = b["tuned_adapter"]
      inner = linear(layer_norm(x, a["norm"]), a["down"])
      y = y + a["scale"] * linear(np.maximum(inner, 0), a["up"])
    x = x + y
  return layer_norm(x, p["norm"])[0]


@pytest.mark.parametrize("tune", ["head", *vit.TUNES])
def test_features_equal_those_in_numpy(tune):
  module, variables = started(tune=tune, width=3)
  variables = moved(variables)
  expected = [slow(variables, image) for image in np.float64(IMAGES)]
  np.testing.assert_allclose(apply(module, variables), expected, atol=1e-4)


@pytest.mark.parametrize("config", [CONFIG, FULL, POOLED])
@pytest.mark.parametrize("tune", ["adaptformer", "lora"])
def test_tuning_starts_at_the_features_without_it(config, tune):
  plain, variables = started(config)
  variables = moved(variables)
  tuned, fresh = started(config, tune, 3)
  kept = paths(variables)
  both = jax.tree_util.tree_map_with_path(
    lambda path, leaf: kept.get("/".join(e.key for e in path), leaf), fresh
  )
  added = set(paths(fresh)) - set(kept)
  assert set(kept) <= set(paths(fresh))
  assert added and all("/tuned_" in path for path in added)
  np.testing.assert_array_equal(apply(tuned, both), apply(plain, variables))
  other = apply(tuned, moved(both, ".*/tuned_.*", seed=2))
  assert np.abs(other - apply(plain, variables)).max() > 1e-3


BLOCK = {
  "adaptformer": {
    "tuned_adapter/norm/scale": (16,),
    "tuned_adapter/norm/bias": (16,),
    "tuned_adapter/down/kernel": (16, 3),
    "tuned_adapter/down/bias": (3,),
    "tuned_adapter/up/kernel": (3, 16),
    "tuned_adapter/up/bias": (16,),
    "tuned_adapter/scale": (),
  },
  "lora": {
    "attention/tuned_lora_query_down/kernel": (16, 3),
    "attention/tuned_lora_query_up/kernel": (3, 16),
    "attention/tuned_lora_value_down/kernel": (16, 3),
    "attention/tuned_lora_value_up/kernel": (3, 16),
  },
}
WHOLE = {"vpt_shallow": (1, 3, 16), "vpt_deep": (2, 3, 16)}


@pytest.mark.parametrize("tune", ["all", "head", "last_block", *vit.TUNES])
def test_added_parameters_and_their_shapes(tune):
  _, variables = started(POOLED, tune, 3)
  added = {p: x.shape for p, x in paths(variables).items() if "tuned_" in p}
  expected = {
    f"params/blocks_{index}/{name}": shape
    for index in range(2)
    for name, shape in BLOCK.get(tune, {}).items()
  }
  if tune in WHOLE:
    expected["params/tuned_prompt"] = WHOLE[tune]
  assert added == expected


@pytest.mark.parametrize("tune", vit.TUNES)
def test_gradients_reach_all_that_is_added(tune):
  module, variables = started(FULL, tune, 3)
  variables = moved(variables)

  def loss(variables):
    return jnp.sum(module.apply(variables, IMAGES, True) ** 3)

  gradients = paths(jax.jit(jax.grad(loss))(variables))
  for path, gradient in gradients.items():
    assert np.abs(gradient).max() > 1e-6, path


def test_gradients_of_the_start_reach_the_layers_that_are_zero():
  """Then those before them have none; the norms inside have none either."""
  module, variables = started(tune="adaptformer", width=3)

  def loss(variables):
    return jnp.sum(module.apply(variables, IMAGES, True) ** 3)

  adapter = jax.jit(jax.grad(loss))(variables)["params"]["blocks_0"]
  moving = {
    path
    for path, gradient in paths(adapter["tuned_adapter"]).items()
    if np.any(gradient)
  }
  assert moving == {"up/kernel", "up/bias"}


def test_prompts_are_drawn_as_in_vpt():
  """Uniform on U(-v, v), with v^2 = 6 / (3 patch^2 + D)."""
  _, variables = started(tune="vpt_deep", width=500)
  prompts = variables["params"]["tuned_prompt"]
  limit = np.sqrt(6 / (3 * 16 + 16))
  assert np.abs(prompts).max() <= limit
  np.testing.assert_allclose(
    np.quantile(prompts, [0.01, 0.25, 0.75, 0.99]),
    limit * np.array([-0.98, -0.5, 0.5, 0.98]),
    atol=0.02,
  )


def test_starts_are_those_of_the_papers():
  _, variables = started(FULL, "adaptformer", 3)
  found = paths(variables)
  kernel = found["params/blocks_0/mlp/in/kernel"]
  np.testing.assert_allclose(np.std(kernel), 0.02, rtol=0.1)
  assert np.all(found["params/blocks_1/layer_scale2"] == np.float32(1e-5))
  assert found["params/blocks_0/tuned_adapter/scale"] == 1
  down = found["params/blocks_0/tuned_adapter/down/kernel"]
  assert 0.15 < np.abs(down).max() <= 0.25  # 1 / sqrt(16)


@pytest.mark.parametrize("config", [CONFIG, FULL, POOLED])
def test_bfloat16_is_near_and_features_are_float32(config):
  module, variables = started(config)
  variables = moved(variables)
  expected = apply(module, variables)
  got = apply(vit.ViT(config, jnp.bfloat16), variables)
  assert got.dtype == np.float32
  assert 0 < np.abs(got - expected).max() < 0.2


@pytest.mark.parametrize("config", [CONFIG, FULL, POOLED])
def test_without_places_the_order_of_patches_is_nothing(config):
  """RoPE tells them apart; a table does as soon as it is not constant."""
  module, variables = started(config)
  variables = moved(variables)
  if not config.rotary:
    variables["params"]["position"] *= 0
  rows = IMAGES.reshape(2, 3, 4, 12, 3)[:, ::-1].reshape(IMAGES.shape)
  same = np.abs(apply(module, variables, rows) - apply(module, variables))
  assert (same.max() < 1e-5) == (not config.rotary)


def test_rope_turns_by_the_distance_alone():
  """Products of turned queries and keys are the same from patch to patch."""
  angles = vit._angles(4, 4, 8)
  assert angles.shape == (16, 8) and angles.dtype == np.float32
  rng = np.random.default_rng(0)
  q, k = np.float32(rng.normal(size=(2, 1, 1, 1, 8)))
  q, k = (np.broadcast_to(part, (1, 17, 1, 8)) for part in (q, k))
  q, k = (np.asarray(vit._turned(part, angles))[0, :, 0] for part in (q, k))
  products = (q[1:] @ k[1:].T).reshape(4, 4, 4, 4)
  np.testing.assert_allclose(
    products[0, 0, 1, 2], products[2, 1, 3, 3], rtol=1e-5
  )
  np.testing.assert_allclose(
    products[1, 3, 0, 0], products[3, 3, 2, 0], rtol=1e-5
  )
  assert abs(products[0, 0, 1, 2] - products[0, 0, 2, 1]) > 1e-3
  # The first and the last patch of a column, at -3/4 and 3/4, by period 1.
  np.testing.assert_allclose(
    angles[[0, 12], 0], [-1.5 * np.pi, 1.5 * np.pi], rtol=1e-6
  )


@pytest.mark.parametrize("family", ["in21k", "siglip"])
def test_last_block_trains_it_and_what_follows(family):
  architecture = vit_weights.architecture(
    vit_weights.FAMILIES[family], 4, 16, 11, 2
  )
  module = architecture.module(12, jnp.float32, "last_block", 0)
  shapes = jax.eval_shape(
    lambda key: module.init(key, IMAGES, False), jax.random.key(0)
  )
  found = {
    path.split("/")[1]
    for path in paths(shapes)
    if re.fullmatch(architecture.last_block, path.removeprefix("params/"))
  }
  pool = {"siglip": {"pool"}, "in21k": set()}[family]
  assert found == {"blocks_10", "norm"} | pool


def test_names_tell_norms_and_biases():
  """Each scale is of a module whose name has `norm`, or learnt by tuning."""
  _, variables = started(POOLED._replace(pre_norm=True))
  for path in paths(variables):
    *_, module, leaf = path.split("/")
    assert leaf in ("kernel", "bias", "scale", "position", "probe"), path
    assert (leaf == "scale") <= ("norm" in module), path

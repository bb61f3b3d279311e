"""A network of one convolution, and settings, for tests of the benchmarks."""

import jax
import jax.numpy as jnp
import toys

from ltjax import models
from ltjax.augment import views
from ltjax.devices import sharding
from ltjax.models import heads
from ltjax.models.layers import convolution

SMALL = {"batch_size": 4, "image": 8, "dtype": "float32", "steps": 2}
FEATURES = 5
# Two operations for each of 3x3x3 weights, at 8x8 places; and the head's.
FORWARD = 2 * (64 * 27 * FEATURES + FEATURES * 10)
_make_mesh = sharding.make_mesh  # Before any test has it patched.


class Tiny:
  """Stands for `models.create`, and counts how often training is traced."""

  def __init__(self):
    self.traces = 0

  def create(self, name, *, num_classes, image_shape, dtype):
    head = heads.linear(FEATURES, num_classes)

    def init(key):
      kernel = jax.random.normal(key, (3, 3, image_shape[2], FEATURES)) / 5
      backbone = {"conv": {"kernel": kernel}}
      return {"backbone": backbone, "head": head.init(key)}, {
        "seen": jnp.ones(1)
      }

    def apply(params, batch_stats, images, train):
      self.traces += train
      kernel = params["backbone"]["conv"]["kernel"].astype(images.dtype)
      x = jax.nn.relu(convolution.convolve(images, kernel, 1))
      x = jnp.mean(x, (1, 2), dtype=jnp.float32)
      if train:
        batch_stats = {"seen": batch_stats["seen"] + 1}
      return x, head.apply(params["head"], x), batch_stats

    return models.Model(
      init=init,
      apply=apply,
      head_init=head.init,
      head_apply=head.apply,
      feature_dim=FEATURES,
      num_classes=num_classes,
      image_shape=image_shape,
      name=name,
    )


def patch(monkeypatch) -> Tiny:
  """Puts the network in the place of all others, on one device.

  Views are those of the toys: to compile the real ones takes seconds.
  """
  tiny = Tiny()
  monkeypatch.setattr(models, "create", tiny.create)
  monkeypatch.setattr(
    views, "two", lambda key, images, view: toys.two_views(key, images)
  )
  mesh = _make_mesh(1)
  monkeypatch.setattr(sharding, "make_mesh", lambda count=1: mesh)
  return tiny

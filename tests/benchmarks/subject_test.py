import bench_toys
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import subject


def test_what_is_measured(monkeypatch):
  bench_toys.patch(monkeypatch)
  made = subject.make(model="any", **bench_toys.SMALL | {"steps": 3})
  assert made.count == 12 and made.images.shape == (12, 8, 8, 3)
  assert made.images.dtype == jnp.uint8 and np.asarray(made.images).std() > 50
  assert made.state.memory.shape == (12, 10)
  # The second half is pseudo-labeled.
  np.testing.assert_array_equal(made.state.pseudo_labels, made.labels[6:])
  whole = jax.ShapeDtypeStruct((12, 8, 8, 3), jnp.float32)
  given = jax.random.key(0), made.images
  assert jax.eval_shape(made.transform, *given) == whole
  assert jax.eval_shape(made.test_transform, made.images) == whole
  assert made.recipe(3).epochs == 3


def test_views_are_of_the_dtype():
  made = subject.make(
    model="resnet8", devices=1, **bench_toys.SMALL | {"dtype": "bfloat16"}
  )
  views = jax.eval_shape(made.two_views, jax.random.key(0), made.images)
  assert views == (jax.ShapeDtypeStruct((8, 8, 8, 3), jnp.bfloat16),) * 2


@pytest.mark.parametrize(
  "changes, error",
  [
    ({"batch_size": 0}, "--batch_size is 0; it must be 1 or more."),
    ({"steps": 0}, "--steps is 0"),
    ({"batch_size": 3, "devices": 2}, "--batch_size is 3, which 2 devices"),
    ({"devices": 99}, "99 devices asked for, 4 at hand"),
    ({"model": "resnet9"}, "model.name is 'resnet9'; choose one of"),
    ({"image": 2}, "Images of 2 x 2 pixels are too small"),
  ],
)
def test_mistakes(changes, error):
  settings = {"model": "resnet8", "devices": 1} | bench_toys.SMALL | changes
  with pytest.raises(ValueError, match=error):
    subject.make(**settings)

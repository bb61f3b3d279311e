"""The description of a model: what is said, and read back.

What a broken `model.json` leads to is in `trained_test`.
"""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
import toys

from ltjax import config as configs
from ltjax.data.files import decoding as decodings
from ltjax.runs import model_description

PATH = pathlib.Path("model.json")


def settings():
  return dict(configs.default().model, name="resnet8")


def described(task=None, state=None):
  learner = toys.learner(size=8)
  return model_description.describe(
    state or learner.init(), task or learner.task, settings()
  )


def test_says_what_a_reader_needs():
  found = described()
  assert found.pop("model")["name"] == "resnet8"
  assert found == {
    "classes": ["a", "b", "c", "d"],
    "image_shape": [8, 8, 1],
    "mean": [0.4],
    "std": [0.25],
    "decoding": {
      "low": None,
      "high": None,
      "background": "white",
      "pages": "error",
    },
  }


def test_what_was_described_is_built():
  model, transform, _ = model_description.build(described(), PATH)
  assert (model.num_classes, model.image_shape) == (4, (8, 8, 1))
  out = transform(np.full((2, 8, 8, 1), 102, np.uint8))
  np.testing.assert_allclose(out, 0, atol=1e-6)
  shapes = model_description.variables(described(), model)
  params, stats = jax.eval_shape(model.init, jax.random.key(0))
  assert shapes["backbone"] == params["backbone"]
  assert shapes["batch_stats"] == stats
  assert shapes["head"] == shapes["balanced_head"] == params["head"]


def test_a_head_of_another_structure_is_described():
  state = toys.learner().init()
  state = state.replace(balanced_head={"means": np.zeros((4, 6), np.float32)})
  found = described(state=state)
  assert found["balanced_head"] == {"means": [4, 6]}
  model, _, _ = model_description.build(found, PATH)
  head = model_description.variables(found, model)["balanced_head"]
  assert head["means"].shape == (4, 6) and head["means"].dtype == np.float32


def test_pictures_larger_than_the_input_are_described():
  task = dataclasses.replace(toys.task(size=10), crop_size=8, resize="crop")
  found = described(task=task)
  assert found["image_shape"] == [8, 8, 1]
  assert model_description.pictures(found) == {
    "size": [10, 10],
    "resize": "crop",
  }
  _, transform, _ = model_description.build(found, PATH)
  assert transform(np.zeros((1, 10, 10, 1), np.uint8)).shape == (1, 8, 8, 1)


def test_pictures_are_the_input_where_nothing_is_said():
  assert model_description.pictures(described()) == {
    "size": [8, 8],
    "resize": "stretch",
  }


def test_how_other_pictures_are_read_is_described():
  decoding = decodings.Decoding(3, 4012.5, "black", "first")
  found = described(task=dataclasses.replace(toys.task(), decoding=decoding))
  found = json.loads(json.dumps(found))
  assert model_description.decoding(found) == decoding
  del found["decoding"]  # as models of before have none
  assert model_description.decoding(found) == decodings.BEFORE


@pytest.mark.parametrize(
  "change, message",
  [
    ({"pictures": {"size": [4, 8], "resize": "crop"}}, "hold no input"),
    ({"pictures": {"size": [8, 8], "resize": "fold"}}, "resize 'fold'"),
    ({"std": [0.0]}, "std above 0"),
    ({"decoding": {"background": "red"}}, "background is 'red'"),
    ({"decoding": {"low": 3, "high": 2}}, "have the range 3, 2"),
    ({"decoding": {"depth": 3}}, "depth"),
    ({"mean": [0.1, 0.2]}, "must have 1 channels"),
    ({"classes": [1, 2]}, "are not all names"),
    ({"image_shape": [8.0, 8, 1]}, "not of whole numbers"),
    ({"balanced_head": {"kernel": [0]}}, "'kernel' of shape"),
  ],
)
def test_what_describes_no_model_is_refused(change, message):
  with pytest.raises(ValueError, match=f"model.json does not .*{message}"):
    model_description.build(described() | change, PATH)

"""Features on disk: found again for the same pixels, and for no others."""

import types

import jax
import numpy as np
import pytest

from ltjax.data.host import host_images
from ltjax.training import feature_store

STATE = types.SimpleNamespace(
  backbone={}, batch_stats={"w": np.ones(2, np.float32)}
)


class Predictor:
  """Sums pixels; counts the images that pass."""

  model = types.SimpleNamespace(feature_dim=2)
  views = types.SimpleNamespace(name="crops")

  def __init__(self):
    self.passed = 0

  def batch(self, count):
    return types.SimpleNamespace(size=min(count, 4))

  def features(self, state, images, *, key=None, view=None):
    if isinstance(images, host_images.HostImages):
      images = images.read(np.arange(len(images)))
    self.passed += len(images)
    total = np.asarray(images, np.float32).sum((1, 2, 3))
    more = 0.0 if key is None else jax.random.uniform(key)
    more += 0.0 if view is None else view + 1.0
    return np.stack([total, total * 2 + more], 1).astype(np.float32)


def images(count=10, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(256, size=(count, 3, 3, 1), dtype=np.uint8)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
  monkeypatch.setattr(feature_store, "_PIECE", 4)


def store(place, predictor, *, state=STATE, described="a"):
  return feature_store.Store(predictor, state, described=described, place=place)


def test_features_are_those_of_the_predictor_and_kept(tmp_path):
  predictor, x = Predictor(), images()
  expected = Predictor().features(STATE, x)
  for passed in (10, 10):  # the second time there is none to compute
    found = store(tmp_path / "new", predictor).features(x)
    np.testing.assert_array_equal(found, expected)
    assert predictor.passed == passed
  assert len(list((tmp_path / "new").glob("*.npy"))) == 3
  held = host_images.ArrayImages(x)
  np.testing.assert_array_equal(
    store(tmp_path / "new", predictor).features(held), expected
  )
  assert predictor.passed == 10


def test_nothing_else_is_taken_for_them(tmp_path):
  x, key = images(4), jax.random.key(1)
  store(tmp_path, Predictor()).features(x)
  other = x.copy()
  other[2, 1, 1, 0] ^= 1
  weights = types.SimpleNamespace(
    backbone={}, batch_stats={"w": np.array([1, 1.5], np.float32)}
  )
  for state, described, given, seen in (
    (STATE, "a", other, {}),
    (STATE, "a", x.reshape(4, 1, 9, 1), {}),
    (STATE, "a", x, {"key": key}),
    (STATE, "a", x, {"view": 0}),
    (STATE, "a", x, {"view": 1}),
    (STATE, "b", x, {}),
    (weights, "a", x, {}),
  ):
    predictor = Predictor()
    made = store(tmp_path, predictor, state=state, described=described)
    made.features(given, **seen)
    assert predictor.passed == 4


def test_a_stopped_pass_goes_on(tmp_path, monkeypatch):
  x, predictor = images(), Predictor()
  real = predictor.features

  def features(state, given, *, key=None, view=None):
    if predictor.passed == 8:
      raise KeyboardInterrupt
    return real(state, given, key=key)

  monkeypatch.setattr(predictor, "features", features)
  with pytest.raises(KeyboardInterrupt):
    store(tmp_path, predictor).features(x)
  again = Predictor()
  found = store(tmp_path, again).features(x)
  assert again.passed == 2
  np.testing.assert_array_equal(found, Predictor().features(STATE, x))


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_damaged_files_are_computed_anew(tmp_path, damage):
  x = images(4)
  expected = store(tmp_path, Predictor()).features(x)
  (path,) = tmp_path.glob("*.npy")
  content = path.read_bytes()
  path.write_bytes(content[:-5] if damage is None else damage)
  found = store(tmp_path, Predictor()).features(x)
  np.testing.assert_array_equal(found, expected)
  assert path.read_bytes() == content


def test_a_full_disk_is_told(tmp_path, monkeypatch):
  def save(file, array):
    file.write(b"part")
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(np, "save", save)
  message = "No space left on device.*--config.features.cache"
  with pytest.raises(OSError, match=message):
    store(tmp_path, Predictor()).features(images(4))
  assert list(tmp_path.iterdir()) == []


def test_where(monkeypatch, tmp_path):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  assert feature_store.folder("auto") == tmp_path / "ltjax" / "features"
  assert feature_store.folder("off") is None
  assert feature_store.folder(str(tmp_path / "x")) == tmp_path / "x"
  predictor = Predictor()
  for passed in (4, 8):
    store(None, predictor).features(images(4))
    assert predictor.passed == passed
  assert not any(tmp_path.rglob("*.npy"))


def test_no_images():
  assert store(None, Predictor()).features(images(0)).shape == (0, 2)

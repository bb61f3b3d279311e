"""Sets in one .npz file."""

import numpy as np
import pytest

from ltjax.data.sources import npz

X = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3)).astype(np.uint8)
Y = np.array([0, 2, 2, 0])


def _save(tmp_path, **arrays):
  path = tmp_path / "set.npz"
  np.savez(path, **arrays)
  return str(path)


def test_reads_images_and_labels(tmp_path):
  train, test, names = npz.read(_save(tmp_path, x=X, y=Y))[:3]
  np.testing.assert_array_equal(train[0], X)
  assert train[1].tolist() == Y.tolist() and train[1].dtype == np.int32
  assert test is None
  assert names == ("0", "1", "2")


def test_other_names_greyscale_and_classes(tmp_path):
  path = _save(
    tmp_path,
    images=X[..., 0],
    labels=Y.astype(np.uint8),
    test_images=X[:1, ..., 0],
    test_labels=Y[:1],
    class_names=np.array(["a", "b", "c", "d"]),
  )
  train, test, names = npz.read(path)[:3]
  assert train[0].shape == (4, 5, 5, 1)
  assert test[0].shape == (1, 5, 5, 1) and test[1].tolist() == [0]
  assert names == ("a", "b", "c", "d")


def test_test_part_counts_for_the_number_of_classes(tmp_path):
  path = _save(tmp_path, x=X, y=Y, x_test=X, y_test=np.array([0, 4, 0, 0]))
  assert npz.read(path)[2] == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize(
  "arrays, message",
  [
    ({"y": Y}, "no array 'x' or 'images'"),
    ({"x": X}, "no array 'y' or 'labels'"),
    ({"x": X, "y": Y, "x_test": X}, "must come together"),
    ({"x": X, "y": Y, "y_test": Y}, "must come together"),
    ({"x": X / 255, "y": Y}, "x: pixels are float64"),
    ({"x": np.full(X.shape, np.nan), "y": Y}, "x: 300 pixels are NaN"),
    ({"x": X, "y": Y[:3]}, "y: labels have shape"),
    ({"x": X, "y": Y / 2}, "y: labels are float64, not integers"),
    ({"x": X, "y": Y - 1}, "y: label -1 of image 0"),
    (
      {"x": X, "y": Y, "classes": np.array(["a", "b"])},
      "y: label 2 of image 1",
    ),
    ({"x": X, "y": Y, "classes": np.array([1, 2, 3])}, "classes: class names"),
    (
      {"x": X, "y": Y, "x_test": X[:, :4], "y_test": Y},
      r"test images are \(4, 5, 3\), train images \(5, 5, 3\)",
    ),
    ({"x": X, "y": np.array([{}] * 4, object)}, "Object arrays are refused"),
    (
      {"x": X, "y": Y, "classes": np.array(["a", "b", "c"], object)},
      "array 'classes' cannot be read",
    ),
  ],
)
def test_refused(tmp_path, arrays, message):
  with pytest.raises(ValueError, match=rf"set\.npz: .*{message}"):
    npz.read(_save(tmp_path, **arrays))


def test_groups(tmp_path):
  groups = np.array(["p1", "p2", "p1", "p3"])
  path = _save(tmp_path, x=X, y=Y, groups=groups)
  found = npz.read(path)
  assert found.groups.tolist() == [0, 1, 0, 2]
  assert "3 in training, by the array groups" in found.understood
  test = {"x_test": X[:2], "y_test": Y[:2]}
  path = _save(
    tmp_path, x=X, y=Y, groups=[1, 2, 1, 3], **test, groups_test=[4, 5]
  )
  assert npz.read(path).groups.tolist() == [0, 1, 0, 2]
  path = _save(
    tmp_path, x=X, y=Y, groups=[1, 2, 1, 3], **test, groups_test=[4, 3]
  )
  with pytest.raises(ValueError, match="50.0 % of the test .* such as 3"):
    npz.read(path)
  path = _save(tmp_path, x=X, y=Y, groups=groups[:3])
  with pytest.raises(ValueError, match=r"npz: groups: .* of the 4 images"):
    npz.read(path)


def test_missing(tmp_path):
  with pytest.raises(FileNotFoundError, match="no such file"):
    npz.read(str(tmp_path / "x.npz"))


def test_home_is_expanded(tmp_path, monkeypatch):
  _save(tmp_path, x=X, y=Y)
  monkeypatch.setenv("HOME", str(tmp_path))
  assert len(npz.read("~/set.npz")[0][0]) == 4

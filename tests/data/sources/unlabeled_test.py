"""External unlabeled images."""

import functools
import os
import pickle

import numpy as np
from PIL import Image
import pytest
from scipy import io

from ltjax.data.download import fetch as downloads
from ltjax.data.host import host_images, image_files
from ltjax.data.sources import unlabeled

SHAPE = (32, 32, 3)
X = np.random.default_rng(0).integers(0, 256, (6, *SHAPE)).astype(np.uint8)


def _pickle(tmp_path, content, name="ti_80M_selected.pickle") -> str:
  path = tmp_path / name
  path.write_bytes(pickle.dumps(content, protocol=4))
  return f"pickle:{path}"


@pytest.mark.parametrize(
  "name, targets",
  [
    ("ti_80M_selected.pickle", [9, 0, 1, 2, 3, 3]),
    ("ti_500K_pseudo_labeled.pickle", np.array([9, 0, 1, 2, 3, 3])),
  ],
)
def test_tiny_images_layouts(tmp_path, name, targets):
  content = {
    "data": X,
    "extrapolated_targets": targets,
    "prediction_model": "a",
    "prediction_model_epoch": 200,
  }
  pool = unlabeled.load_pool(
    _pickle(tmp_path, content, name), image_shape=SHAPE
  )
  np.testing.assert_array_equal(pool.images, X)
  assert pool.images.dtype == np.uint8
  assert pool.labels.tolist() == [9, 0, 1, 2, 3, 3]
  assert pool.labels.dtype == np.int32


def test_pickle_without_targets(tmp_path):
  pool = unlabeled.load_pool(_pickle(tmp_path, {"data": X}), image_shape=SHAPE)
  assert pool.labels.tolist() == [-1] * 6


def test_pickle_that_runs_code_is_refused(tmp_path):
  mark = tmp_path / "ran"

  class Evil:
    def __reduce__(self):
      return os.system, (f"touch {mark}",)

  name = _pickle(tmp_path, {"data": X, "extrapolated_targets": Evil()})
  with pytest.raises(ValueError, match="ti_80M.*asks for posix.system"):
    unlabeled.load_pool(name, image_shape=SHAPE)
  assert not mark.exists()


@pytest.mark.parametrize("key", ["x", "images", "data"])
def test_npz(tmp_path, key):
  path = tmp_path / "pool.npz"
  np.savez(path, **{key: X})
  pool = unlabeled.load_pool(f"npz:{path}", image_shape=SHAPE)
  np.testing.assert_array_equal(pool.images, X)
  assert pool.labels.tolist() == [-1] * 6
  np.savez(path, **{key: X, "y": [0, 1, -1, 0, 0, 0]})
  pool = unlabeled.load_pool(f"npz:{path}", image_shape=SHAPE)
  assert pool.labels.tolist() == [0, 1, -1, 0, 0, 0]


def test_npz_greyscale(tmp_path):
  path = tmp_path / "pool.npz"
  np.savez(path, x=X[..., 0])
  pool = unlabeled.load_pool(f"npz:{path}", image_shape=(32, 32, 1))
  assert pool.images.shape == (6, 32, 32, 1)


def test_folder_is_fitted_to_the_set(tmp_path):
  (tmp_path / "a" / "b").mkdir(parents=True)
  Image.new("RGB", (40, 9), (10, 20, 30)).save(tmp_path / "a" / "b" / "1.png")
  Image.new("L", (3, 3), 7).save(tmp_path / "2.png")
  pool = unlabeled.load_pool(f"folder:{tmp_path}", image_shape=(4, 6, 3))
  assert pool.images.shape == (2, 4, 6, 3) and pool.images.dtype == np.uint8
  assert pool.images[:, 0, 0].tolist() == [[7, 7, 7], [10, 20, 30]]
  assert pool.labels.tolist() == [-1, -1] and pool.labels.dtype == np.int32
  grey = unlabeled.load_pool(f"folder:{tmp_path}", image_shape=(4, 4, 1))
  assert grey.images[0, 0, 0].tolist() == [7]
  # 0.299 R + 0.587 G + 0.114 B = 18.15
  assert grey.images[1, 0, 0].tolist() == [18]


@pytest.mark.parametrize(
  "name", ["x.npz", "mat:", "svhn_extra:x", "url:x", "npz:", "pickle", ""]
)
def test_unknown_source(name):
  with pytest.raises(ValueError, match="Unknown pool .* Known: pickle:PATH"):
    unlabeled.load_pool(name, image_shape=SHAPE)


@pytest.mark.parametrize("kind", ["pickle", "npz", "folder", "mat"])
def test_missing(tmp_path, kind):
  with pytest.raises(FileNotFoundError, match="gone: no such f"):
    unlabeled.load_pool(f"{kind}:{tmp_path}/gone", image_shape=SHAPE)


@pytest.mark.parametrize(
  "content, message",
  [
    ({"x": X}, "no array of images. A pickle needs the key 'data'"),
    ({"data": [1, 2]}, "no array of images"),
    ({"data": X[:0]}, "the pool has no images"),
    ({"data": X / 255}, "images: pixels are float64"),
    ({"data": X[:, :28]}, r"images are \(28, 32, 3\), .* set \(32, 32, 3\)"),
    ({"data": X, "extrapolated_targets": [0]}, "labels have shape"),
    ({"data": X, "extrapolated_targets": [0.5] * 6}, "not integers"),
    ({"data": X, "extrapolated_targets": [-2] * 6}, "label -2 of image 0"),
  ],
)
def test_refused(tmp_path, content, message):
  name = _pickle(tmp_path, content, "pool.pickle")
  with pytest.raises(ValueError, match=rf"pool\.pickle: .*{message}"):
    unlabeled.load_pool(name, image_shape=SHAPE)


def test_object_npz_is_refused(tmp_path):
  path = tmp_path / "pool.npz"
  np.savez(path, x=np.array([{}], object))
  with pytest.raises(ValueError, match="Object arrays are refused"):
    unlabeled.load_pool(f"npz:{path}", image_shape=SHAPE)


def test_empty_folder(tmp_path):
  with pytest.raises(ValueError, match="no pictures. Suffixes"):
    unlabeled.load_pool(f"folder:{tmp_path}", image_shape=SHAPE)


def test_damaged_picture_is_named(tmp_path):
  (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff")
  with pytest.raises(ValueError, match=r"bad\.jpg: not a whole image"):
    unlabeled.load_pool(f"folder:{tmp_path}", image_shape=SHAPE)


def test_arrays_are_resized_only_if_asked(tmp_path):
  name = _pickle(tmp_path, {"data": X, "extrapolated_targets": [0] * 6})
  small = unlabeled.load_pool(name, image_shape=(16, 8, 3), resize=True)
  assert small.images.shape == (6, 16, 8, 3)
  with pytest.raises(ValueError, match="one shape. Set data.image_size"):
    unlabeled.load_pool(name, image_shape=(16, 8, 3))
  with pytest.raises(ValueError, match="the number of channels must agree"):
    unlabeled.load_pool(name, image_shape=(16, 8, 1), resize=True)


@pytest.mark.parametrize(
  "data, message",
  [
    (X.transpose(0, 3, 1, 2), r"shape \(6, 3, 32, 32\); images must be"),
    (X.reshape(6, -1), r"shape \(6, 3072\); images must be \[N, H, W\]"),
    (X.transpose(1, 2, 3, 0), r"shape \(32, 32, 3, 6\); images must be"),
    (X[..., 0], r"images are \(32, 32, 1\), those .* \(32, 32, 3\)"),
    (X.astype(np.int64), "pixels are int64; they must be uint8"),
  ],
  ids=["channels first", "flat", "MATLAB's", "grey", "integers"],
)
@pytest.mark.parametrize("kind", ["pickle", "npz"])
def test_another_layout_is_refused(tmp_path, kind, data, message):
  name = _pickle(tmp_path, {"data": data})
  if kind == "npz":
    np.savez(tmp_path / "pool.npz", x=data)
    name = f"npz:{tmp_path / 'pool.npz'}"
  with pytest.raises(ValueError, match=message):
    unlabeled.load_pool(name, image_shape=SHAPE)


def test_the_extra_images_of_svhn(tmp_path):
  (tmp_path / "svhn").mkdir()
  file = tmp_path / "svhn" / "extra_32x32.mat"
  content = {"X": X.transpose(1, 2, 3, 0), "y": [[1], [10], [2], [3], [9], [9]]}
  io.savemat(file, content)
  for name in ("svhn_extra", f"mat:{file}"):
    pool = unlabeled.load_pool(name, image_shape=SHAPE, data_dir=str(tmp_path))
    np.testing.assert_array_equal(pool.images, X)
    assert pool.labels.tolist() == [1, 0, 2, 3, 9, 9]
  io.savemat(file, {"X": content["X"]})
  pool = unlabeled.load_pool(f"mat:{file}", image_shape=SHAPE)
  assert pool.labels.tolist() == [-1] * 6
  with pytest.raises(ValueError, match=r"extra_32x32.mat: images are .*shape"):
    unlabeled.load_pool(f"mat:{file}", image_shape=(28, 28, 3))


def test_missing_extra_images_say_where_they_go(tmp_path, monkeypatch):
  def fetch(url, path, **_):
    raise OSError("no network here")

  monkeypatch.setattr(downloads, "fetch", fetch)
  with pytest.raises(FileNotFoundError) as caught:
    unlabeled.load_pool("svhn_extra", image_shape=SHAPE, data_dir=str(tmp_path))
  text = str(caught.value)
  assert f"put it into {tmp_path}/svhn/" in text and "extra_32x32.mat" in text
  assert "tfds" not in text


# -- Lists, and folders that stay unread.


def _pictures(tmp_path, count=4):
  for i in range(count):
    Image.new("RGB", (8, 6), (10 * i, 0, 0)).save(tmp_path / f"{i}.png")
  (tmp_path / "pool.txt").write_text("3.png 2\n0.png\n1.png 0\n")
  return functools.partial(image_files.ImageFiles, size=4)


def test_list(tmp_path):
  pictures = _pictures(tmp_path)
  (tmp_path / "lists").mkdir()
  list_file = (tmp_path / "pool.txt").rename(tmp_path / "lists" / "pool.txt")
  pool = unlabeled.load_pool(
    f"list:{list_file}",
    image_shape=(4, 4, 3),
    root=str(tmp_path),
    pictures=pictures,
  )
  assert isinstance(pool.images, host_images.HostImages)
  assert np.asarray(pool.images)[:, 0, 0, 0].tolist() == [30, 0, 10]
  assert pool.labels.tolist() == [2, -1, 0]


def test_list_with_missing_pictures(tmp_path):
  pictures = _pictures(tmp_path, 2)
  with pytest.raises(FileNotFoundError, match="1 of 3 pictures are missing"):
    unlabeled.load_pool(
      f"list:{tmp_path / 'pool.txt'}", image_shape=(4, 4, 3), pictures=pictures
    )


def test_list_needs_a_size_and_the_shape_of_the_set(tmp_path):
  pictures, name = _pictures(tmp_path), f"list:{tmp_path / 'pool.txt'}"
  with pytest.raises(ValueError, match="set data.image_size"):
    unlabeled.load_pool(name, image_shape=(4, 4, 3))
  with pytest.raises(ValueError, match=r"\(4, 4, 3\).* must have one shape"):
    unlabeled.load_pool(name, image_shape=(5, 5, 3), pictures=pictures)


def test_folder_stays_unread_where_asked(tmp_path):
  pictures = _pictures(tmp_path)
  (tmp_path / "2.png").write_bytes(b"broken")
  pool = unlabeled.load_pool(
    f"folder:{tmp_path}", image_shape=(4, 4, 3), pictures=pictures
  )
  assert len(pool.images) == 4 and pool.labels.tolist() == [-1] * 4
  assert pool.images.read(np.array([3]))[0, 0, 0, 0] == 30

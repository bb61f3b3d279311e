"""Class folders of pictures."""

import numpy as np
from PIL import Image
import pytest

from ltjax.data.sources import folders


def _picture(path, value, *, size=(4, 4), mode="RGB"):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new(mode, size, value).save(path)


def _grey(path, value, size=(4, 4)):
  _picture(path, value, size=size, mode="L")


def test_classes_in_sorted_order(tmp_path):
  _picture(tmp_path / "dog" / "b.png", (2, 2, 2))
  _picture(tmp_path / "dog" / "a.PNG", (1, 1, 1))
  _picture(tmp_path / "cat" / "deep" / "er" / "c.bmp", (3, 3, 3))
  train, test, names = folders.read_classes(tmp_path)[:3]
  assert test is None
  assert names == ("cat", "dog")
  assert train[0].shape == (3, 4, 4, 3) and train[0].dtype == np.uint8
  assert train[0][:, 0, 0, 0].tolist() == [3, 1, 2]
  assert train[1].tolist() == [0, 1, 1] and train[1].dtype == np.int32


def test_train_and_test_folders(tmp_path):
  _grey(tmp_path / "train" / "cat" / "a.png", 1)
  _grey(tmp_path / "train" / "dog" / "a.png", 2)
  _grey(tmp_path / "test" / "dog" / "a.png", 3)
  train, test, names = folders.read_classes(tmp_path)[:3]
  assert names == ("cat", "dog")
  assert train[0].ravel()[::16].tolist() == [1, 2]
  assert train[0].shape == (2, 4, 4, 1)
  assert (test[0] == 3).all() and test[0].shape == (1, 4, 4, 1)
  assert train[1].tolist() == [0, 1] and test[1].tolist() == [1]


def test_train_without_test(tmp_path):
  _grey(tmp_path / "train" / "cat" / "a.png", 1)
  train, test, names = folders.read_classes(tmp_path)[:3]
  assert (len(train[0]), test, names) == (1, None, ("cat",))


def test_a_class_called_train(tmp_path):
  _grey(tmp_path / "train" / "a.png", 1)
  _grey(tmp_path / "bus" / "a.png", 2)
  assert folders.read_classes(tmp_path)[2] == ("bus", "train")


def test_one_colour_picture_makes_all_rgb(tmp_path):
  _grey(tmp_path / "train" / "cat" / "a.png", 7)
  _picture(tmp_path / "test" / "cat" / "a.png", (1, 2, 3))
  train, test, _ = folders.read_classes(tmp_path)[:3]
  assert (train[0] == 7).all() and train[0].shape == (1, 4, 4, 3)
  assert test[0][0, 0, 0].tolist() == [1, 2, 3]


def test_what_is_passed_over(tmp_path):
  _grey(tmp_path / "cat" / "a.png", 1)
  _grey(tmp_path / "cat" / ".thumbs" / "b.png", 2)
  _grey(tmp_path / ".git" / "c.png", 3)
  (tmp_path / "cat" / "._d.png").write_bytes(b"")
  (tmp_path / "cat" / "notes.txt").write_text("x")
  (tmp_path / "cat" / "e.png").mkdir()
  train, _, names = folders.read_classes(tmp_path)[:3]
  assert names == ("cat",) and (train[0] == 1).all() and len(train[0]) == 1


def test_empty_class_is_refused(tmp_path):
  _grey(tmp_path / "dog" / "a.png", 1)
  (tmp_path / "cat").mkdir()
  with pytest.raises(ValueError, match="1 of 2 class folders .*: cat; fill or"):
    folders.read_classes(tmp_path)


def test_mixed_sizes_need_a_size(tmp_path):
  _grey(tmp_path / "cat" / "a.png", 1, (4, 4))
  _grey(tmp_path / "cat" / "b.png", 2, (6, 4))
  with pytest.raises(
    ValueError, match=r"b\.png is 6 x 4, .*a\.png is 4 x 4. Set image_size"
  ):
    folders.read_classes(tmp_path)
  train, _, _ = folders.read_classes(tmp_path, image_size=3)[:3]
  assert train[0].shape == (2, 3, 3, 1)
  assert train[0][:, 0, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize(
  "content, message", [(b"", "is empty"), (b"\x89PNG\r\n", "not a whole image")]
)
def test_damaged_picture_is_named(tmp_path, content, message):
  _grey(tmp_path / "cat" / "a.png", 1)
  (tmp_path / "cat" / "bad.png").write_bytes(content)
  with pytest.raises(ValueError, match=rf"cat/bad\.png: .*{message}"):
    folders.read_classes(tmp_path)


def test_missing_folder_or_file_instead(tmp_path):
  (tmp_path / "file").touch()
  for name in ("nowhere", "file"):
    with pytest.raises(FileNotFoundError, match=f"{name}: no such folder"):
      folders.read_classes(tmp_path / name)


def test_no_classes(tmp_path):
  _grey(tmp_path / "a.png", 1)
  with pytest.raises(ValueError, match="no class sub-folders. Expected"):
    folders.read_classes(tmp_path)


def test_no_pictures(tmp_path):
  (tmp_path / "cat").mkdir()
  with pytest.raises(ValueError, match=r"no pictures in 1 class.*\.jpg"):
    folders.read_classes(tmp_path)


def test_unknown_test_class(tmp_path):
  _grey(tmp_path / "train" / "cat" / "a.png", 1)
  _grey(tmp_path / "test" / "cow" / "a.png", 1)
  with pytest.raises(ValueError, match="test/cow: this class has no folder in"):
    folders.read_classes(tmp_path)

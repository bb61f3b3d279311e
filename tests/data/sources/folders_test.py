"""Class folders of pictures."""

import os
import re

import numpy as np
from PIL import Image
import pytest

from ltjax.data.files import decoding as decodings
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


# -- Broken pictures, and those of more than 8 bits.


def _deep(path, *values):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.array([values], np.uint16)).save(path)


def test_all_broken_pictures_are_told_at_once(tmp_path):
  _grey(tmp_path / "cat" / "a.png", 1)
  for i in range(12):
    (tmp_path / "cat" / f"b{i:02}.png").write_bytes(b"\x89PNG\r\n" * (i % 2))
  with pytest.raises(ValueError, match="12 of 13 pictures cannot be") as caught:
    folders.read_classes(tmp_path)
  first, *lines, last = str(caught.value).splitlines()
  assert "data.broken=skip leaves out those that are damaged" in first
  assert len(lines) == 10 and "b00.png: the image file is empty" in lines[0]
  assert "b01.png: not a whole image" in lines[1]
  path = re.fullmatch(r"  and 2 more; (.*) names all of them\.", last)[1]
  with open(path, encoding="utf-8") as file:
    assert [line.split(":")[0][-7:] for line in file] == [
      f"b{i:02}.png" for i in range(12)
    ]
  os.remove(path)


def test_broken_pictures_are_left_out_where_that_is_asked_for(tmp_path):
  for name, value in (("train/a/1", 1), ("train/b/3", 3), ("test/b/5", 5)):
    _grey(tmp_path / f"{name}.png", value)
  for name in ("train/a/2", "train/b/4", "test/a/6", "val/a/7", "unlabeled/8"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / f"{name}.png").write_bytes(b"?")
  _grey(tmp_path / "val" / "b" / "9.png", 9)
  _grey(tmp_path / "unlabeled" / "9.png", 10)
  found = folders.read_classes(tmp_path, broken="skip")
  for part, values, labels in (
    (found.train, [1, 3], [0, 1]),
    (found.test, [5], [1]),
    (found.validation, [9], [1]),
  ):
    assert part.images[:, 0, 0, 0].tolist() == values
    assert part.labels.tolist() == labels
  assert found.unlabeled[:, 0, 0, 0].tolist() == [10]
  assert "left out (data.broken=skip): 5 pictures, such as" in found.understood
  assert "train/a/2.png: not a whole image" in found.understood


def test_a_class_of_broken_pictures_is_an_error(tmp_path):
  _grey(tmp_path / "a" / "1.png", 1)
  (tmp_path / "b").mkdir()
  (tmp_path / "b" / "2.png").touch()
  with pytest.raises(ValueError, match="all pictures of the class b are brok"):
    folders.read_classes(tmp_path, broken="skip")
  (tmp_path / "a" / "1.png").write_bytes(b"?")
  with pytest.raises(ValueError, match="neither it nor another picture"):
    folders.read_classes(tmp_path, broken="skip")


def test_a_picture_of_another_kind_is_not_skipped(tmp_path):
  _grey(tmp_path / "a" / "1.png", 1)
  frames = [Image.new("L", (4, 4), value) for value in (1, 2)]
  frames[0].save(
    tmp_path / "a" / "2.tif", save_all=True, append_images=frames[1:]
  )
  with pytest.raises(ValueError, match="2.tif: it has 2 pages") as caught:
    folders.read_classes(tmp_path, broken="skip")
  assert "data.broken" not in str(caught.value)


def test_one_range_of_values_for_the_whole_set(tmp_path):
  """That of the pictures for training; a test picture beyond it is clipped."""
  _deep(tmp_path / "train" / "a" / "1.png", 100, 300)
  _deep(tmp_path / "train" / "a" / "2.png", 200, 500)
  _deep(tmp_path / "test" / "a" / "3.png", 50, 600)
  _grey(tmp_path / "train" / "b" / "4.png", 7, (2, 1))
  found = folders.read_classes(tmp_path)
  assert found.train.images[..., 0].tolist() == [
    [[0, 128]],  # 200 / 400 * 255 = 127.5
    [[64, 255]],
    [[7, 7]],
  ]
  assert found.test.images[..., 0].tolist() == [[[0, 255]]]
  assert found.decoding == decodings.Decoding(100, 500)
  assert "3 pictures of more than 8 bits" in found.understood
  assert "100 ... 500, become 0 ... 255" in found.understood
  assert "1 picture of 8 bits: as they are" in found.understood


def test_a_range_that_is_given(tmp_path):
  _deep(tmp_path / "a" / "1.png", 100, 300)
  given = decodings.Decoding(0, 300, "black")
  found = folders.read_classes(tmp_path, decoding=given)
  assert found.train.images.ravel().tolist() == [85, 255]
  assert found.decoding == given


def test_a_range_of_one_value(tmp_path):
  _deep(tmp_path / "a" / "1.png", 100, 100)
  found = folders.read_classes(tmp_path)
  assert found.train.images.ravel().tolist() == [0, 0]
  assert found.decoding[:2] == (100, 101)


def test_test_pictures_alone_give_no_range(tmp_path):
  _grey(tmp_path / "train" / "a" / "1.png", 7, (2, 1))
  _deep(tmp_path / "test" / "a" / "2.png", 100, 300)
  with pytest.raises(ValueError, match="2.png: .* 100 ... 300. data.pixel_ran"):
    folders.read_classes(tmp_path)

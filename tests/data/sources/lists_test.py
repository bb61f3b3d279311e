"""List files: what they say, and what is said of wrong ones."""

import pathlib

import numpy as np
import pytest

from ltjax.data.files import tree
from ltjax.data.sources import lists


def write(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text, encoding="utf-8")
  return path


def touch(root, *names):
  for name in names:
    write(root / name, "x")


def test_reads_paths_and_labels_in_order(tmp_path):
  path = write(
    tmp_path / "train.txt",
    "train/n01/a b.JPEG 7\n\nval/ü.png\t12\n/abs/c.jpg 0\n  d.jpeg 3  \n",
  )
  found = lists.read(path)
  assert found.files == [
    tmp_path / "train/n01/a b.JPEG",
    tmp_path / "val/ü.png",
    pathlib.Path("/abs/c.jpg"),
    tmp_path / "d.jpeg",
  ]
  assert found.labels.dtype == np.int32
  assert found.labels.tolist() == [7, 12, 0, 3]
  assert lists.read(path, "/data/imagenet").files[0] == pathlib.Path(
    "/data/imagenet/train/n01/a b.JPEG"
  )


def test_labels_may_be_missing_where_nothing_is_labeled(tmp_path):
  # Is "photo 1.jpg" a picture, and "b.jpg 1" one with a label? Yes.
  path = write(tmp_path / "u.txt", "a.jpg\nphoto 1.jpg\nb.jpg 1\nphoto 2\n")
  found = lists.read(path)
  assert [file.name for file in found.files] == [
    "a.jpg",
    "photo 1.jpg",
    "b.jpg",
    "photo 2",
  ]
  assert found.labels.tolist() == [-1, -1, 1, -1]


def test_windows_line_ends(tmp_path):
  path = tmp_path / "train.txt"
  path.write_bytes(b"a.jpg 1\r\nb.jpg 0\r\n")
  assert lists.read(path).labels.tolist() == [1, 0]


def test_a_folder_of_lists(tmp_path):
  touch(tmp_path, "x/a.jpg", "x/b.jpg", "x/c.jpg")
  write(tmp_path / "train.txt", "x/a.jpg 1\nx/b.jpg 0\n")
  train, test, names = lists.read_set(str(tmp_path))[:3]
  assert train.labels.tolist() == [1, 0] and test is None
  assert names == ("0", "1")
  write(tmp_path / "test.txt", "x/c.jpg 2\n")
  train, test, names = lists.read_set(str(tmp_path))[:3]
  assert test.files == [tmp_path / "x/c.jpg"] and names == ("0", "1", "2")
  write(tmp_path / "classes.txt", "owl\ncat\nold dog\nnewt\n")
  assert lists.read_set(str(tmp_path))[2] == ("owl", "cat", "old dog", "newt")


def test_lists_by_their_own_names_and_a_root(tmp_path):
  touch(tmp_path / "images", "a.jpg", "b.jpg")
  train = write(tmp_path / "SSLT_train.txt", "a.jpg 0\n")
  test = write(tmp_path / "SSLT_test.txt", "b.jpg 1\n")
  root = str(tmp_path / "images")
  found, held_out, _ = lists.read_set(f"{train},{test}", root)[:3]
  assert found.files == [tmp_path / "images/a.jpg"]
  assert held_out.labels.tolist() == [1]
  assert lists.read_set(str(train), root)[1] is None
  with pytest.raises(ValueError, match="names 4 lists"):
    lists.read_set(f"{train},{test},{test},{test}", root)


def test_a_validation_list(tmp_path):
  touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
  for name, line in (("train", "a.jpg 0"), ("val", "b.jpg 1")):
    write(tmp_path / f"{name}.txt", line)
  found = lists.read_set(str(tmp_path))
  assert found.test is None and found.names == ("0", "1")
  assert found.validation.files == [tmp_path / "b.jpg"]
  last = write(tmp_path / "last.txt", "c.jpg 1")
  argument = f"{tmp_path}/train.txt,{tmp_path}/val.txt,{last}"
  found = lists.read_set(argument)
  assert found.validation.labels.tolist() == [1]
  assert found.test.files == [tmp_path / "c.jpg"]


def test_names_of_classes(tmp_path):
  """Behind a tab or, without spaces, behind the last space; sorted."""
  touch(tmp_path, "a.jpg", "b c.jpg", "d.jpg", "e.jpg")
  text = "\ufeffa.jpg owl\nb c.jpg\told dog\nd.jpg  猫\n"
  path = write(tmp_path / "train.txt", text)
  found = lists.read_set(str(path))
  assert found.names == ("old dog", "owl", "猫")
  assert found.train.labels.tolist() == [1, 0, 2]
  assert found.train.files[1] == tmp_path / "b c.jpg"
  assert lists.read(path).labels.tolist() == [-1, -1, -1]
  pool = lists.read(path, "", ["owl", "猫"])
  assert pool.labels.tolist() == [0, -1, 1]
  # The order of classes.txt comes before that of the alphabet.
  write(tmp_path / "classes.txt", "owl\n猫\nold dog\n")
  test = write(tmp_path / "test.txt", "e.jpg 猫\n")
  found = lists.read_set(f"{path},{test}")
  assert found.names == ("owl", "猫", "old dog")
  assert found.train.labels.tolist() == [0, 2, 1]
  assert found.test.labels.tolist() == [1]


@pytest.mark.parametrize(
  "train, test, error",
  [
    ("a.jpg cat\nb.jpg 1\n", "", "line 2 has the number .* line 1 a name"),
    ("a.jpg cat\nb.jpg owl\n", "a.jpg 1\n", "one list has names"),
    ("a.jpg cat\nb.jpg owl\n", "a.jpg oowl\n", "'oowl' is not in the list of"),
    ("a.jpg old dog\nb.jpg owl\n", "", "a tab and a name with spaces"),
  ],
)
def test_wrong_names_of_classes(train, test, error, tmp_path):
  touch(tmp_path, "a.jpg", "b.jpg")
  write(tmp_path / "train.txt", train)
  if test:
    write(tmp_path / "test.txt", test)
  with pytest.raises(ValueError, match=error):
    lists.read_set(str(tmp_path))


def test_names_that_classes_txt_lacks(tmp_path):
  touch(tmp_path, "a.jpg", "b.jpg")
  write(tmp_path / "train.txt", "a.jpg owl\nb.jpg cat\n")
  write(tmp_path / "classes.txt", "owl\ndog\n")
  with pytest.raises(ValueError, match="'cat' is not in .*classes.txt"):
    lists.read_set(str(tmp_path))


@pytest.mark.parametrize("count", [3, 10])
def test_few_missing_pictures_are_all_named(count, tmp_path):
  files = [tmp_path / f"{i}.jpg" for i in range(count + 2)]
  touch(tmp_path, "0.jpg", "1.jpg")
  with pytest.raises(FileNotFoundError) as caught:
    lists.check_exist(files, "my.txt")
  message = str(caught.value)
  assert f"my.txt: {count} of {count + 2} pictures are missing" in message
  assert "data.root" in message
  assert message.count("\n") == count
  assert all(str(file) in message for file in files[2:])


def test_of_many_missing_pictures_ten_are_shown_and_a_file_names_all(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(tree.tempfile, "tempdir", str(tmp_path))
  lines = "".join(f"gone/{i}.JPEG {i % 3}\n" for i in range(1234))
  touch(tmp_path, "here.jpg")
  path = write(tmp_path / "train.txt", "here.jpg 0\n" + lines)
  with pytest.raises(FileNotFoundError) as caught:
    lists.read_set(str(path))
  message = str(caught.value)
  assert f"{path}: 1,234 of 1,235 pictures are missing" in message
  for i in range(10):
    assert f"gone/{i}.JPEG\n" in message
  assert "gone/10.JPEG" not in message
  (named,) = tmp_path.glob("missing_images_*.txt")
  assert f"and 1,224 more; {named} names all of them." in message
  assert named.read_text().splitlines() == [
    str(tmp_path / f"gone/{i}.JPEG") for i in range(1234)
  ]


def test_all_there_says_nothing(tmp_path):
  touch(tmp_path, "a.jpg")
  lists.check_exist([tmp_path / "a.jpg"], "l")


@pytest.mark.parametrize(
  "text, error",
  [
    ("", "the list names no picture"),
    ("\n \n", "the list names no picture"),
    ("a.jpg 0\nb.jpg 1\na.jpg 2\n", "line 3: a.jpg is in line 1 already"),
    (
      "a.jpg 0\nb.jpg\n",
      "1 pictures have no class number, the first is .*b.jp",
    ),
    ("a.jpg -1\n", "1 pictures have no class number"),
    ("a.jpg 0.5\n", "1 pictures have no class number"),
  ],
)
def test_wrong_lists(text, error, tmp_path):
  path = write(tmp_path / "train.txt", text)
  with pytest.raises(ValueError, match=error):
    lists.read_set(str(path))


def test_no_list_and_no_text(tmp_path):
  with pytest.raises(FileNotFoundError, match="train.txt: no such list file"):
    lists.read_set(str(tmp_path))
  path = tmp_path / "train.txt"
  path.write_bytes(b"\xff\xfe\x00a")
  with pytest.raises(ValueError, match="not a text in UTF-8"):
    lists.read(path)


def test_too_few_class_names(tmp_path):
  touch(tmp_path, "a.jpg")
  write(tmp_path / "train.txt", "a.jpg 2\n")
  write(tmp_path / "classes.txt", "owl\ncat\n")
  with pytest.raises(ValueError, match="names 2 classes, .* go up to 2"):
    lists.read_set(str(tmp_path))

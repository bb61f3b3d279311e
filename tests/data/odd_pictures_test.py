"""Folders as people have them: layouts, and pictures of every kind."""

import os
import unicodedata

import pytest

from ltjax.data.files import images, tree
from ltjax.data.sources import layouts


def fill(root, names):
  """Makes empty files; what ends in a slash is a folder."""
  for name in names.split():
    path = root / name
    (path if name.endswith("/") else path.parent).mkdir(
      parents=True, exist_ok=True
    )
    if not name.endswith("/"):
      path.touch()


def parts_of(found):
  """The files of each part, as class/file, and the others."""

  def told(part):
    if part is None:
      return None
    return [
      f"{found.names[c]}:{file.name}"
      for file, c in zip(part.files, part.labels)
    ]

  return {
    "train": told(found.train),
    "test": told(found.test),
    "val": told(found.validation),
    "unlabeled": found.unlabeled and [file.name for file in found.unlabeled],
  }


# -- Layouts.


@pytest.mark.parametrize(
  "names, wanted, told",
  [
    (  # Class folders alone.
      "cat/1.jpg cat/2.jpg dog/3.jpg",
      {"train": "cat:1.jpg cat:2.jpg dog:3.jpg"},
      "2 classes, a folder each|3 pictures; a share of each class is held out",
    ),
    (  # torchvision, solo-learn, ImageNet.
      "train/cat/1.jpg train/dog/2.jpg val/cat/3.jpg val/dog/4.jpg",
      {"train": "cat:1.jpg dog:2.jpg", "test": "cat:3.jpg dog:4.jpg"},
      "the parts train, val|val: 2 pictures of 2 classes, to test on",
    ),
    (  # Roboflow.
      "train/a/1.jpg valid/a/2.jpg test/a/3.jpg README.txt",
      {"train": "a:1.jpg", "val": "a:2.jpg", "test": "a:3.jpg"},
      "valid: 1 picture of 1 classes$|passed over: 1 .txt .README.txt.",
    ),
    (
      "Training/a/1.jpg Testing/a/2.jpg",
      {"train": "a:1.jpg", "test": "a:2.jpg"},
      "the parts Testing, Training",
    ),
    (
      "TRAIN/a/1.jpg Dev/a/2.jpg",
      {"train": "a:1.jpg", "test": "a:2.jpg"},
      "Dev: 1 picture of 1 classes, to test on",
    ),
    (
      "train_images/a/1.jpg test-set/a/2.jpg Validation/a/3.jpg",
      {"train": "a:1.jpg", "test": "a:2.jpg", "val": "a:3.jpg"},
      "",
    ),
    (
      "train2017/a/1.jpg val2017/a/2.jpg",
      {"train": "a:1.jpg", "test": "a:2.jpg"},
      "",
    ),
    (
      "train/a/1.jpg",
      {"train": "a:1.jpg"},
      "no test folder: a share of each class is held out",
    ),
    (  # Under one folder.
      "dataset/train/a/1.jpg dataset/test/a/2.jpg LICENSE",
      {"train": "a:1.jpg", "test": "a:2.jpg"},
      "in dataset.: the parts test, train",
    ),
    (  # Ultralytics: labels beside the pictures.
      "images/train/a/1.jpg images/val/a/2.jpg labels/train/1.txt",
      {"train": "a:1.jpg", "test": "a:2.jpg"},
      "in images.*|1 .txt .labels/train/1.txt.",
    ),
    (
      "photos/cat/1.jpg photos/dog/2.jpg",
      {"train": "cat:1.jpg dog:2.jpg"},
      "in photos.: 2 classes",
    ),
    (
      "train/a/1.jpg test/a/2.jpg unlabelled/x/3.jpg unlabelled/4.jpg",
      {"train": "a:1.jpg", "test": "a:2.jpg", "unlabeled": "4.jpg 3.jpg"},
      "unlabelled: 2 pictures without a class",
    ),
    (
      "a/1.jpg b/2.jpg unlabeled_images/3.jpg",
      {"train": "a:1.jpg b:2.jpg", "unlabeled": "3.jpg"},
      "2 classes",
    ),
    (  # A class of vehicles.
      "bus/1.jpg train/2.jpg",
      {"train": "bus:1.jpg train:2.jpg"},
      "the folder train is taken for a class",
    ),
    (
      "train/a/1.jpg train/b/2.jpg test/b/3.jpg test/a/ test/c/ logs/",
      {"train": "a:1.jpg b:2.jpg", "test": "b:3.jpg"},
      "test: 1 picture of 1 of 2 classes|no test pictures of a$|"
      "2 folder without pictures .logs.",
    ),
    (
      "animals/cat/1.jpg animals/dog/2.jpg plants/3.jpg",
      {"train": "animals:1.jpg animals:2.jpg plants:3.jpg"},
      "1 class folders hold sub-folders.*\n?.*all of animals/cat is animals",
    ),
    (
      "a/1.jpg b/2.jpg 3.jpg 4.jpg",
      {"train": "a:1.jpg b:2.jpg"},
      "passed over: 2 pictures in no class folder, such as .*/3.jpg",
    ),
    (
      "train/a/1.jpg train/5.jpg test/a/2.jpg test/6.jpg",
      {"train": "a:1.jpg", "test": "a:2.jpg"},
      "such as train/5.jpg|such as test/6.jpg",
    ),
    (  # Letters: case tells classes apart, where both are there.
      "train/A/1.jpg train/a/2.jpg test/A/3.jpg test/a/4.jpg",
      {"train": "A:1.jpg a:2.jpg", "test": "A:3.jpg a:4.jpg"},
      "",
    ),
  ],
)
def test_a_layout_is_understood_and_told(tmp_path, names, wanted, told):
  fill(tmp_path, names)
  found = layouts.understand(tmp_path)
  empty = {"train": None, "test": None, "val": None, "unlabeled": None}
  assert parts_of(found) == empty | {k: v.split() for k, v in wanted.items()}
  for line in filter(None, told.split("|")):
    assert_told(found.understood, line)
  assert 2 <= len(found.understood.splitlines()) <= 6


def assert_told(text, pattern):
  import re

  assert re.search(pattern, text, re.MULTILINE), text


@pytest.mark.parametrize(
  "names, message",
  [
    (
      "train/a/1.jpg test/a/2.jpg cat/3.jpg",
      r"parts \(test, train\) lie beside others with pictures \(cat\)",
    ),
    ("test/1.jpg cat/2.jpg dog/3.jpg", "lie beside others .*cat, dog"),
    (
      "train/a/1.jpg val/a/2.jpg valid/a/3.jpg",
      "val and valid both read as the part val; rename or remove",
    ),
    (
      "train/1.jpg train/2.jpg",
      "train/ has 2 pictures and no class folders; expected .*list:PATH",
    ),
    ("train/a/1.jpg train/b/ test/a/2.jpg", "1 of 2 class folders .*: b; fill"),
    ("train/a/ train/b/", "no pictures in 2 class folders"),
    (
      "train/a/1.jpg test/2.jpg",
      "test/ has no pictures in class folders, and 1",
    ),
    ("train/a/1.jpg test/a/ test/b/", "test/ has no pictures in class folders"),
    ("test/a/1.jpg val/a/1.jpg", "the parts test, val have no train beside"),
    ("train/a/1.jpg test/b/2.jpg", r"test/b: .* no folder in .*train\. Add it"),
    (
      "train/Cat/1.jpg test/cat/2.jpg",
      "test/cat: this class .* 'Cat' there differs by case",
    ),
    ("a/train/1.jpg a/test/2.jpg b/train/3.jpg", "folder a holds parts"),
    ("seg_train/a/1.jpg seg_test/a/2.jpg", "may be parts or classes; call"),
    ("train/a/1.jpg unlabeled/", "unlabeled/ has no pictures"),
    ("unlabeled/1.jpg", "no class sub-folders"),
    ("1.jpg 2.jpg", "no class sub-folders.* 2 pictures lie directly in it"),
    ("a/1.heic2 b/2.txt", "no pictures in 2 class folders"),
  ],
)
def test_a_layout_of_two_meanings_is_refused(tmp_path, names, message):
  fill(tmp_path, names)
  with pytest.raises(ValueError, match=message) as refused:
    layouts.understand(tmp_path)
  assert str(tmp_path) in str(refused.value)


def test_accents_written_in_two_ways(tmp_path):
  composed = unicodedata.normalize("NFC", "café")
  apart = unicodedata.normalize("NFD", "café")
  fill(tmp_path, f"train/{composed}/1.jpg test/{apart}/2.jpg")
  with pytest.raises(ValueError, match="or by how its accents are written"):
    layouts.understand(tmp_path)
  fill(tmp_path, f"train/{apart}/3.jpg")
  with pytest.raises(ValueError, match="look the same, .* NFC and NFD"):
    layouts.understand(tmp_path)


def test_unlabeled_pictures_that_nobody_asked_for(tmp_path):
  fill(tmp_path, "a/1.jpg b/2.jpg unlabeled/3.jpg")
  found = layouts.understand(tmp_path, unlabeled=False)
  assert found.unlabeled is None
  assert "not used: --config.data.unlabeled.source=found" in found.understood


# -- What is passed over.


def test_what_is_passed_over_is_told(tmp_path, monkeypatch):
  monkeypatch.setattr(images, "readable", lambda: frozenset({".jpg", ".jfif"}))
  fill(
    tmp_path,
    "a/1.jpg a/2.JFIF a/3.heic a/4.HEIC a/5.svg a/6.txt a/.7.jpg .git/8.jpg"
    " a/@eaDir/9.jpg b/10.jpg a/11",
  )
  (tmp_path / "a" / "12.jpg").symlink_to(tmp_path / "gone.jpg")
  (tmp_path / "a" / "13").symlink_to(tmp_path / "a" / "13")
  os.mkfifo(tmp_path / "a" / "14.jpg")
  found = layouts.understand(tmp_path)
  assert [file.name for file in found.train.files] == [
    "1.jpg",
    "2.JFIF",
    "10.jpg",
  ]
  assert found.understood.splitlines()[2:] == [
    "  passed over, not read: 2 .heic (a/3.heic); pip install"
    " 'ltjax[pictures]' reads them",
    "  passed over, not read: 1 .svg (a/5.svg)",
    "  passed over: 3 hidden (.git), 3 neither file nor folder (a/12.jpg), 1"
    " .txt (a/6.txt), 1 without suffix (a/11)",
  ]


def test_links_to_folders_count_once(tmp_path):
  fill(tmp_path, "set/a/1.jpg set/b/2.jpg elsewhere/3.jpg")
  (tmp_path / "set" / "c").symlink_to(tmp_path / "elsewhere")
  (tmp_path / "set" / "a" / "circle").symlink_to(tmp_path / "set")
  (tmp_path / "set" / "again").symlink_to(tmp_path / "set" / "b")
  found = layouts.understand(tmp_path / "set")
  assert parts_of(found)["train"] == ["a:1.jpg", "b:2.jpg", "c:3.jpg"]
  assert_told(found.understood, "2 link to a folder that is read already .a/c")


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
  fill(tmp_path, "a/1.jpg b/2.jpg")
  scan = os.scandir

  def refuse(path):
    if os.fspath(path).endswith("/b"):
      raise PermissionError(13, "Permission denied", os.fspath(path))
    return scan(path)

  monkeypatch.setattr(tree.os, "scandir", refuse)
  with pytest.raises(PermissionError, match="Permission denied.*/b"):
    layouts.understand(tmp_path)

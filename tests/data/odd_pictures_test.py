"""Folders as people have them: layouts, and pictures of every kind."""

import io
import json
import os
import re
import struct
import sys
import types
import unicodedata
import zlib

import numpy as np
from PIL import Image
import pytest

from ltjax import config as configs
from ltjax.data.files import decoding as decodings
from ltjax.data.files import images, layouts, tree
from ltjax.data.sources import unlabeled
from ltjax.devices import sharding
from ltjax.methods import build as builds
from ltjax.runs import model_description, pictures


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
      "the parts Training, Testing",
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
      "in dataset.: the parts train, test",
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
      "1 of 2 have some. are no classes .* all of animals/cat is animals",
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
  assert re.search(pattern, text, re.MULTILINE), text


@pytest.mark.parametrize(
  "names, message",
  [
    (
      "train/a/1.jpg test/a/2.jpg cat/3.jpg",
      r"parts \(train, test\) lie beside others with pictures \(cat\)",
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
    ("test/a/1.jpg val/a/1.jpg", "the parts val, test have no train beside"),
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


def test_an_error_tells_pictures_that_are_not_read(tmp_path, monkeypatch):
  monkeypatch.setattr(images, "readable", lambda: frozenset({".jpg"}))
  fill(tmp_path, "a/1.heic a/2.heic b/3.jpg b/4.txt")
  message = r"(?s)1 of 2 .*: a; fill.*\n  .*2 .heic \(a/1.heic\); pip install"
  with pytest.raises(ValueError, match=message):
    layouts.understand(tmp_path)
  for find in (
    lambda: pictures.find([tmp_path / "a"]),
    lambda: unlabeled.read(f"folder:{tmp_path / 'a'}", picture_shape=(1, 1, 1)),
  ):
    with pytest.raises(ValueError, match=r"(?s)no pictures.*2 .heic \(1.heic"):
      find()


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


# -- Pictures of every kind.

GREY = np.array([[0, 50, 200]], np.uint8)
DEEP = np.array([[0, 1000, 4000]], np.uint16)


def saved(array, kind="PNG", **settings):
  image = array if isinstance(array, Image.Image) else Image.fromarray(array)
  out = io.BytesIO()
  image.save(out, kind, **settings)
  return out.getvalue()


def frames(kind, count=2):
  first, *rest = [
    Image.new("RGB", (2, 2), (60 * i, 0, 0)) for i in range(count)
  ]
  return saved(first, kind, save_all=True, append_images=rest)


def png16(array, colour, transparent=b""):
  """A PNG of 16 bits, as Pillow writes none of colour."""

  def chunk(kind, content):
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check

  height, width = array.shape[:2]
  rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
  head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
  return (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", head)
    + (chunk(b"tRNS", transparent) if transparent else b"")
    + chunk(b"IDAT", zlib.compress(rows))
    + chunk(b"IEND", b"")
  )


def tiff(array, sign=1, photometric=1, extra=None):
  """A TIFF of any numbers and channels, of which Pillow writes few.

  `extra` says what the last channel is: 0 for nothing known.
  """
  height, width = array.shape[:2]
  channels = 1 if array.ndim == 2 else array.shape[2]
  bits, data = array.dtype.itemsize * 8, array.tobytes()
  head = 8 + 2 + 12 * 11 + 4
  lists = struct.pack(
    f"<{2 * channels}H", *[bits] * channels, *[sign] * channels
  )
  at = [head, head + 2 * channels]

  def short(tag, value, count=1, place=0):
    if count < 3:
      values = [value] * count + [0] * (2 - count)
      return struct.pack("<HHIHH", tag, 3, count, *values)
    return struct.pack("<HHII", tag, 3, count, place)

  def long(tag, value):
    return struct.pack("<HHII", tag, 4, 1, value)

  tags = [
    long(256, width),
    long(257, height),
    short(258, bits, channels, at[0]),
    short(259, 1),
    short(262, photometric),
    long(273, head + len(lists)),
    short(277, channels),
    long(278, height),
    long(279, len(data)),
    short(284, 1) if extra is None else short(338, extra),
    short(339, sign, channels, at[1]),
  ]
  body = struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4)
  return b"II*\0" + struct.pack("<I", 8) + body + lists + data


CLEAR = Image.merge(
  "RGBA",
  [
    Image.fromarray(np.array([row], np.uint8))
    for row in ([9, 10], [9, 20], [9, 30], [0, 255])
  ],
)


@pytest.mark.parametrize(
  "data, settings, wanted",
  [
    # As it is: 8 bits, whatever the name says.
    (saved(GREY), {}, [[0, 50, 200]]),
    (saved(GREY > 60), {}, [[0, 0, 255]]),
    (b"P5 2 1 100\n\x32\x64", {}, [[128, 255]]),
    # Transparency.
    (saved(CLEAR), {}, [[[255] * 3, [10, 20, 30]]]),
    (saved(CLEAR), {"background": "black"}, [[[0] * 3, [10, 20, 30]]]),
    (saved(CLEAR), {"background": "grey"}, [[[128] * 3, [10, 20, 30]]]),
    (saved(CLEAR), {"background": "none"}, [[[9] * 3, [10, 20, 30]]]),
    (saved(CLEAR, "TIFF"), {}, [[[255] * 3, [10, 20, 30]]]),
    (saved(CLEAR, "WEBP", lossless=True), {}, [[[255] * 3, [10, 20, 30]]]),
    (saved(CLEAR.convert("LA")), {}, [[255, 18]]),
    (saved(GREY, transparency=50), {}, [[0, 255, 200]]),
    (
      saved(Image.fromarray(GREY).quantize(3), transparency=0),
      {"background": "grey"},
      [[[0] * 3, [50] * 3, [128] * 3]],
    ),
    # More than 8 bits.
    (saved(DEEP), {"low": 0, "high": 4000}, [[0, 64, 255]]),
    (saved(DEEP, "TIFF"), {"low": 0, "high": 4000}, [[0, 64, 255]]),
    (saved(DEEP, "JPEG2000"), {"low": 0, "high": 4000}, [[0, 64, 255]]),
    (
      saved(DEEP.astype(np.int32), "TIFF"),
      {"low": 500, "high": 1500},
      [[0, 128, 255]],
    ),
    (
      saved(DEEP.astype(np.float32) / 4000, "TIFF"),
      {"low": 0, "high": 1},
      [[0, 64, 255]],
    ),
    (
      tiff(np.array([[-100, 0, 100]], np.int16), sign=2),
      {"low": -100, "high": 100},
      [[0, 128, 255]],
    ),
    (
      tiff(np.array([[0, 2**31, 2**32 - 1]], np.uint32)),
      {"low": 0, "high": 2**32 - 1},
      [[0, 128, 255]],
    ),
    (b"P5 2 1 65535\n\x03\xe8\x0f\xa0", {"low": 0, "high": 4000}, [[64, 255]]),
    (b"P5 2 1 4095\n\x03\xe8\x0f\xa0", {"low": 0, "high": 4000}, [[64, 255]]),
    (
      png16(DEEP, 0, b"\x03\xe8"),
      {"low": 0, "high": 4000, "background": "white"},
      [[0, 255, 255]],
    ),
    (
      png16(np.stack([DEEP * 16] * 3, -1), 2),
      {"low": 0, "high": 65535},
      [[[0] * 3, [62] * 3, [250] * 3]],
    ),
    # Grey with alpha stays grey.
    (
      png16(np.stack([DEEP * 16, DEEP * 0 + 65535], -1), 4),
      {"low": 0, "high": 65535},
      [[0, 62, 250]],
    ),
    # Pages and frames.
    (frames("GIF", 1), {}, [[[0] * 3] * 2] * 2),
    (frames("MPO"), {}, [[[0] * 3] * 2] * 2),
    (frames("TIFF"), {"pages": "first"}, [[[0] * 3] * 2] * 2),
    (frames("GIF"), {"pages": "first"}, [[[0] * 3] * 2] * 2),
    # Ink.
    (
      saved(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF"),
      {},
      [[[255, 0, 0]]],
    ),
  ],
)
def test_a_kind_of_picture_is_read(tmp_path, data, settings, wanted):
  path = tmp_path / "a.jpg"  # by content, not by name
  path.write_bytes(data)
  found = images.read_image(path, decoding=decodings.Decoding(**settings))
  assert np.asarray(found).tolist() == wanted


FIVE = np.zeros((1, 2, 5), np.uint8)


@pytest.mark.parametrize(
  "data, message",
  [
    (
      saved(DEEP),
      "more than 8 bits, with values of 0 ... 4000. data",
    ),
    (
      png16(np.stack([DEEP] * 3, -1), 2),
      "upper 8 bits .* data.pixel_range=0",
    ),
    (png16(np.stack([DEEP] * 4, -1), 6), "upper 8 bits"),
    (b"P6 1 1 4095\n" + bytes(6), "values of 0 ... 4095, of which"),
    (tiff(np.zeros((1, 2, 3), np.uint16), photometric=2), "upper 8 bits"),
    (saved(np.float32([[0, np.nan]]), "TIFF"), "1 of its pixels are NaN"),
    (saved(np.float32([[-np.inf, np.inf]]), "TIFF"), "2 of its pixels are NaN"),
    (
      tiff(np.zeros((1, 2), np.float64), sign=3),
      "a TIFF of a kind that",
    ),
    (tiff(np.zeros((1, 2, 2), np.uint16)), "a TIFF of a kind that"),
    (tiff(np.zeros((1, 2), np.int8), sign=2), "its 8 bits have a sign"),
    (tiff(np.zeros((1, 2), np.uint16), photometric=0), "white is 0"),
    (tiff(FIVE[..., :2]), "a TIFF of a kind that"),
    (tiff(FIVE[..., :2], extra=0), "2 channels, of which 1 would be read"),
    (tiff(FIVE[..., :4], photometric=2, extra=0), "4 channels, of which 3"),
    (tiff(FIVE[..., :4], photometric=2), "whether the last of its 4 channels"),
    (tiff(FIVE, photometric=2), "5 channels"),
    (tiff(FIVE), "a TIFF of a kind that Pillow does not read, .* 5 channels"),
    (saved(Image.new("LAB", (1, 1)), "TIFF"), "its colours are LAB"),
    (frames("TIFF", 3), "3 pages or frames. data.pages=first"),
    (saved(np.float32([[0.25, 0.5]]), "TIFF"), "such as 0.25,0.5; otherwise"),
    (frames("GIF"), "2 pages or frames"),
    (frames("PNG"), "2 pages or frames"),
    (frames("WEBP"), "2 pages or frames"),
    (
      saved(DEEP, "JPEG2000").replace(
        b"\x00\x01\x0f\x01\x01\xff", b"\x00\x01\x0b\x01\x01\xff"
      ),
      "neither 8 nor 16 bits",
    ),
    (b"\0\0\0\x18ftypheix" + bytes(12), r"ltjax\[pictures\]' reads HEIC"),
  ],
)
def test_a_kind_of_picture_is_refused(tmp_path, data, message):
  path = tmp_path / "a.png"
  path.write_bytes(data)
  with pytest.raises(decodings.KindError, match=f"a.png: .*{message}"):
    images.read_image(path)


def test_a_file_that_may_not_be_opened(tmp_path, monkeypatch):
  path = tmp_path / "a.png"
  path.write_bytes(saved(GREY))

  def refuse(*args, **settings):
    raise PermissionError(13, "Permission denied")

  monkeypatch.setattr(Image, "open", refuse)
  with pytest.raises(ValueError, match="a.png: it cannot be read .Permission"):
    images.read_image(path)


def test_heic_is_read_where_its_package_is(monkeypatch):
  registered = []
  module = types.SimpleNamespace(
    register_heif_opener=lambda: registered.append(1)
  )
  monkeypatch.setitem(sys.modules, "pillow_heif", module)
  assert "HEIF" in images.formats.__wrapped__() and registered
  monkeypatch.setitem(sys.modules, "pillow_heif", None)
  assert "HEIF" not in images.formats.__wrapped__()


# -- From the folder to the model and back.


def place(path, array):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(array).save(path)


@pytest.fixture
def microscope(tmp_path):
  """Pictures of 12 bits in 16, in which only the lower half is used."""
  rng = np.random.default_rng(0)
  for part, count in (("train", 4), ("test", 2)):
    for name in ("a", "b"):
      for i in range(count):
        values = rng.integers(200, 2000, (4, 4), np.uint16)
        place(tmp_path / part / name / f"{i}.png", values)
  place(tmp_path / "unlabeled" / "1.png", values)
  place(tmp_path / "unlabeled" / "2.png", values)
  return tmp_path


NATURAL = {"unlabeled.profile": "natural", "unlabeled.factor": 1.0}


def build(folder, **changes):
  config = configs.default()
  config.data.source = f"folder:{folder}"
  config.data.labeled.profile = "natural"
  config.data.unlabeled.factor = 0.0
  config.data.pad = 1
  config.data.copies = "keep"  # these few pictures are nearly one another
  config.data.update_from_flattened_dict(changes)
  return builds.build_task(config, sharding.make_mesh(), None)


def test_a_set_of_12_bits_from_the_folder_to_prediction(microscope):
  task = build(microscope)
  assert task.images.min() == 0 and task.images.max() == 255
  assert len(np.unique(task.images)) > 80  # and not 8, of the upper bytes
  low, high = task.decoding[:2]
  assert 200 <= low < high < 2000
  assert f"{low:g} ... {high:g}, become 0 ... 255" in task.class_table()
  description = {"decoding": json.loads(json.dumps(task.decoding._asdict()))}
  decoding = model_description.decoding(description)
  files = sorted((microscope / "test").glob("*/*.png"))
  found = [pictures.read(f, (4, 4, 1), decoding=decoding) for f in files]
  np.testing.assert_array_equal(np.stack(found), task.test_images)
  with pytest.raises(decodings.KindError, match="data.pixel_range=LOW,HIGH"):
    pictures.read(files[0], (4, 4, 1))


def test_a_pool_has_the_range_of_the_set(microscope):
  found = {"unlabeled.source": "found", **NATURAL}
  task = build(microscope, **found)
  assert len(task.unlabeled_images) == 2
  beside = {"unlabeled.source": f"folder:{microscope / 'unlabeled'}"}
  (microscope / "unlabeled" / "3.heic").touch()
  again = build(microscope, **found | beside)
  np.testing.assert_array_equal(task.unlabeled_images, again.unlabeled_images)
  assert "not used: --config.data.unlabeled.source=found" in again.understood
  assert "not read: 1 .heic (3.heic)" in again.understood


def test_pictures_that_stay_in_their_files_need_a_range(microscope):
  host = {"storage": "host", "image_size": 4}
  with pytest.raises(ValueError, match="such as 0,2047; .* The same command"):
    build(microscope, **host)
  task = build(microscope, pixel_range="200,2000", **host)
  near = build(microscope, pixel_range="200,2000")
  found = task.images.read(np.arange(8))
  np.testing.assert_array_equal(found[..., :1], near.images)


def test_unlabeled_pictures_that_stay_in_their_files(microscope):
  found = {"unlabeled.source": "found", "pixel_range": "200,2000", **NATURAL}
  near = build(microscope, **found)
  task = build(microscope, storage="host", image_size=4, **found)
  images_there = task.images.read(np.arange(10))
  np.testing.assert_array_equal(images_there[..., :1], near.images)
  assert (task.truth == -1).all() and len(task.truth) == 2


def test_pictures_that_stay_in_their_files_are_not_skipped(microscope):
  with pytest.raises(ValueError, match="data.broken is 'skip', but these"):
    build(microscope, storage="host", image_size=4, broken="skip")


def test_broken_pictures_of_a_pool(microscope):
  pool = {"unlabeled.source": f"folder:{microscope / 'unlabeled'}", **NATURAL}
  (microscope / "unlabeled" / "2.png").write_bytes(b"")
  with pytest.raises(ValueError, match="2.png: the image file is empty"):
    build(microscope, **pool)
  task = build(microscope, broken="skip", **pool)
  assert len(task.unlabeled_images) == 1
  assert "left out (data.broken=skip): 1 picture, such as" in task.understood

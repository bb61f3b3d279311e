"""Every source in one shape; unknown ones with a hint."""

import dataclasses
import functools

import numpy as np
from PIL import Image
import pytest

from ltjax.data.download import catalogue, prepare
from ltjax.data.host import host_images, image_files
from ltjax.data.parts import arrays, contents
from ltjax.data.sources import labeled, official


def _npz(tmp_path, **extra) -> str:
  x = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3)).astype("u1")
  arrays = {"x": x, "y": np.repeat([0, 1, 2], [12, 6, 2]), **extra}
  np.savez(tmp_path / "set.npz", **arrays)
  return f"npz:{tmp_path}/set.npz"


def _check_shape(data: labeled.Dataset) -> None:
  """What all the rest of the library relies on."""
  for pixels, labels in (
    (data.train_images, data.train_labels),
    (data.test_images, data.test_labels),
  ):
    assert pixels.dtype == np.uint8 and pixels.ndim == 4
    assert pixels.shape[1:] == data.image_shape
    assert pixels.flags["C_CONTIGUOUS"]
    assert labels.dtype == np.int32 and labels.shape == pixels.shape[:1]
    assert ((labels >= 0) & (labels < data.num_classes)).all()
  assert len(data.mean) == len(data.std) == data.image_shape[2]
  assert all(value > 0 for value in data.std)


def test_digits():
  data = labeled.load("digits")
  _check_shape(data)
  assert data.name == "digits"
  assert data.image_shape == (8, 8, 1)
  assert data.num_classes == 10
  assert data.flip is False
  np.testing.assert_allclose(data.mean, data.train_images.mean() / 255)
  np.testing.assert_allclose(data.std, data.train_images.std() / 255)


def test_the_digits_test_part_ignores_seed_and_fraction():
  a = labeled.load("digits", seed=5, test_fraction=0.5)
  b = labeled.load("digits")
  np.testing.assert_array_equal(a.test_images, b.test_images)


def _content(shape):
  labels = np.arange(10, dtype=np.int32)
  part = contents.Part(np.full((10, *shape), 9, np.uint8), labels)
  return contents.Content(part, part, tuple("abcdefghij"))


@pytest.mark.parametrize(
  "name, mean, std, flip",
  [
    ("cifar10", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), True),
    ("cifar100", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), True),
    ("fashion_mnist", (0.2860,), (0.3530,), True),
    ("mnist", (0.1307,), (0.3081,), False),
  ],
)
def test_known_sets_have_the_constants_of_the_field(
  monkeypatch, name, mean, std, flip
):
  asked = []
  shape = (32, 32, 3) if name in catalogue.ARCHIVES else (28, 28, 1)

  def read(name, data_dir):
    asked.append((name, data_dir))
    return _content(shape)

  monkeypatch.setattr(official, "read_cifar", read)
  monkeypatch.setattr(official, "read_idx", read)
  data = labeled.load(name, data_dir="/sets")
  _check_shape(data)
  assert asked == [(name, "/sets")]
  assert (data.mean, data.std, data.flip) == (mean, std, flip)


def test_a_missing_set_is_prepared(monkeypatch):
  def refuse(name, data_dir):
    raise FileNotFoundError(f"prepare({name!r}, {data_dir!r})")

  monkeypatch.setattr(prepare, "prepare", refuse)
  for name in ("cifar10", "cifar100", "mnist", "fashion_mnist"):
    with pytest.raises(FileNotFoundError, match=rf"\('{name}', '/x'\)"):
      labeled.load(name, data_dir="/x")


def test_npz_gets_a_stratified_test_part(tmp_path):
  name = _npz(tmp_path)
  data = labeled.load(name)
  _check_shape(data)
  # round(0.2 n): 2 of 12, 1 of 6; and at least one.
  assert np.bincount(data.test_labels, minlength=3).tolist() == [2, 1, 1]
  assert np.bincount(data.train_labels).tolist() == [10, 5, 1]
  assert data.class_names == ("0", "1", "2")
  assert data.flip is True
  again = labeled.load(name)
  np.testing.assert_array_equal(data.test_images, again.test_images)
  other = labeled.load(name, seed=1)
  assert not np.array_equal(data.test_images, other.test_images)
  none = labeled.load(name, test_fraction=0)
  assert none.test_images.shape == (0, 6, 6, 3)
  assert len(none.train_images) == 20


def test_a_class_of_one_image_cannot_be_tested(tmp_path):
  """Unless the set has a test part, or nobody asks for one."""
  labels = np.repeat([0, 1, 2], [12, 7, 1])
  name = _npz(tmp_path, y=labels, classes=["owl", "newt", "elk"])
  with pytest.raises(ValueError, match=r"class 2 \(elk\) has 1 image, and the"):
    labeled.load(name)
  assert len(labeled.load(name, test_fraction=0).train_labels) == 20
  x = np.zeros((1, 6, 6, 3), np.uint8)
  name = _npz(tmp_path, y=labels, x_test=x, y_test=np.array([2]))
  assert len(labeled.load(name).train_labels) == 20


def test_a_naturally_long_tailed_set_is_tested_in_every_class(tmp_path):
  """As many of each class as of all, in the small size that was asked for."""
  sizes = np.array([99, 40, 17, 9, 4, 3, 2])
  labels = np.random.default_rng(1).permutation(np.repeat(np.arange(7), sizes))
  x = np.zeros((len(labels), 8, 8), np.uint8) + labels[:, None, None] * 10
  name = _npz(tmp_path, x=x.astype(np.uint8), y=labels, files=["f"])
  data = labeled.load(name, image_size=3)
  _check_shape(data)
  assert data.image_shape == (3, 3, 1)
  test = np.bincount(data.test_labels)
  assert test.tolist() == [20, 8, 3, 2, 1, 1, 1]
  assert (np.bincount(data.train_labels) == sizes - test).all()
  for images, found in (
    (data.train_images, data.train_labels),
    (data.test_images, data.test_labels),
  ):
    np.testing.assert_array_equal(images[:, 1, 1, 0], found * 10)


def test_an_official_test_part_is_kept(tmp_path):
  x = np.zeros((2, 6, 6, 3), np.uint8)
  name = _npz(tmp_path, x_test=x, y_test=np.array([0, 2]))
  data = labeled.load(name, test_fraction=0.5)
  assert data.test_labels.tolist() == [0, 2] and len(data.train_labels) == 20


def test_moments_come_from_the_train_part_only(tmp_path):
  white = np.full((2, 6, 6, 3), 255, np.uint8)
  name = _npz(tmp_path, x_test=white, y_test=np.array([0, 1]))
  data = labeled.load(name)
  np.testing.assert_allclose(
    data.mean, (data.train_images / 255).mean((0, 1, 2))
  )
  np.testing.assert_allclose(data.std, (data.train_images / 255).std((0, 1, 2)))


def test_folder(tmp_path):
  for name, count in (("cat", 5), ("dog", 2)):
    (tmp_path / name).mkdir()
    for i in range(count):
      image = Image.new("RGB", (4 + i, 4), (i, 0, 0))
      image.save(tmp_path / name / f"{i}.png")
  with pytest.raises(ValueError, match="Set image_size"):
    labeled.load(f"folder:{tmp_path}")
  data = labeled.load(f"folder:{tmp_path}", image_size=5)
  _check_shape(data)
  assert data.image_shape == (5, 5, 3)
  assert data.class_names == ("cat", "dog")
  assert np.bincount(data.test_labels).tolist() == [1, 1]
  assert data.name == f"folder:{tmp_path}"


def test_image_size_resizes_any_set(tmp_path):
  data = labeled.load(_npz(tmp_path), image_size=3)
  _check_shape(data)
  assert data.image_shape == (3, 3, 3)
  assert data.test_images.shape == (4, 3, 3, 3)
  assert labeled.load("digits", image_size=12).image_shape == (12, 12, 1)


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist"])
def test_image_size_of_a_known_set_keeps_its_constants(monkeypatch, name):
  shape = (32, 32, 3) if name == "cifar10" else (28, 28, 1)
  for reader in ("read_cifar", "read_idx"):
    monkeypatch.setattr(official, reader, lambda *_: _content(shape))
  whole, small, large = (
    labeled.load(name, image_size=n) for n in (None, 14, 40)
  )
  for data, side in ((small, 14), (large, 40)):
    _check_shape(data)
    assert data.image_shape == (side, side, shape[2])
    assert (data.train_images == 9).all() and len(data.test_images) == 10
    assert (data.mean, data.std) == (whole.mean, whole.std)


@pytest.mark.parametrize("size", [0, -3, 5000])
def test_image_size_out_of_range(size):
  with pytest.raises(
    ValueError, match=rf"image_size is {size}; .* 1 \.\.\. 40"
  ):
    labeled.load("digits", image_size=size)


@pytest.mark.parametrize("fraction", [-0.5, 1.0])
def test_test_fraction_out_of_range(tmp_path, fraction):
  with pytest.raises(ValueError, match="test_fraction is"):
    labeled.load(_npz(tmp_path), test_fraction=fraction)


def test_no_training_images(tmp_path):
  (tmp_path / "train" / "cat").mkdir(parents=True)
  empty = np.zeros((0, 4, 4, 3), np.uint8)
  np.savez(tmp_path / "a.npz", x=empty, y=np.zeros(0, int), classes=["a"])
  with pytest.raises(ValueError, match="no training images"):
    labeled.load(f"npz:{tmp_path}/a.npz")


@pytest.mark.parametrize(
  "name", ["cifar-10", "stl10", "", "npz:", "cifar10:", "digits:x", "s3:x"]
)
def test_unknown_source(name):
  with pytest.raises(ValueError) as caught:
    labeled.load(name)
  text = str(caught.value)
  assert f"Unknown image set {name!r}." in text
  assert "digits, cifar10, cifar100, fashion_mnist, mnist, svhn, tfds:" in text
  assert "folder:PATH, npz:PATH" in text
  assert ("Did you mean 'cifar10'?" in text) == name.startswith("cifar")


def test_dataset_is_frozen():
  data = labeled.load("digits")
  with pytest.raises(dataclasses.FrozenInstanceError):
    data.name = "x"


# -- Pictures that stay unread.


def _tree(tmp_path):
  """Two classes of grey pictures, as a folder and as lists of it."""
  lines = []
  for label, count in enumerate((9, 3)):
    for i in range(count):
      path = tmp_path / "pictures" / f"c{label}" / f"{i}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.new("L", (8, 6), 100 * label + i).save(path)
      lines.append(f"c{label}/{i}.png {label}\n")
  (tmp_path / "lists").mkdir()
  (tmp_path / "lists" / "train.txt").write_text("".join(lines))
  (tmp_path / "lists" / "classes.txt").write_text("owl\nnewt\n")
  return functools.partial(image_files.ImageFiles, size=4)


def test_list_and_folder_give_the_same_set_unread(tmp_path):
  pictures = _tree(tmp_path)
  root = str(tmp_path / "pictures")
  by_list = labeled.load(
    f"list:{tmp_path / 'lists'}", root=root, pictures=pictures
  )
  by_folder = labeled.load(f"folder:{root}", pictures=pictures)
  assert by_list.class_names == ("owl", "newt")
  assert by_folder.class_names == ("c0", "c1")
  for data in (by_list, by_folder):
    assert isinstance(data.train_images, host_images.HostImages)
    assert data.image_shape == (4, 4, 3) and data.flip
    np.testing.assert_array_equal(data.train_labels, by_list.train_labels)
    train = np.asarray(data.train_images)
    np.testing.assert_array_equal(train, np.asarray(by_list.train_images))
    assert data.mean == arrays.moments(train)[0]
    # A fifth is held out, of each class.
    assert np.bincount(data.test_labels).tolist() == [2, 1]
    test = np.asarray(data.test_images)[:, 0, 0, 0]
    assert ((test >= 100) == (data.test_labels == 1)).all()


def test_moments_of_many_pictures_are_those_of_some(tmp_path, monkeypatch):
  pictures = _tree(tmp_path)
  monkeypatch.setattr(labeled, "_SAMPLE", 3)
  data = labeled.load(
    f"folder:{tmp_path / 'pictures'}", test_fraction=0, pictures=pictures
  )
  some = np.asarray(data.train_images)[[0, 4, 8]]
  assert (data.mean, data.std) == arrays.moments(some)


def test_list_needs_a_size(tmp_path):
  _tree(tmp_path)
  with pytest.raises(ValueError, match="set data.image_size"):
    labeled.load(f"list:{tmp_path / 'lists'}")


# -- Groups.


def _patients(tmp_path):
  """Grey pictures `CLASS/pPATIENT_IMAGE.png`; the brightness is the patient."""
  rows = []
  for label, patients in ((0, range(8)), (1, range(6, 11))):
    for patient in patients:
      for i in range(1 + (patient + label) % 4):
        name = f"c{label}/p{patient}_{i}.png"
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 10 * patient).save(path)
        rows.append((name, f"c{label}", patient))
  (tmp_path / "table.csv").write_text(
    "file,class,patient\n"
    + "".join(f"{n},{c},{p}\n" for n, c, p in reversed(rows))
  )
  (tmp_path / "train.txt").write_text(
    "".join(f"{name} {label}\n" for name, label, _ in rows)
  )
  return str(tmp_path / "pictures"), len(rows)


def _brightness(images):
  return set(np.asarray(images)[:, 0, 0, 0].tolist())


@pytest.mark.parametrize("kind", ["folder", "unread folder", "list", "csv"])
def test_patients_are_on_one_side(kind, tmp_path):
  root, count = _patients(tmp_path)
  pictures = functools.partial(image_files.ImageFiles, size=4)
  pictures = None if kind == "folder" else pictures
  name = {"list": f"list:{tmp_path}", "csv": f"csv:{tmp_path}/table.csv"}.get(
    kind, f"folder:{root}"
  )
  groups = "patient" if kind == "csv" else r"p(\d+)_"
  data = labeled.load(
    name, pictures=pictures, root=root, group_by=groups, test_fraction=0.25
  )
  assert len(data.train_labels) + len(data.test_labels) == count
  train, test = _brightness(data.train_images), _brightness(data.test_images)
  assert not train & test and len(train | test) == 11
  assert len(np.unique(data.groups)) == len(train)
  assert data.groups.shape == data.train_labels.shape
  assert np.bincount(data.test_labels).min() > 0
  for told in ("11 in training, by", f"test part    {len(test)} of these"):
    assert told in data.understood


def test_a_table_is_the_same_set_as_a_list(tmp_path):
  root, _ = _patients(tmp_path)
  pictures = functools.partial(image_files.ImageFiles, size=4)
  text = (tmp_path / "train.txt").read_text().replace(" ", ",")
  (tmp_path / "table.csv").write_text("path,label\n" + text)
  table, listed = (
    labeled.load(name, root=root, pictures=pictures)
    for name in (f"csv:{tmp_path}/table.csv", f"list:{tmp_path}")
  )
  assert table.class_names == listed.class_names == ("c0", "c1")
  np.testing.assert_array_equal(table.test_labels, listed.test_labels)
  np.testing.assert_array_equal(
    np.asarray(table.train_images), np.asarray(listed.train_images)
  )
  with pytest.raises(ValueError, match="set data.image_size"):
    labeled.load(f"csv:{tmp_path}/table.csv", root=root)


@pytest.mark.parametrize("name", ["digits", "npz:x.npz", "tfds:x"])
def test_patterns_need_paths(name):
  with pytest.raises(
    ValueError, match="goes with folder:, list: and csv:, and"
  ):
    labeled.load(name, group_by=r"p(\d+)")


def test_groups_of_an_npz_are_held_out(tmp_path):
  groups = np.arange(20) // 2
  data = labeled.load(_npz(tmp_path, groups=groups, y=np.arange(20) % 2))
  assert len(data.test_labels) == 4 and len(np.unique(data.groups)) == 8
  # A class of one group cannot be tested.
  name = _npz(tmp_path, groups=groups)
  with pytest.raises(
    ValueError, match=r"class 2 \(2\) has its 2 images in one"
  ):
    labeled.load(name)
  assert labeled.load(name, test_fraction=0).groups.tolist() == groups.tolist()

"""House numbers from generated .mat files."""

import numpy as np
import pytest
from scipy import io
import toys

from ltjax.data import builder
from ltjax.data.download import fetch as downloads
from ltjax.data.sources import labeled, svhn

DIGITS = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 5])


def pictures(count, size=4):
  rng = np.random.default_rng(count)
  return rng.integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def write(path, digits=DIGITS, size=4, **changes):
  x = pictures(len(digits), size)
  labels = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
  content = {"X": x.transpose(1, 2, 3, 0), "y": labels} | changes
  path.parent.mkdir(exist_ok=True)
  io.savemat(path, {k: v for k, v in content.items() if v is not None})
  return x


@pytest.fixture
def folder(tmp_path):
  write(tmp_path / "svhn" / "train_32x32.mat")
  write(tmp_path / "svhn" / "test_32x32.mat", DIGITS[::-1][:5])
  return tmp_path


@pytest.mark.parametrize("compressed", [True, False])
def test_images_and_digits(tmp_path, compressed):
  x = pictures(12)
  y = np.where(DIGITS == 0, 10, DIGITS)[:, None]
  content = {"X": x.transpose(1, 2, 3, 0), "y": y.astype(np.float64)}
  io.savemat(tmp_path / "a.mat", content, do_compression=compressed)
  pixels, labels = svhn.read_mat(tmp_path / "a.mat")
  np.testing.assert_array_equal(pixels, x)
  assert pixels.flags["C_CONTIGUOUS"] and pixels.dtype == np.uint8
  assert labels is not None and labels.dtype == np.int32
  assert labels.tolist() == DIGITS.tolist()


def test_the_set(folder):
  data = labeled.load("svhn", data_dir=str(folder))
  assert data.class_names == tuple("0123456789")
  assert data.train_labels.tolist() == DIGITS.tolist()
  assert data.test_labels.tolist() == [5, 0, 0, 9, 8]
  np.testing.assert_array_equal(data.train_images, pictures(12))
  np.testing.assert_array_equal(data.test_images, pictures(5))
  assert data.flip is False  # a mirrored digit is another one, or none
  assert data.mean == data.std == (0.5, 0.5, 0.5)
  small = labeled.load("svhn", data_dir=str(folder), image_size=2)
  assert small.image_shape == (2, 2, 3)


def test_missing_files_are_named(tmp_path, monkeypatch):
  def fetch(url, path, **_):
    raise OSError("no network here")

  monkeypatch.setattr(downloads, "fetch", fetch)
  with pytest.raises(FileNotFoundError) as caught:
    labeled.load("svhn", data_dir=str(tmp_path))
  text = str(caught.value)
  assert "train_32x32.mat and test_32x32.mat" in text
  assert f"put them into {tmp_path}/svhn/" in text
  with pytest.raises(FileNotFoundError, match="gone.mat: no such file"):
    svhn.read_mat(tmp_path / "gone.mat")


def test_a_test_part_of_another_size_is_refused(folder):
  write(folder / "svhn" / "test_32x32.mat", size=6)
  with pytest.raises(ValueError, match=r"images are \(4, 4, 3\).*\(6, 6, 3\)"):
    svhn.read(str(folder))


def test_a_set_needs_labels_and_a_pool_does_not(folder):
  path = folder / "svhn" / "train_32x32.mat"
  write(path, y=None)
  assert svhn.read_mat(path)[1] is None
  with pytest.raises(ValueError, match="train_32x32.mat: no array 'y'"):
    svhn.read(str(folder))


ZEROS = np.zeros((4, 4, 3, 12))


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"X": None}, r"no array 'X'; SVHN's layout is X uint8"),
    ({"X": ZEROS}, r"X is float64 \(4, 4, 3, 12\); .* uint8 \[H, W, C, N\]"),
    ({"X": ZEROS[..., 0].astype("u1")}, r"X is uint8 \(4, 4, 3\);"),
    (
      {"X": ZEROS.transpose(3, 2, 0, 1).astype("u1")},
      r"uint8 \(12, 3, 4, 4\)",
    ),
    ({"X": np.array([{}], object)}, "X is not an array of real numbers"),
    ({"y": np.ones((11, 1))}, "y has 11 labels for 12 images"),
    ({"y": np.array(["ab"] * 6)}, "y is not an array of real numbers"),
    ({"y": np.full((12, 1), 1j)}, "y is not an array of real numbers"),
    ({"y": np.zeros((12, 1))}, r"label 0.0 of image 0; .* 1 \.\.\. 10, and 10"),
    ({"y": np.r_[np.ones(11), 11][:, None]}, "label 11.0 of image 11"),
    ({"y": np.full((12, 1), 1.5)}, "label 1.5 of image 0"),
    ({"y": np.full((12, 1), np.nan)}, "label nan of image 0"),
  ],
)
def test_another_layout_is_refused(tmp_path, changes, message):
  write(tmp_path / "a.mat", **changes)
  with pytest.raises(ValueError, match=f"a.mat: .*{message}"):
    svhn.read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("compressed", [True, False])
def test_files_that_are_not_whole_are_refused(tmp_path, compressed):
  path = tmp_path / "a.mat"
  content = {"y": np.ones((7, 1)), "X": ZEROS[..., :7].astype("u1")}
  io.savemat(path, content, do_compression=compressed)
  whole = path.read_bytes()
  for keep in (0, 3, 127, 150, len(whole) // 2, len(whole) - 20):
    path.write_bytes(whole[:keep])
    with pytest.raises(ValueError, match="a.mat: (not a whole .mat|no array)"):
      svhn.read_mat(path)
  path.write_bytes(b"<html>" + bytes(500))
  with pytest.raises(ValueError, match="not a whole .mat file .* with -v7"):
    svhn.read_mat(path)


@pytest.mark.parametrize(
  "order, digit_counts",
  [
    ((), [9, 7, 5, 4, 3, 2, 2, 1, 1, 1]),
    # The authors' classes are the digits 1 ... 9, 0.
    ((1, 2, 3, 4, 5, 6, 7, 8, 9, 0), [1, 9, 7, 5, 4, 3, 2, 2, 1, 1]),
  ],
)
def test_a_task_with_the_extra_images(tmp_path, order, digit_counts):
  """The tail of the labeled and of the unlabeled images, digit by digit."""
  every = np.tile(np.arange(10), 30)
  write(tmp_path / "svhn" / "train_32x32.mat", every)
  write(tmp_path / "svhn" / "test_32x32.mat", every[:50])
  extra = write(tmp_path / "svhn" / "extra_32x32.mat", every[::-1])
  task = builder.build(
    source="svhn",
    labeled={"max_count": 9, "rho": 9.0, "class_order": order},
    unlabeled={"source": "svhn_extra", "factor": 2.0},
    validation={},
    probe={"images": "train", "per_class": 20},
    seed=0,
    mesh=toys.one_device(),
    data_dir=str(tmp_path),
  )
  assert np.bincount(task.labels).tolist() == digit_counts
  assert np.bincount(task.truth).tolist() == [2 * n for n in digit_counts]
  np.testing.assert_array_equal(
    task.unlabeled_images, extra[task.split.unlabeled]
  )
  np.testing.assert_array_equal(every[::-1][task.split.unlabeled], task.truth)
  assert task.split.probe_counts == 10 * (20,)
  np.testing.assert_array_equal(every[task.split.probe], task.probe_labels)
  assert task.test_counts == 10 * (5,) and task.flip is False
  most = 1 if order else 0
  assert most in task.groups["many"]

"""Bad input, end to end: exit code 1, the value, the limit and the way out.

Each case goes through `main.main`, as from the command line, with a config
that was changed in one place. The readers' own tests go deeper; here each kind
of mistake is seen to reach the user, before training, with nothing lost.
"""

import gzip
import hashlib
import io
import os
import pathlib
import pickle
import struct
import tarfile
import zlib

import main_flags
import numpy as np
import pytest
import runs
import toys

from ltjax import main
from ltjax.data.download import catalogue

# Every pickle in here would leave this file behind if it were run.
EVIL = "evil-was-here"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
  yield runs.place(tmp_path, monkeypatch)
  assert not (tmp_path / EVIL).exists()


@pytest.fixture
def run(monkeypatch, capsys):
  """Runs the command on the toys' config with changes; it must fail.

  Returns what was printed to standard error: one line, no traceback. Nothing
  may be left that binds the workdir to the mistake.
  """

  def refused(*, workdir="run", data_dir=None, edit=None, **changes):
    config = runs.config(**changes)
    if edit:
      with config.unlocked():
        edit(config)
    main_flags.put(
      monkeypatch,
      config=config,
      workdir=str(workdir),
      data_dir=data_dir and str(data_dir),
    )
    before = pathlib.Path(workdir).exists() and runs.files(workdir)
    with pytest.raises(SystemExit) as stop:
      main.main(["ltjax.main"])
    assert stop.value.code == 1
    if before:
      assert runs.files(workdir) == before
    elif pathlib.Path(workdir).is_dir():
      assert os.listdir(workdir) == [".lock"]
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    return error

  return refused


# -- Settings.


def test_unknown_field(run):
  error = run(edit=lambda config: config.embedding.update({"epoch": 3}))
  assert error == (
    "ValueError: Unknown config field embedding.epoch. Did you mean"
    " embedding.epochs?\n"
  )


def test_wrong_type(run):
  def edit(config):
    with config.ignore_type():
      config.seed = "abc"

  assert "seed is 'abc'; it must be of type int" in run(edit=edit)


def test_no_config_at_all(run):
  def edit(config):
    for name in list(config):
      del config[name]

  assert "The config field abc is missing; start" in run(edit=edit)


@pytest.mark.parametrize(
  "changes, message",
  [
    (
      {"data__source": "cifar11"},
      "Unknown image set 'cifar11'. Did you mean 'cifar10'? Known: digits,",
    ),
    ({"data__source": "folder:/nope"}, "/nope: no such folder"),
    ({"data__source": "npz:/nope.npz"}, "/nope.npz: no such file"),
    (
      {"data__source": "csv:/nope.csv", "data__image_size": 4},
      "/nope.csv: no such table",
    ),
    (
      {"data__group_by": "patient"},
      "data.group_by is 'patient', which goes with folder:, list: and csv:",
    ),
    (
      {"data__unlabeled__source": "xml:/x"},
      "Unknown pool of unlabeled images 'xml:/x'. Known: pickle:PATH,",
    ),
    ({"method": "sslr"}, "method is 'sslr'; choose one of"),
    ({"data__flip": "yes"}, "data.flip is 'yes'; choose one of auto, on, off"),
    ({"data__split_file": "/no.json"}, "/no.json"),
    (
      {"embedding__batch_size": 41},
      "embedding.batch_size is 41, but the stage has only 40 samples; set"
      " --config.embedding.batch_size to 40 or less, or enlarge the set",
    ),
    (
      {"consistency__batch_size": 64},
      "consistency.batch_size is 64, but the stage has only 60 samples",
    ),
    ({"refit__batch_size": 0}, "refit.batch_size is 0; it must be 1 or more"),
    (
      {"embedding__learning_rate": -0.1},
      "embedding.learning_rate is -0.1; it must be above 0 and finite",
    ),
    ({"refit__epochs": 0}, "refit.epochs is 0; it must be 1 or more"),
    (
      {"classifier__momentum": 1.0},
      "classifier.momentum is 1.0; it must be in [0, 1)",
    ),
    (
      {"consistency__schedule": "linear"},
      "consistency.schedule is 'linear'; choose one of cosine, cosine_7_16,",
    ),
    ({"refit__views": -1}, "refit.views is -1; it must be 0 or more"),
    ({"loops": 0}, "loops is 0; it must be 1 or more"),
    (
      {"consistency__weight": float("nan")},
      "consistency.weight is nan; it must be finite",
    ),
    ({"eval__last_k": 0}, "eval.last_k is 0; it must be 1 or more"),
    (
      {"data__groups": (1, 1, 1)},
      "group sizes (1, 1, 1) must be three numbers >= 0 that add up to the 4",
    ),
    (
      {"data__pad_mode": "wrap"},
      "data.pad_mode is 'wrap'; choose one of zero, reflect",
    ),
    ({"data__pad": 5}, "data.pad is 5; it must be 0 to 4 pixels"),
    (
      {"data__unlabeled__factor": 0.0},
      "There are no unlabeled images to assign pseudo labels to. Raise"
      " data.unlabeled.factor, name a pool",
    ),
    (
      {"data__labeled__counts": (20, 10, 6, 0)},
      "class 3 (3) has no labeled image, and every class needs one: raise"
      " data.labeled.counts[3] to at least 1",
    ),
    (
      {"data__labeled__counts": (20, 10, 6)},
      "data.labeled: counts has 3 entries for 4 classes",
    ),
    (
      {
        "data__labeled__profile": "exponential",
        "data__labeled__counts": (),
        "data__labeled__max_count": 10,
        "data__labeled__rho": 0.5,
      },
      "data.labeled.rho is 0.5; it must be 1 or more",
    ),
    (
      {"data__unlabeled__factor": 50.0},
      "class 0 (0) runs out of images: the training set has 40, the split needs"
      " 1020 (20 labeled + 1000 unlabeled); lower",
    ),
  ],
  ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_do_not_fit(run, changes, message):
  assert message in run(**changes)


# -- Labels and pixels.


Y = toys.labels_of(np.add(toys.LABELED, toys.UNLABELED) + 2)


def changed(**changes):
  y = Y.copy()
  for index, label in changes.items():
    y[int(index[1:])] = label
  return y


@pytest.mark.parametrize(
  "arrays, message",
  [
    ({"y": Y.astype(np.float32)}, "labels are float32, not integers. Save cla"),
    ({"y": changed(_3=-1)}, "label -1 of image 3 is out of range; labels must"),
    (
      {"y": changed(_5=9), "classes": np.array(list("abcd"))},
      "label 9 of image 5 is out of range; labels must be 0 ... 3 (1 are not)",
    ),
    (  # More classes than there are names, and so heads, for.
      {"classes": np.array(list("abc"))},
      "label 3 of image",
    ),
    (  # A class that no training image has.
      {"y": changed(_0=5)},
      "class 4 (4) has no image in the training set: give it some or leave the",
    ),
    ({"y": Y[:-1]}, "it must be (88,)"),
    (
      {"x": np.full((len(Y), 4, 4, 1), np.nan)},
      "pixels are NaN, the first in image 0. Repair or remove such images",
    ),
    (
      {"x": np.zeros((len(Y), 4, 4, 1))},
      "pixels are float64; they must be uint8, 0 ... 255. For floats in [0, 1]",
    ),
    ({"x": np.zeros((len(Y), 4), np.uint8)}, "images must be [N, H, W],"),
    (
      {"x_test": np.zeros((20, 5, 5, 1), np.uint8)},
      "they must have one shape",
    ),
  ],
)
def test_arrays_that_are_no_image_set(run, arrays, message):
  runs.write_set(runs.SET, **arrays)
  assert message in run()


def test_a_truncated_npz(run, place):
  content = (place / runs.SET).read_bytes()
  (place / runs.SET).write_bytes(content[: len(content) // 2])
  assert "toys.npz: not an .npz file, or a truncated one" in run()


# -- Folders of pictures.


@pytest.fixture
def pictures(place):
  """A folder of four classes; returns (source, path of one picture)."""
  from PIL import Image

  for index, (image, label) in enumerate(zip(toys.pictures(Y), Y, strict=True)):
    folder = place / "set" / "abcd"[label]
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0]).save(folder / f"{index:03}.png")
  return f"folder:{place / 'set'}", place / "set" / "a" / "003.png"


def test_an_empty_picture_is_named(run, pictures):
  source, path = pictures
  path.write_bytes(b"")
  error = run(data__source=source)
  assert str(path) in error and "empty" in error


def test_a_corrupt_picture_is_named(run, pictures):
  source, path = pictures
  path.write_bytes(path.read_bytes()[:40])
  assert str(path) in run(data__source=source)


def test_mixed_sizes_need_a_size(run, pictures):
  from PIL import Image

  source, path = pictures
  Image.fromarray(np.zeros((9, 7), np.uint8)).save(path)
  error = run(data__source=source)
  assert "image_size" in error and "003.png" in error


def test_an_image_bomb_is_refused(run, pictures):
  """A few bytes that claim to be 60,000 x 60,000 pixels."""
  source, path = pictures

  def chunk(kind, content):
    body = kind + content
    return (
      struct.pack(">I", len(content))
      + body
      + struct.pack(">I", zlib.crc32(body))
    )

  header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
  path.write_bytes(
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", header)
    + chunk(b"IDAT", zlib.compress(bytes(1000)))
    + chunk(b"IEND", b"")
  )
  assert str(path) in run(data__source=source)


# -- Archives.


def archive(name, members):
  """Writes a .tar.gz of `{member name: bytes}`."""
  with tarfile.open(name, "w:gz") as tar:
    for member, content in members.items():
      info = tarfile.TarInfo(member)
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def cifar(place, monkeypatch):
  """Stands a small archive in for CIFAR-10's: `cifar(members) -> path`."""

  def make(members):
    path = place / "cifar-10-python.tar.gz"
    archive(path, members)
    checksum = f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"
    entry = catalogue.ARCHIVES["cifar10"]
    changes = {**vars(entry), "checksum": checksum}
    monkeypatch.setitem(catalogue.ARCHIVES, "cifar10", type(entry)(**changes))
    return path

  return make


def test_wrong_checksum(run, place):
  (place / "cifar-10-python.tar.gz").write_bytes(b"not the archive")
  error = run(data__source="cifar10", data_dir=place)
  assert "cifar-10-python.tar.gz: wrong checksum (md5" in error
  assert "python -m ltjax.data.download cifar10" in error


def test_truncated_archive(run, cifar, place, monkeypatch):
  content = np.random.default_rng(0).bytes(100_000)
  path = cifar({"cifar-10-batches-py/batches.meta": content})
  os.truncate(path, 50_000)
  error = run(data__source="cifar10", data_dir=place)
  assert "wrong checksum" in error and "50000 bytes" in error
  # Even where the checksum is that of the truncated file.
  entry = catalogue.ARCHIVES["cifar10"]
  checksum = f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"
  monkeypatch.setitem(
    catalogue.ARCHIVES,
    "cifar10",
    type(entry)(**{**vars(entry), "checksum": checksum}),
  )
  error = run(data__source="cifar10", data_dir=place)
  assert "not a whole tar archive" in error and "fetch it again" in error


def test_truncated_idx_file(run, place):
  """A set of the MNIST family, one of whose files ends early."""
  folder = place / "fashion_mnist"
  folder.mkdir()
  images = struct.pack(">BBBBIII", 0, 0, 8, 3, 9, 4, 4) + bytes(9 * 16)
  labels = struct.pack(">BBBBI", 0, 0, 8, 1, 9) + bytes(range(9))
  for stem in catalogue.IDX_STEMS:
    content = labels if "labels" in stem else images
    (folder / f"{stem}.gz").write_bytes(gzip.compress(content))
  path = folder / f"{catalogue.IDX_STEMS[0]}.gz"
  path.write_bytes(path.read_bytes()[:30])
  error = run(data__source="fashion_mnist", data_dir=place)
  assert str(path) in error and "truncated or damaged" in error


class Evil:
  def __reduce__(self):
    return os.mkdir, (EVIL,)


def test_a_pickle_that_runs_code_is_refused(run, place):
  (place / "pool.pickle").write_bytes(pickle.dumps({"data": Evil()}))
  error = run(data__unlabeled__source=f"pickle:{place / 'pool.pickle'}")
  assert "pool.pickle" in error and "mkdir" in error


def test_a_pickle_inside_an_archive_is_no_safer(run, cifar, place):
  folder = "cifar-10-batches-py"
  members = catalogue.ARCHIVES["cifar10"].members
  cifar({f"{folder}/{name}": pickle.dumps(Evil()) for name in members})
  assert "mkdir" in run(data__source="cifar10", data_dir=place)


def test_a_tar_member_outside_its_folder_is_refused(run, cifar, place):
  cifar({"../outside": b"x"})
  error = run(data__source="cifar10", data_dir=place)
  assert "'../outside' lies outside the archive's folder" in error
  assert not (place.parent / "outside").exists()


def test_an_object_array_is_refused(run):
  runs.write_set(runs.SET, y=np.array([Evil()] * len(Y), dtype=object))
  assert "Object arrays are refused, because they can run code" in run()


# -- Workdirs.


def test_a_workdir_that_cannot_be_written(run, place):
  (place / "file").write_text("x")
  error = run(workdir=place / "file" / "run")
  assert "cannot be written (Not a directory). Choose another" in error


def test_a_workdir_of_another_split_file(run, place):
  """A damaged split_file is refused as such."""
  (place / "split.json").write_text("{}")
  error = run(data__split_file=str(place / "split.json"))
  assert "split.json is not a split file" in error

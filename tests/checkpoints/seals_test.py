"""Tests of seals: every kind of damage to a folder is noticed."""

import hashlib

import pytest

from ltjax.checkpoints import seals


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "a" / "b").mkdir(parents=True)
  (tmp_path / "x").write_bytes(b"one")
  (tmp_path / "a" / "b" / "y").write_bytes(b"two")
  (tmp_path / "empty").write_bytes(b"")
  return tmp_path


def test_an_untouched_folder_passes(folder):
  seals.write(folder)
  seals.check(folder)
  seals.write(folder)  # The seal does not seal itself.
  seals.check(folder)
  assert not (folder / "seal.sha256.tmp").exists()


def test_a_folder_without_a_seal_passes(folder):
  seals.check(folder)


def test_digest_is_that_of_names_and_contents(folder):
  def sha(data):
    return hashlib.sha256(data).hexdigest()

  want = "".join(
    f"{name}\0{sha(data)}\0"
    for name, data in (("a/b/y", b"two"), ("empty", b""), ("x", b"one"))
  )
  assert seals.digest(folder) == sha(want.encode())


def flip(folder):
  (folder / "a" / "b" / "y").write_bytes(b"twp")


def truncate(folder):
  (folder / "x").write_bytes(b"on")


def remove(folder):
  (folder / "empty").unlink()


def add(folder):
  (folder / "a" / "new").write_bytes(b"")


def move(folder):
  (folder / "x").rename(folder / "z")


def swap(folder):
  (folder / "x").write_bytes(b"two")
  (folder / "a" / "b" / "y").write_bytes(b"one")


def break_the_seal(folder):
  (folder / seals.NAME).write_bytes(b"\xff\xfe")


@pytest.mark.parametrize(
  "damage", [flip, truncate, remove, add, move, swap, break_the_seal]
)
def test_damage_is_noticed(folder, damage):
  seals.write(folder)
  damage(folder)
  with pytest.raises(ValueError, match="its files changed after they were"):
    seals.check(folder)


def test_a_seal_that_cannot_be_written_leaves_the_old_one(folder, monkeypatch):
  seals.write(folder)
  before = (folder / seals.NAME).read_bytes()

  def full(descriptor):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("os.fsync", full)
  with pytest.raises(OSError, match="No space left"):
    seals.write(folder)
  assert (folder / seals.NAME).read_bytes() == before
  assert not (folder / "seal.sha256.tmp").exists()

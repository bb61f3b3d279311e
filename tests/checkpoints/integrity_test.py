"""Every kind of damage to a folder is noticed, every bit of a tree told."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.checkpoints import integrity


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "a" / "b").mkdir(parents=True)
  (tmp_path / "x").write_bytes(b"one")
  (tmp_path / "a" / "b" / "y").write_bytes(b"two")
  (tmp_path / "empty").write_bytes(b"")
  return tmp_path


def test_an_untouched_folder_passes(folder):
  integrity.write(folder)
  integrity.check(folder)
  integrity.write(folder)  # The seal does not seal itself.
  integrity.check(folder)
  assert not (folder / "seal.sha256.tmp").exists()


def test_a_folder_without_a_seal_passes(folder):
  integrity.check(folder)


def test_digest_is_that_of_names_and_contents(folder):
  def sha(data):
    return hashlib.sha256(data).hexdigest()

  want = "".join(
    f"{name}\0{sha(data)}\0"
    for name, data in (("a/b/y", b"two"), ("empty", b""), ("x", b"one"))
  )
  assert integrity.digest(folder) == sha(want.encode())


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
  (folder / integrity.NAME).write_bytes(b"\xff\xfe")


@pytest.mark.parametrize(
  "damage", [flip, truncate, remove, add, move, swap, break_the_seal]
)
def test_damage_is_noticed(folder, damage):
  integrity.write(folder)
  damage(folder)
  with pytest.raises(ValueError, match="its files changed after they were"):
    integrity.check(folder)


def test_a_seal_that_cannot_be_written_leaves_the_old_one(folder, monkeypatch):
  integrity.write(folder)
  before = (folder / integrity.NAME).read_bytes()

  def full(descriptor):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("os.fsync", full)
  with pytest.raises(OSError, match="No space left"):
    integrity.write(folder)
  assert (folder / integrity.NAME).read_bytes() == before
  assert not (folder / "seal.sha256.tmp").exists()


def test_a_fingerprint_is_of_paths_types_and_bytes():
  array = np.arange(3, dtype=np.int32)
  want = hashlib.sha256(b"['x']" + b"int32(3,)" + array.tobytes())
  assert integrity.fingerprint({"x": jnp.asarray(array)}) == want.hexdigest()


def test_a_fingerprint_differs_with_each_part():
  base = {"x": jnp.zeros(4), "k": jax.random.key(0)}
  others = [
    {"y": base["x"], "k": base["k"]},
    {**base, "x": jnp.zeros(4, jnp.int32)},
    {**base, "x": jnp.zeros((2, 2))},
    {**base, "x": jnp.asarray([0.0, 0.0, 0.0, -0.0])},  # equal, other bits
    {**base, "k": jax.random.key(1)},
  ]
  digests = [integrity.fingerprint(t) for t in [base, *others]]
  assert len(set(digests)) == len(digests)

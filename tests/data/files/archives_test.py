"""Readers of tar, idx, npz and npy files, whole, broken and hostile."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from ltjax.data.files import archives


def _tar(path, members, *, mode="w:gz"):
  """Writes members: name -> content, or a ready TarInfo."""
  with tarfile.open(path, mode) as tar:
    for name, content in members.items():
      if isinstance(content, tarfile.TarInfo):
        tar.addfile(content)
      else:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
  return path


def _special(name, kind, target=""):
  info = tarfile.TarInfo(name)
  info.type, info.linkname = kind, target
  return info


def _idx(array, *, kind=8) -> bytes:
  head = struct.pack(">BBBB", 0, 0, kind, array.ndim)
  sizes = struct.pack(f">{array.ndim}I", *array.shape)
  return head + sizes + array.tobytes()


class TestTar:
  @pytest.mark.parametrize("mode", ["w", "w:gz"])
  def test_reads_members_by_name_and_writes_nothing(self, tmp_path, mode):
    folder = tmp_path / "in"
    folder.mkdir()
    path = _tar(
      folder / "a.tar",
      {
        "set": _special("set", tarfile.DIRTYPE),
        "set/a": b"one",
        "set/b": b"",
        "set/c": b"no",
      },
      mode=mode,
    )
    found = archives.read_tar(path, ["set/a", "set/b"])
    assert found == {"set/a": b"one", "set/b": b""}
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "a.tar"]

  @pytest.mark.parametrize(
    "name", ["../evil", "set/../../evil", "/etc/evil", "..\\evil", "C:\\evil"]
  )
  def test_member_outside_is_refused_even_if_unwanted(self, tmp_path, name):
    path = _tar(tmp_path / "a.tar.gz", {"set/a": b"1", name: b"2"})
    with pytest.raises(ValueError, match="a.tar.gz.*evil.*outside.*refused"):
      archives.read_tar(path, ["set/a"])

  @pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE],
  )
  def test_link_or_device_is_refused(self, tmp_path, kind):
    member = _special("set/a", kind, "/etc/passwd")
    path = _tar(tmp_path / "a.tar", {"x": b"", "set/a": member}, mode="w")
    with pytest.raises(ValueError, match="'set/a' is a link or a device"):
      archives.read_tar(path, ["set/a"])

  def test_claimed_size_over_the_limit(self, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 4)
    path = _tar(tmp_path / "a.tar", {"set/a": b"12345"}, mode="w")
    with pytest.raises(ValueError, match="'set/a' claims 5 bytes"):
      archives.read_tar(path, ["set/a"])

  def test_missing_member(self, tmp_path):
    path = _tar(tmp_path / "a.tar", {"set/a": b"1"}, mode="w")
    with pytest.raises(ValueError, match="a.tar: .* no member 'set/b'"):
      archives.read_tar(path, ["set/a", "set/b"])

  @pytest.mark.parametrize("mode", ["w", "w:gz"])
  @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
  def test_truncated(self, tmp_path, mode, share):
    noise = np.random.default_rng(0).bytes(5000)
    path = _tar(tmp_path / "a.tar", {"set/a": noise}, mode=mode)
    size = 512 + 5000 if mode == "w" else path.stat().st_size
    path.write_bytes(path.read_bytes()[: int(size * share)])
    with pytest.raises(ValueError, match=r"a\.tar: .*(truncated|no member)"):
      archives.read_tar(path, ["set/a"])

  def test_flipped_byte_in_gzip(self, tmp_path):
    path = _tar(tmp_path / "a.tar.gz", {"set/a": bytes(9000)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated or damaged"):
      archives.read_tar(path, ["set/a"])

  def test_missing_file_stays_missing(self, tmp_path):
    with pytest.raises(FileNotFoundError):
      archives.read_tar(tmp_path / "a.tar", ["x"])


class TestIdx:
  @pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)])
  @pytest.mark.parametrize("zipped", [False, True])
  def test_reads(self, tmp_path, shape, zipped):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    path = tmp_path / "x-ubyte"  # Told by content, not by name.
    content = _idx(array)
    path.write_bytes(gzip.compress(content) if zipped else content)
    read = archives.read_idx(path)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)

  def test_golden_bytes(self, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"\0\0\x08\x01\0\0\0\x03\x05\x06\xff")
    assert archives.read_idx(path).tolist() == [5, 6, 255]

  @pytest.mark.parametrize(
    "content, message",
    [
      (b"", "not an idx file"),
      (b"\0\0\x08", "not an idx file"),
      (b"PK\x03\x04....", "not an idx file"),
      (b"\0\0\x08\x00", "not an idx file"),
      (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "type 0x0d"),
      (b"\0\0\x08\x02\0\0\0\x01\0\0", "header ends early"),
      (b"\0\0\x08\x01\0\0\0\x03\x05\x06", r"3 bytes \(3\), there are 2"),
      (b"\0\0\x08\x01\0\0\0\x01\x05\x06", "there are more"),
      (b"\0\0\x08\x04" + b"\xff" * 16, "claims .* bytes"),
    ],
  )
  def test_refused(self, tmp_path, content, message):
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"labels: .*{message}"):
      archives.read_idx(path)

  @pytest.mark.parametrize("keep", [5, 30, -4])
  def test_truncated_gzip(self, tmp_path, keep):
    noise = np.random.default_rng(0).integers(0, 256, 500).astype(np.uint8)
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(_idx(noise))[:keep])
    with pytest.raises(ValueError, match="x.gz: truncated or damaged"):
      archives.read_idx(path)

  def test_gzip_bomb_is_not_unfolded(self, tmp_path):
    path = tmp_path / "x.gz"
    zeros = bytes(1 << 24)
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x02" + zeros))
    with pytest.raises(ValueError, match="2 bytes .*there are more"):
      archives.read_idx(path)


class TestNpz:
  KEYS = {"x": ("x", "images"), "y": ("y", "labels")}

  def test_first_name_found_wins_and_others_stay_unread(self, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=[1], x=[2], labels=[3], junk=np.array([{}], object))
    read = archives.read_npz(path, self.KEYS)
    assert {k: v.tolist() for k, v in read.items()} == {"x": [2], "y": [3]}

  def test_object_array_is_refused(self, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros(1), y=np.array([{}], object))
    with pytest.raises(ValueError, match="a.npz: array 'y' .*Object arrays"):
      archives.read_npz(path, self.KEYS)

  def test_member_that_is_no_array(self, tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as file:
      file.writestr("x", b"hello")
    with pytest.raises(ValueError, match="'x' cannot be read .*not an array"):
      archives.read_npz(path, self.KEYS)

  def test_damaged_member(self, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(1000))
    content = bytearray(path.read_bytes())
    content[1000] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="array 'x' cannot be read"):
      archives.read_npz(path, self.KEYS)

  def test_header_that_claims_too_much(self, tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
      header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 50,)}
    )
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as file:
      file.writestr("x.npy", header.getvalue() + b"1234")
    with pytest.raises(ValueError, match="array 'x' cannot be read"):
      archives.read_npz(path, self.KEYS)

  def test_member_over_the_limit(self, tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros(100))
    monkeypatch.setattr(archives, "MAX_BYTES", 500)
    with pytest.raises(ValueError, match="claims 928 bytes"):
      archives.read_npz(path, self.KEYS)

  def test_not_an_npz(self, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(1000))
    whole = path.read_bytes()
    for content in (b"", whole[:500], b"not"):
      path.write_bytes(content)
      with pytest.raises(ValueError, match="a.npz: not an .npz file"):
        archives.read_npz(path, self.KEYS)
    with pytest.raises(FileNotFoundError, match="b.npz: no such file"):
      archives.read_npz(tmp_path / "b.npz", self.KEYS)


class TestNpy:
  def test_reads_an_array(self, tmp_path):
    for array in (np.arange(7), np.zeros((0,), np.int32), np.ones((2, 3))):
      np.save(tmp_path / "a.npy", array)
      got = archives.read_npy(tmp_path / "a.npy")
      np.testing.assert_array_equal(got, array)
      assert got.dtype == array.dtype and type(got) is np.ndarray

  def test_objects_are_refused(self, tmp_path):
    np.save(tmp_path / "a.npy", np.array([print], object), allow_pickle=True)
    with pytest.raises(ValueError, match="a.npy: not an .npy file of numbers"):
      archives.read_npy(tmp_path / "a.npy")

  def test_header_that_claims_too_much(self, tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
      header, {"descr": "<i8", "fortran_order": False, "shape": (1 << 50,)}
    )
    (tmp_path / "a.npy").write_bytes(header.getvalue() + b"1234")
    with pytest.raises(ValueError, match="not an .npy file of numbers"):
      archives.read_npy(tmp_path / "a.npy")

  def test_something_else(self, tmp_path):
    np.save(tmp_path / "a.npy", np.arange(100))
    whole = (tmp_path / "a.npy").read_bytes()
    np.savez(tmp_path / "a.npz", x=np.arange(100))
    zipped = (tmp_path / "a.npz").read_bytes()
    pickled = pickle.dumps(print)
    for content in (b"", b"not", whole[:50], whole[:500], zipped, pickled):
      (tmp_path / "a.npy").write_bytes(content)
      with pytest.raises(ValueError, match="not an .npy file of numbers"):
        archives.read_npy(tmp_path / "a.npy")

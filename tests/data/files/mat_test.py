"""MATLAB files as SciPy writes them, and files that are not whole."""

import struct
import zlib

import numpy as np
import pytest
import scipy.io

from ltjax.data.files import mat

X = np.random.default_rng(0).integers(0, 256, (4, 5, 3, 7)).astype(np.uint8)


def write(path, compressed=False, **content):
  scipy.io.savemat(path, content, do_compression=compressed)
  return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", "i1 u1 i2 u2 i4 u4 i8 u8 f4 f8".split())
def test_every_type(tmp_path, dtype, compressed):
  array = np.arange(24).reshape(2, 3, 4).astype(dtype)
  path = write(tmp_path / "a.mat", compressed, a=array, b=X)
  found = mat.read(path, ("a",))
  assert list(found) == ["a"]
  assert found["a"].dtype == array.dtype
  np.testing.assert_array_equal(found["a"], array)


@pytest.mark.parametrize("compressed", [False, True])
def test_large_small_and_empty_arrays(tmp_path, compressed):
  large = np.random.default_rng(1).integers(0, 256, (1200, 2003))
  content = {
    "large": large.astype(np.uint8),  # over two of the chunks it is read in
    "tiny": np.array([[3]], np.uint8),  # lies in its own tag
    "empty": np.zeros((0, 4), np.uint8),
    "a_rather_long_name": X,
  }
  path = write(tmp_path / "a.mat", compressed, **content)
  found = mat.read(path, tuple(content))
  assert set(found) == set(content)
  for name, array in content.items():
    np.testing.assert_array_equal(found[name], array)
    assert found[name].shape == array.shape


def test_what_is_not_wanted_is_passed_over(tmp_path):
  content = {"cell": np.array([{}], object), "text": "abc", "s": {"f": 1}}
  path = write(tmp_path / "a.mat", **content, X=X)
  np.testing.assert_array_equal(mat.read(path, ("X", "y"))["X"], X)
  assert mat.read(path, ()) == {}
  for name, what in (
    ("cell", "a cell array"),
    ("text", "text"),
    ("s", "a struct"),
  ):
    with pytest.raises(ValueError, match=f"{name} is {what}"):
      mat.read(path, (name,))


def test_complex_and_sparse_numbers_are_refused(tmp_path):
  path = write(tmp_path / "a.mat", c=np.array([[1j]]))
  with pytest.raises(ValueError, match="c is not of real numbers"):
    mat.read(path, ("c",))


def element(kind, content, order="<"):
  tag = struct.pack(f"{order}2I", kind, len(content))
  return tag + content + bytes(-len(content) % 8)


def array(name=b"X", shape=(2, 3), kind=9, stored=2, numbers=None, order="<"):
  if numbers is None:
    numbers = bytes(range(6))
  body = (
    element(6, struct.pack(f"{order}2I", kind, 0), order)
    + element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    + element(1, name, order)
    + element(stored, numbers, order)
  )
  return element(14, body, order)


def file(tmp_path, *elements, version=0x100, order="<"):
  head = b"MATLAB 5.0 MAT-file".ljust(124)
  mark = b"IM" if order == "<" else b"MI"
  path = tmp_path / "a.mat"
  path.write_bytes(
    head + struct.pack(f"{order}H", version) + mark + b"".join(elements)
  )
  return path


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(tmp_path, order):
  numbers = struct.pack(f"{order}6h", *range(-3, 3))
  path = file(
    tmp_path,
    array(kind=10, stored=3, numbers=numbers, order=order),
    order=order,
  )
  expected = [[-3, -1, 1], [-2, 0, 2]]
  assert mat.read(path, ("X",))["X"].tolist() == expected


def test_numbers_may_be_stored_smaller_than_their_type(tmp_path):
  found = mat.read(file(tmp_path, array(kind=6)), ("X",))["X"]
  assert found.dtype == np.float64
  assert found.tolist() == [[0, 2, 4], [1, 3, 5]]


def packed(content, cut=None):
  stream = zlib.compress(content)[:cut]
  return struct.pack("<2I", 15, len(stream)) + stream


@pytest.mark.parametrize(
  "elements, message",
  [
    ([array(shape=(2, 2))], r"X has 6 numbers for \(2, 2\)"),
    ([array(shape=(2**31 - 1,) * 4)], "X has 6 numbers for"),
    ([array(shape=(-2, -3))], r"X has the shape \(-2, -3\)"),
    ([array(shape=())], r"X has the shape \(\)"),
    ([array(stored=2, kind=5)], "X is not of real numbers"),
    ([array(stored=8)], "the numbers of X are of type 8"),
    ([array(stored=3, numbers=bytes(5))], "must be a multiple"),
    ([array(), array()], "two arrays are named 'X'"),
    ([element(2, bytes(8))], "an element of type 2 stands where an array"),
    ([packed(element(2, bytes(8)))], "an element of type 2 stands"),
    ([packed(array(), cut=-20)], "ends early"),
    ([array()[:-8]], "ends early"),
    ([struct.pack("<2I", 14, 8) + array()[8:]], "larger than the array"),
    ([struct.pack("<2I", 14, 2**32 - 1) + array()[8:]], "ends early"),
    ([struct.pack("<2I", 15, 30) + bytes(30)], "Error -3 while decompressing"),
    ([element(14, struct.pack("<2I", 2 | 9 << 16, 0))], "short element claims"),
  ],
)
def test_damage_is_told(tmp_path, elements, message):
  with pytest.raises(ValueError, match=f"a.mat: not a whole .*{message}"):
    mat.read(file(tmp_path, *elements), ("X",))


def test_other_versions_and_files(tmp_path):
  with pytest.raises(ValueError, match="version is 0x0200, 0x0100 is.*-v7"):
    mat.read(file(tmp_path, array(), version=0x200), ("X",))
  (tmp_path / "a.mat").write_bytes(b"<html>" + bytes(500))
  with pytest.raises(ValueError, match="no header of MATLAB 5"):
    mat.read(tmp_path / "a.mat", ("X",))
  with pytest.raises(FileNotFoundError, match="gone.mat: no such file"):
    mat.read(tmp_path / "gone.mat", ("X",))


def test_a_claim_of_gigabytes_costs_no_memory(tmp_path):
  """The numbers claim 4 GiB; the file has six of them."""
  whole = array()
  numbers = struct.pack("<2I", 2, 6)
  huge = struct.pack("<2I", 2, 2**32 - 200)
  lying = whole.replace(numbers, huge)
  lying = struct.pack("<2I", 14, 2**32 - 1) + lying[8:]
  for content in (lying, packed(lying)):
    with pytest.raises(ValueError, match="ends early"):
      mat.read(file(tmp_path, content), ("X",))


@pytest.mark.parametrize("compressed", [True, False])
def test_truncated_anywhere(tmp_path, compressed):
  path = write(tmp_path / "a.mat", compressed, y=np.ones((7, 1)), X=X)
  content = path.read_bytes()
  whole = mat.read(path, ("X", "y"))
  assert len(whole) == 2
  for keep in [0, 3, 127, *range(129, len(content) - 1, 7)]:
    path.write_bytes(content[:keep])
    try:
      found = mat.read(path, ("X", "y"))
    except ValueError as error:
      assert str(error).startswith(f"{path}: not a whole .mat file")
    else:  # cut between two arrays, which nobody can tell
      assert set(found) == {"y"}


@pytest.mark.parametrize("compressed", [True, False])
def test_overwritten_bytes_never_end_in_anything_else(tmp_path, compressed):
  path = write(tmp_path / "a.mat", compressed, y=np.ones((7, 1)), X=X[:2])
  content = path.read_bytes()
  refused = 0
  for seed in range(150):
    rng = np.random.default_rng(seed)
    damaged = bytearray(content)
    for i in rng.integers(100, min(len(content), 330), 3):
      damaged[i] = rng.integers(0, 256)
    path.write_bytes(damaged)
    try:
      mat.read(path, ("X", "y"))
    except ValueError as error:
      assert str(error).startswith(f"{path}: ")
      refused += 1
  assert refused > 50


def test_an_array_behind_another_one(tmp_path):
  first = array(name=b"odd", shape=(1, 3), numbers=b"abc")  # padded to 8
  path = file(tmp_path, first, packed(array()), array(name=b"Z"))
  found = mat.read(path, ("X", "Z"))
  assert list(found) == ["X", "Z"]
  assert found["X"].tolist() == found["Z"].tolist() == [[0, 2, 4], [1, 3, 5]]

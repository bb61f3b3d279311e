"""A pickle gives arrays, or an error; it never runs."""

import os
import pickle
import struct

import numpy as np
import pytest

from ltjax.data.files import pickles


class _Call:
  """Pickles as a call of any function."""

  def __init__(self, function, *arguments):
    self.call = (function, arguments)

  def __reduce__(self):
    return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_numbers_and_bytes_of_every_protocol(protocol):
  content = {
    b"data": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(3, dtype=">i4"),
    "labels": [3, 1, np.int64(2)],
    "raw": b"\x00\xff",
  }
  loaded = pickles.read_pickle(pickle.dumps(content, protocol))
  assert list(loaded) == ["data", "fortran", "big", "labels", "raw"]
  assert loaded["data"].dtype == np.uint8
  np.testing.assert_array_equal(loaded["data"], content[b"data"])
  np.testing.assert_array_equal(loaded["fortran"], content["fortran"])
  np.testing.assert_array_equal(loaded["big"], [0, 1, 2])
  assert loaded["labels"] == [3, 1, 2]
  assert loaded["raw"] == b"\x00\xff"


def _python2_batch() -> bytes:
  """A pickle as Python 2 and its NumPy wrote CIFAR: text opcodes for bytes."""

  def text(value: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(value)) + value  # BINSTRING

  array = (
    b"cnumpy.core.multiarray\n_reconstruct\n"
    b"(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
    b"(K\x01(K\x02K\x03t"
    b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR"
    b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"\x89" + text(bytes([0, 1, 127, 128, 254, 255])) + b"tb"
  )
  return (
    b"\x80\x02}(" + text(b"data") + array + text(b"labels") + b"](K\x07K\x08eu."
  )


def test_python2_pickle():
  # Python's own loader agrees that this is such a pickle.
  own = pickle.loads(_python2_batch(), encoding="latin1")
  loaded = pickles.read_pickle(_python2_batch())
  np.testing.assert_array_equal(loaded["data"], [[0, 1, 127], [128, 254, 255]])
  np.testing.assert_array_equal(loaded["data"], own["data"])
  assert loaded["data"].dtype == np.uint8
  assert loaded["labels"] == [7, 8]


def test_reads_a_file(tmp_path):
  path = tmp_path / "meta"
  path.write_bytes(pickle.dumps({b"label_names": [b"cat"]}))
  assert pickles.read_pickle(path) == {"label_names": [b"cat"]}


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_is_refused_and_does_not_run(tmp_path, protocol):
  mark = tmp_path / "ran"
  evil = {"data": _Call(os.system, f"touch {mark}")}
  path = tmp_path / "data_batch_1"
  path.write_bytes(pickle.dumps(evil, protocol))
  with pytest.raises(ValueError, match=r"data_batch_1.*asks for .*\.system"):
    pickles.read_pickle(path)
  assert not mark.exists()


@pytest.mark.parametrize(
  "function, arguments",
  [
    (eval, ("1",)),
    (getattr, ("", "join")),
    (__import__, ("os",)),
    (np.load, ("x",)),
    (np.array, ([1],)),
    (bytearray, (5,)),
  ],
)
def test_any_other_global_is_refused(function, arguments):
  evil = pickle.dumps({"data": _Call(function, *arguments)})
  with pytest.raises(ValueError, match="asks for .*can run any code"):
    pickles.read_pickle(evil, name="evil")


def test_object_array_is_refused():
  content = pickle.dumps({"data": np.array([{}, None], object)})
  with pytest.raises(ValueError, match="only plain numbers load"):
    pickles.read_pickle(content)


def test_other_codec_is_refused():
  content = (
    b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R."
  )
  with pytest.raises(ValueError, match="the codec 'rot13'"):
    pickles.read_pickle(content)


def test_globals_of_the_reader_cannot_be_changed():
  # BUILD with a pair sets attributes on whatever is on the stack.
  content = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n"
    b"N}X\x08\x00\x00\x00__name__X\x04\x00\x00\x00evils\x86b0}."
  )
  before = pickles._reconstruct.__name__
  assert pickles.read_pickle(content) == {}
  assert pickles._reconstruct.__name__ == before == "_reconstruct"


def test_array_with_too_little_content_is_refused():
  content = _python2_batch().replace(b"K\x02K\x03t", b"K\x02K\x04t")
  with pytest.raises(ValueError, match="not a whole pickle"):
    pickles.read_pickle(content)


@pytest.mark.parametrize("keep", [0, 1, 40, -1])
def test_truncated(keep):
  whole = pickle.dumps({"data": np.zeros(100, np.uint8)})
  with pytest.raises(ValueError, match="batch: not a whole pickle.*truncated"):
    pickles.read_pickle(whole[:keep], name="batch")


def test_not_a_dict():
  with pytest.raises(ValueError, match="holds a list, not a dict"):
    pickles.read_pickle(pickle.dumps([1]))

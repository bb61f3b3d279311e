"""Pickled image sets, read without running them.

Loading a pickle with Python's own loader can run any command. CIFAR and the
Tiny Images selections are pickles of dicts with arrays, lists and text, and
this reader knows nothing else. NumPy's own rebuilding functions are not called
either: stand-ins take their arguments and accept plain numbers only.
"""

from __future__ import annotations

import io
import pathlib
import pickle
from typing import Any

import numpy as np

_KINDS = "biuf"  # Plain numbers: bool, integers, floats.


def read_pickle(source: str | pathlib.Path | bytes, *, name: str = "") -> dict:
  """Unpickles a dict of plain values and NumPy arrays, and nothing else.

  Pickles of Python 2 and 3 and of any NumPy load; byte strings of Python 2
  arrive as latin-1 text. Every other global is refused before it is looked up.
  All else, and a damaged file, is a ValueError.

  Args:
    source: The file's path, or its bytes.
    name: What to call the file in errors; the path if empty.
  """
  is_bytes = isinstance(source, bytes)
  name = name or ("pickle" if is_bytes else str(source))
  with io.BytesIO(source) if is_bytes else open(source, "rb") as file:
    try:
      loaded = _Unpickler(file, encoding="latin1").load()
    except _Refused as error:
      raise ValueError(
        f"{name}: the pickle asks for {error}, which no image archive needs. "
        "It is refused, because such a pickle can run any code."
      ) from None
    except Exception as error:  # A damaged pickle raises nearly anything.
      raise ValueError(
        f"{name}: not a whole pickle ({type(error).__name__}: {error}); it is "
        "truncated or damaged. Fetch it again."
      ) from None
  if not isinstance(loaded, dict):
    raise ValueError(
      f"{name}: the pickle holds a {type(loaded).__name__}, not a dict."
    )
  return {
    _text(key): value.array if isinstance(value, _Array) else value
    for key, value in loaded.items()
  }


def _text(key: Any) -> Any:
  return key.decode("latin1") if isinstance(key, bytes) else key


class _Refused(Exception):
  """A pickle asked for something outside the short list."""


class _Dtype:
  """Stands in for a `numpy.dtype` of plain numbers."""

  def __init__(self, code: Any, *_):
    self.dtype = np.dtype(_text(code))
    if self.dtype.kind not in _KINDS:
      raise _Refused(f"an array of {self.dtype} (only plain numbers load)")

  def __setstate__(self, state: tuple) -> None:
    order = _text(state[1])
    if order in ("<", ">"):
      self.dtype = self.dtype.newbyteorder(order)


class _Array:
  """Stands in for a `numpy.ndarray` until its content is known."""

  def __init__(self):
    self.array = np.empty((0,), np.uint8)

  def __setstate__(self, state: tuple) -> None:
    _, shape, dtype, fortran, content = state
    self.fill(content, dtype, shape, "F" if fortran else "C")

  def fill(self, content: Any, dtype: _Dtype, shape: tuple, order: str) -> None:
    if isinstance(content, str):  # Python 2 pickled bytes as text.
      content = content.encode("latin1")
    self.array = np.frombuffer(content, dtype.dtype).reshape(
      shape, order="F" if order == "F" else "C"
    )


class _Unpickler(pickle.Unpickler):
  """Knows NumPy arrays and numbers, and Python 2 byte strings."""

  def find_class(self, module: str, name: str) -> Any:
    # NumPy 1 and 2 keep the same functions in different modules.
    found = _GLOBALS.get((module.replace("numpy._core", "numpy.core"), name))
    if found is None:
      raise _Refused(f"{module}.{name}")
    # A new wrapper each time: a pickle can set attributes on what it gets.
    return lambda *arguments: found(*arguments)


def _reconstruct(*_) -> _Array:
  return _Array()


def _from_buffer(content, dtype: _Dtype, shape: tuple, order: str) -> _Array:
  array = _Array()
  array.fill(content, dtype, shape, order)
  return array


def _scalar(dtype: _Dtype, content: Any) -> Any:
  if isinstance(content, str):
    content = content.encode("latin1")
  return np.frombuffer(content, dtype.dtype)[0]


def _encode(text: str, encoding: str) -> bytes:
  """What Python 3 writes for bytes at protocol 2 and below."""
  if encoding != "latin1":
    raise _Refused(f"the codec {encoding!r}")
  return text.encode("latin1")


_GLOBALS = {
  ("numpy", "dtype"): _Dtype,
  ("numpy", "ndarray"): _reconstruct,  # Only ever an argument.
  ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
  ("numpy.core.multiarray", "scalar"): _scalar,
  ("numpy.core.numeric", "_frombuffer"): _from_buffer,
  ("_codecs", "encode"): _encode,
}

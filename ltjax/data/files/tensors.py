"""Files of weights, read without running them.

`.safetensors`; `.npz` without pickled objects; and PyTorch's `.pth`, `.pt` and
`.bin` in both of its formats, whose pickles are read by an unpickler that knows
tensors and nothing else, without PyTorch.
"""

from __future__ import annotations

import collections
import io
import pathlib
import pickle
from typing import Any
import zipfile

import ml_dtypes
import numpy as np

_SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin")
_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
  "DoubleStorage": np.dtype("<f8"),
  "FloatStorage": np.dtype("<f4"),
  "HalfStorage": np.dtype("<f2"),
  "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
  "LongStorage": np.dtype("<i8"),
  "IntStorage": np.dtype("<i4"),
  "ShortStorage": np.dtype("<i2"),
  "CharStorage": np.dtype("i1"),
  "ByteStorage": np.dtype("u1"),
  "BoolStorage": np.dtype("?"),
}
_SAFE_DTYPES = {
  "F64": np.dtype("<f8"),
  "F32": np.dtype("<f4"),
  "F16": np.dtype("<f2"),
  "BF16": np.dtype(ml_dtypes.bfloat16),
  "I64": np.dtype("<i8"),
  "I32": np.dtype("<i4"),
  "I16": np.dtype("<i2"),
  "I8": np.dtype("i1"),
  "U8": np.dtype("u1"),
  "BOOL": np.dtype("?"),
}
# Under these a training checkpoint keeps the weights.
_INNER = ("state_dict", "model", "model_state_dict", "teacher")


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """Returns the tensors of a file, by name.

  Args:
    path: the file; its suffix tells its format.

  Raises:
    FileNotFoundError: if it does not exist.
    ValueError: if it is damaged, of another format, or a pickle that asks for
      anything but tensors.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file of weights.")
  if path.suffix not in _SUFFIXES:
    raise ValueError(
      f"{path}: the suffix tells no format of weights; files end in"
      f" {', '.join(_SUFFIXES)}."
    )
  try:
    if path.suffix == ".safetensors":
      return _safetensors(path)
    if path.suffix == ".npz":
      with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
    content = path.read_bytes()
    if zipfile.is_zipfile(io.BytesIO(content)):
      return _named(_zipped(content), path)
    return _named(_streamed(content), path)
  except _Refused as error:
    raise ValueError(
      f"{path}: the pickle asks for {error}, which no weights need. It is"
      " refused, because such a pickle can run any code. Save the state_dict"
      " alone, best as .safetensors."
    ) from None
  except ImportError:
    raise ValueError(
      f"{path}: reading .safetensors needs the package safetensors; pip"
      " install 'ltjax[pretrained]'."
    ) from None
  except _NotWeights as error:
    raise ValueError(f"{path}: {error}") from None
  except Exception as error:  # A damaged file raises nearly anything.
    raise ValueError(
      f"{path}: not a whole file of weights ({type(error).__name__}:"
      f" {error}); it is truncated, damaged or of another format. Fetch it"
      " again."
    ) from None


def _safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  import safetensors

  found = {}
  for name, entry in safetensors.deserialize(path.read_bytes()):
    if entry["dtype"] not in _SAFE_DTYPES:
      raise _NotWeights(f"{name} is of {entry['dtype']}, which is not read.")
    data = np.frombuffer(entry["data"], _SAFE_DTYPES[entry["dtype"]])
    found[name] = data.reshape(entry["shape"])
  return found


class _Refused(Exception):
  """A pickle asked for something outside the short list."""


class _NotWeights(Exception):
  """A file is whole, and no weights."""


class _Tensor:
  """Stands for a tensor until its storage is read."""

  def __init__(
    self, storage: Any, offset: int, size: Any, stride: Any, *_: Any
  ):
    self.storage, self.offset = storage, int(offset)
    self.size, self.stride = tuple(size), tuple(stride)

  def array(self, storages: dict[str, np.ndarray]) -> np.ndarray:
    """Returns a copy of what it stands for.

    Raises:
      ValueError: if it reaches beyond its storage.
    """
    content = storages[self.storage]
    last = sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
    if min((*self.size, *self.stride, self.offset, 0)) < 0 or (
      0 not in self.size and self.offset + last >= len(content)
    ):
      raise ValueError("a tensor reaches beyond its storage")
    if 0 in self.size:
      return np.zeros(self.size, content.dtype)
    strides = [s * content.itemsize for s in self.stride]
    view = content[self.offset :]
    return np.lib.stride_tricks.as_strided(view, self.size, strides).copy()


def _parameter(tensor: _Tensor, *_: Any) -> _Tensor:
  return tensor


_GLOBALS = {
  ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
  ("torch._utils", "_rebuild_tensor"): _Tensor,
  ("torch._utils", "_rebuild_parameter"): _parameter,
  ("collections", "OrderedDict"): collections.OrderedDict,
  **{("torch", name): dtype for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
  """Knows tensors, dicts, numbers and text."""

  def __init__(self, file: io.BytesIO):
    super().__init__(file, encoding="latin1")
    self.storages: dict[str, np.dtype] = {}

  def find_class(self, module: str, name: str) -> Any:
    found = _GLOBALS.get((module, name))
    if found is None:
      raise _Refused(f"{module}.{name}")
    if isinstance(found, np.dtype):
      return found
    # A new wrapper each time: a pickle can set attributes on what it gets.
    return lambda *arguments: found(*arguments)

  def persistent_load(self, pid: Any) -> str:
    kind, dtype, key = pid[:3]
    if kind != "storage" or not isinstance(dtype, np.dtype):
      raise _Refused(f"a stored {kind!r}")
    # The last entry: a part of another storage, which no PyTorch writes now.
    if len(pid) > 5 and pid[5] is not None:
      raise _Refused("a view of a storage")
    self.storages[str(key)] = dtype
    return str(key)


def _zipped(content: bytes) -> Any:
  """Reads the format of PyTorch 1.6 and later."""
  with zipfile.ZipFile(io.BytesIO(content)) as archive:
    names = archive.namelist()
    main = next((n for n in names if n.endswith("/data.pkl")), None)
    if main is None:
      raise _NotWeights(
        "the archive holds no data.pkl, so it is not PyTorch's."
      )
    folder = main.removesuffix("data.pkl")
    if f"{folder}byteorder" in names:
      if archive.read(f"{folder}byteorder") != b"little":
        raise _NotWeights("it is of a big-endian machine, which is not read.")
    unpickler = _Unpickler(io.BytesIO(archive.read(main)))
    loaded = unpickler.load()
    storages = {
      key: np.frombuffer(archive.read(f"{folder}data/{key}"), dtype)
      for key, dtype in unpickler.storages.items()
    }
  return _arrays(loaded, storages)


def _streamed(content: bytes) -> Any:
  """Reads the format before PyTorch 1.6: pickles, then the storages."""
  file = io.BytesIO(content)
  if _Unpickler(file).load() != _MAGIC:
    raise _NotWeights("it does not begin as PyTorch's files do.")
  _Unpickler(file).load()  # The protocol's version.
  if not _Unpickler(file).load().get("little_endian", True):
    raise _NotWeights("it is of a big-endian machine, which is not read.")
  unpickler = _Unpickler(file)
  loaded = unpickler.load()
  storages = {}
  for key in _Unpickler(file).load():
    dtype = unpickler.storages[str(key)]
    count = int.from_bytes(file.read(8), "little")
    data = file.read(count * dtype.itemsize)
    storages[str(key)] = np.frombuffer(data, dtype, count)
  return _arrays(loaded, storages)


def _arrays(loaded: Any, storages: dict[str, np.ndarray]) -> Any:
  """Puts arrays in the place of tensors, in dicts at any depth."""
  if isinstance(loaded, _Tensor):
    return loaded.array(storages)
  if isinstance(loaded, dict):
    return {name: _arrays(value, storages) for name, value in loaded.items()}
  return loaded


def _named(loaded: Any, path: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns the tensors of a state dict, or of one in a checkpoint."""
  if isinstance(loaded, dict):
    inner = [loaded[n] for n in _INNER if isinstance(loaded.get(n), dict)]
    for candidate in (loaded, *inner):
      tensors = {
        str(name).removeprefix("module."): value
        for name, value in candidate.items()
        if isinstance(value, np.ndarray)
      }
      if tensors:
        return tensors
  raise _NotWeights("it holds no tensors by name, as a state_dict does.")

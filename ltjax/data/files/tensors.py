"""Files of weights, read without running them.

`.safetensors`; `.npz` without pickled objects; and PyTorch's `.pth`, `.pt` and
`.bin` in both of its formats, whose pickles are read by an unpickler that knows
tensors and nothing else, without PyTorch. Of a TorchScript archive, as OpenAI's
CLIP, it is the modules' tensors; their code is not read.
"""

from __future__ import annotations

import collections
import io
import pathlib
import pickle
from typing import Any, NamedTuple
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
      return _numpy(path)
    if zipfile.is_zipfile(path):
      return _named(*_zipped(path))
    return _named(*_streamed(path.read_bytes()))
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


def _numpy(path: pathlib.Path) -> dict[str, np.ndarray]:
  found = {}
  with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
    for name in file.files:
      try:
        array = file[name]
      except ValueError as error:
        if "allow_pickle" not in str(error):
          raise
        raise _NotWeights(
          f"{name} is pickled, and such an array can run any code. Save arrays"
          " of numbers."
        ) from None
      if array.dtype == np.dtype("V2"):  # NumPy alone cannot name it.
        array = array.view(ml_dtypes.bfloat16)
      elif array.dtype.kind not in "biuf":
        raise _NotWeights(f"{name} is of {array.dtype}, which is not read.")
      found[name] = array
  return found


class _Refused(Exception):
  """A pickle asked for something outside the short list."""


class _NotWeights(Exception):
  """A file is whole, and no weights."""


class _Tensor(NamedTuple):
  """Stands for a tensor until its storage is read."""

  storage: str
  offset: int
  size: tuple[int, ...]
  stride: tuple[int, ...]

  def array(self, storages: dict[str, np.ndarray]) -> np.ndarray:
    """Returns a view of its storage.

    Raises:
      ValueError: if it reaches beyond.
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
    # No copy: a stride of 0 makes any size of one number.
    return np.lib.stride_tricks.as_strided(
      view, self.size, strides, writeable=False
    )


def _tensor(
  storage: Any, offset: Any, size: Any, stride: Any, *_: Any
) -> _Tensor:
  sizes, strides = (tuple(int(n) for n in x) for x in (size, stride))
  return _Tensor(str(storage), int(offset), sizes, strides)


class _Module:
  """Stands for a module of TorchScript: what its attributes are."""

  def __setstate__(self, state: Any) -> None:
    self.state = state if isinstance(state, dict) else {}

  def tensors(self, prefix: str = "") -> dict[str, _Tensor]:
    """Returns its tensors and those of its modules, by path."""
    found: dict[str, _Tensor] = {}
    for name, value in getattr(self, "state", {}).items():
      if isinstance(value, _Tensor):
        found[f"{prefix}{name}"] = value
      elif isinstance(value, _Module):
        found |= value.tensors(f"{prefix}{name}.")
    return found


def _first(value: Any, *_: Any) -> Any:
  return value


def _parameter(tensor: _Tensor, *_: Any) -> _Tensor:
  return tensor


_GLOBALS = {
  ("torch._utils", "_rebuild_tensor_v2"): _tensor,
  ("torch._utils", "_rebuild_tensor"): _tensor,
  ("torch._utils", "_rebuild_parameter"): _parameter,
  ("collections", "OrderedDict"): collections.OrderedDict,
  **{
    ("torch.jit._pickle", f"build_{kind}list"): _first
    for kind in ("int", "double", "bool", "tensor")
  },
  ("torch.jit._pickle", "restore_type_tag"): _first,
}


class _Unpickler(pickle.Unpickler):
  """Knows tensors, dicts, numbers and text."""

  def __init__(self, file: io.BytesIO):
    super().__init__(file, encoding="latin1")
    self.storages: dict[str, np.dtype] = {}

  def find_class(self, module: str, name: str) -> Any:
    if module == "torch" and name in _DTYPES:
      return name
    if module.split(".")[0] == "__torch__":
      return type(name, (_Module,), {})
    found = _GLOBALS.get((module, name))
    if found is None:
      raise _Refused(f"{module}.{name}")
    # A new wrapper each time: a pickle can set attributes on what it gets.
    return lambda *arguments: found(*arguments)

  def persistent_load(self, pid: Any) -> str:
    kind, name, key = pid[:3]
    if kind != "storage":
      raise _Refused(f"a stored {kind!r}")
    # The last entry: a part of another storage, which no PyTorch writes now.
    if len(pid) > 5 and pid[5] is not None:
      raise _Refused("a view of a storage")
    self.storages[str(key)] = _DTYPES[name]
    return str(key)


def _zipped(path: pathlib.Path) -> tuple[Any, dict[str, np.ndarray]]:
  """Reads the format of PyTorch 1.6 and later.

  Returns:
    What is pickled, and the content of the storages by key.
  """
  with zipfile.ZipFile(path) as archive:
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
  return loaded, storages


def _streamed(content: bytes) -> tuple[Any, dict[str, np.ndarray]]:
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
  return loaded, storages


def _named(
  loaded: Any, storages: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Returns the tensors of a state dict, or of one in a checkpoint."""
  if isinstance(loaded, _Module):
    loaded = loaded.tensors()
  if isinstance(loaded, dict):
    # A checkpoint may hold a tensor beside its weights, such as the loss.
    inner = [loaded[n] for n in _INNER if isinstance(loaded.get(n), dict)]
    for candidate in (*inner, loaded):
      tensors = {
        str(name).removeprefix("module."): value.array(storages)
        for name, value in candidate.items()
        if isinstance(value, _Tensor)
      }
      if tensors:
        return tensors
  raise _NotWeights("it holds no tensors by name, as a state_dict does.")

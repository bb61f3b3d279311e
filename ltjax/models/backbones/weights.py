"""Published weights: which tensor of a file is which parameter.

A family of backbones has a `Layout` for each way in which its weights are
published. `fill` takes what a file holds (`ltjax.data.files.tensors`), checks
that it is complete, and returns the variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import re
from typing import Any, NamedTuple

import jax
import numpy as np

Tensors = Mapping[str, np.ndarray]


def same(tensor: np.ndarray) -> np.ndarray:
  """Returns a tensor as it is."""
  return tensor


def transposed(tensor: np.ndarray) -> np.ndarray:
  """Returns a PyTorch linear layer's weight as a kernel, `[in, out]`."""
  return tensor.T


def convolution(tensor: np.ndarray) -> np.ndarray:
  """Returns a PyTorch convolution's weight as a kernel, `[h, w, in, out]`."""
  return tensor.transpose(2, 3, 1, 0)


class Source(NamedTuple):
  """Where a parameter comes from.

  Attributes:
    names: of the file's tensors.
    change: `(*tensors) -> array`, of the parameter's shape.
  """

  names: tuple[str, ...]
  change: Callable[..., np.ndarray] = same


class Layout(NamedTuple):
  """One way in which weights of a family are published.

  Attributes:
    name: for errors, such as `timm`.
    marker: a tensor that files of this layout hold, and of no other.
    source: `path -> Source` of each parameter and statistic, whose path in the
      variables is such as `params/blocks_0/conv/kernel`.
    unused: pattern of the tensors that are not part of the backbone, such as
      the classifier of the original classes.
  """

  name: str
  marker: str
  source: Callable[[str], Source]
  unused: str = r"$^"


def fill(
  shapes: Any, tensors: Tensors, layouts: Sequence[Layout], *, what: str
) -> Any:
  """Returns variables of the given shapes, filled from a file's tensors.

  Args:
    shapes: tree of `jax.ShapeDtypeStruct`, a module's variables.
    tensors: of the file, by name.
    layouts: in which they may be.
    what: the file and the backbone, for errors.

  Returns:
    A tree of fp32 arrays on the host.

  Raises:
    ValueError: if the layout is none of these, a tensor is missing or left
      over, or has another shape; names the first ten.
  """
  layout = next((x for x in layouts if x.marker in tensors), None)
  if layout is None:
    found = ", ".join(sorted(tensors)[:10]) or "nothing"
    known = " or ".join(f"{x.name} ({x.marker!r})" for x in layouts)
    raise ValueError(
      f"{what}: these are no weights of that architecture in a layout that is"
      f" known, {known}. The file holds {found}{_more(tensors)}."
    )
  used: set[str] = set()
  faults: dict[str, list[str]] = {"missing": [], "mis-shaped": []}

  def find(path: tuple[Any, ...], shape: jax.ShapeDtypeStruct) -> np.ndarray:
    source = layout.source("/".join(str(entry.key) for entry in path))
    used.update(source.names)
    absent = [name for name in source.names if name not in tensors]
    faults["missing"] += absent
    if absent:
      return np.zeros(0)
    given = [tensors[name] for name in source.names]
    try:
      found = source.change(*given)
      shapes = str(found.shape)
    except (ValueError, IndexError):  # of another rank
      found, shapes = None, " and ".join(str(tensor.shape) for tensor in given)
    if found is None or found.shape != shape.shape:
      faults["mis-shaped"].append(
        f"{source.names[0]} {shapes} for {shape.shape}"
      )
      return np.zeros(0)
    # Not ascontiguousarray, which would make [1] of a number.
    return np.asarray(found, np.float32, order="C")

  filled = jax.tree_util.tree_map_with_path(find, shapes)
  # One tensor may be part of several parameters.
  faults["missing"] = list(dict.fromkeys(faults["missing"]))
  faults["left over"] = [
    name
    for name in sorted(set(tensors) - used)
    if not re.fullmatch(layout.unused, name)
  ]
  if any(faults.values()):
    told = [
      f"{len(names)} {fault} ({', '.join(names[:10])}{_more(names)})"
      for fault, names in faults.items()
      if names
    ]
    raise ValueError(
      f"{what}: of its tensors, read as {layout.name}'s, {'; '.join(told)}. Is"
      " it the file of another size or family? Set model.name to the"
      " architecture of the file."
    )
  return filled


def _more(names: Any) -> str:
  return f", and {len(names) - 10} more" if len(names) > 10 else ""

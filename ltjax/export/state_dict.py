"""The weights as a PyTorch state dict, under the names of torchvision and timm.

Of backbones whose published weights ltjax reads, it is that reading turned
around, where each parameter is one tensor; the head is called as the
original's.
"""

from __future__ import annotations

from pathlib import Path
import re
from typing import Any

import jax
import numpy as np

from ltjax.models import pretrained
from ltjax.models.backbones import resnet, weights
from ltjax.runs import trained as trained_lib

# How a parameter becomes the tensor that it was read from.
_BACK = {
  weights.same: lambda array: array,
  weights.transposed: lambda array: array.T,
  weights.convolution: lambda array: array.transpose(3, 2, 0, 1),
}
_HEADS = ("fc", "_fc", "classifier", "head.fc", "head")


def tensors(
  trained: trained_lib.Trained, head: str = "balanced"
) -> dict[str, np.ndarray]:
  """Returns the tensors of a network by their names in PyTorch.

  Args:
    trained: the model.
    head: `balanced` for g, `random` for g'.

  Raises:
    ValueError: if the architecture has no such names, a part of it has been
      added, or the head is not linear.
  """
  layout = _layout(trained)
  params = trained.variables[trained_lib.HEADS[head]]
  kind = trained.description["model"]["head"]
  if "kernel" not in params or kind != "linear":
    raise ValueError(
      f"The head of this run is {kind} and holds {', '.join(sorted(params))}:"
      " no linear layer; choose --to=onnx or --to=stablehlo, which hold any."
    )
  found: dict[str, np.ndarray] = {}
  tree = {
    "params": trained.variables["backbone"],
    "batch_stats": trained.variables["batch_stats"],
  }
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  for path, leaf in leaves:
    name = "/".join(str(entry.key) for entry in path)
    try:
      source = layout.source(name)
      (tensor,), back = source.names, _BACK[source.change]
    except (KeyError, ValueError):
      raise ValueError(
        f"{trained.model.name} has {name}, which PyTorch's {layout.name} does"
        " not hold as one tensor; choose --to=onnx or --to=stablehlo."
      ) from None
    found[tensor] = np.ascontiguousarray(back(np.asarray(leaf, np.float32)))
  name = _head_name(layout)
  found[f"{name}.weight"] = np.ascontiguousarray(np.asarray(params["kernel"]).T)
  bias = params.get("bias", np.zeros(len(trained.classes)))
  found[f"{name}.bias"] = np.asarray(bias, np.float32)
  return found


def write(found: dict[str, np.ndarray], path: Path) -> None:
  """Writes tensors as safetensors, which PyTorch, timm and others load.

  Args:
    found: as of `tensors`.
    path: the file.

  Raises:
    ValueError: if safetensors is not installed; tells how.
  """
  try:
    from safetensors import numpy as safetensors
  except ImportError:
    raise ValueError(
      "--to=pytorch-state needs safetensors, which is not installed: pip"
      " install 'ltjax[pretrained]'."
    ) from None
  safetensors.save_file(found, str(path))


def _layout(trained: trained_lib.Trained) -> weights.Layout:
  name = trained.model.name
  if name in resnet.IMAGENET_FAMILY:  # from scratch, by the same module
    name = f"{name}_imagenet"
  if name not in pretrained.ARCHITECTURES:
    raise ValueError(
      f"{trained.model.name} has no names in torchvision or timm; choose"
      " --to=onnx or --to=stablehlo, which need none."
    )
  architecture: Any = pretrained.ARCHITECTURES[name]
  return architecture.layouts(trained.image_shape[0])[0]


def _head_name(layout: weights.Layout) -> str:
  """Returns the first usual name that the layout passes over as the head."""
  return next(
    (name for name in _HEADS if re.fullmatch(layout.unused, f"{name}.weight")),
    "fc",
  )

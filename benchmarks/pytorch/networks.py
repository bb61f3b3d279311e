"""The networks of ltjax in PyTorch, layer by layer, to be timed against.

PyTorch is no dependency: it is imported where a network is built. With the same
weights the logits are the same, which a test checks where PyTorch is at hand.
"""

from __future__ import annotations

import importlib
from typing import Any

_DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
_CIFAR = {f"resnet{6 * n + 2}": n for n in (1, 2, 3, 5, 7, 9)}
NAMES = (*_DEPTHS, *_CIFAR, "wrn28_2")
MAX_SIDE = 64  # Larger images have another stem.


def build(
  name: str, *, num_classes: int, image_shape: tuple[int, int, int]
) -> Any:
  """Builds a network, with the stem for small images.

  Args:
    name: as in `ltjax.models`.
    num_classes: C.
    image_shape: `(H, W, channels)`.

  Returns:
    A `torch.nn.Module` from `[B, channels, H, W]` to `[B, C]`. Its layers are
    in the order in which they are named in `ltjax.models`: of a block the main
    path first, then the shortcut; the linear layer last.

  Raises:
    ValueError: if there is no such network here, or the images are too large.
  """
  if name not in NAMES:
    raise ValueError(
      f"There is no {name!r} in PyTorch to compare with; choose one of"
      f" {', '.join(NAMES)}."
    )
  if max(image_shape[:2]) > MAX_SIDE:
    raise ValueError(
      f"The networks in PyTorch are for images of up to {MAX_SIDE} pixels, not"
      f" {max(image_shape[:2])}; set --image."
    )
  nn = library().nn
  channels = image_shape[2]
  if name == "wrn28_2":
    return _wide(nn, channels, num_classes)
  width = 64 if name in _DEPTHS else 16
  depths = _DEPTHS.get(name) or (_CIFAR[name],) * 3
  layers = [_conv(nn, channels, width, 3), nn.BatchNorm2d(width), _relu(nn)]
  inputs = width
  for stage, depth in enumerate(depths):
    for block in range(depth):
      outputs, stride = width * 2**stage, 2 if stage and not block else 1
      shortcut = nn.Identity()
      if inputs != outputs and name in _CIFAR:
        shortcut = _option_a(nn, inputs, outputs, stride)
      elif inputs != outputs:
        shortcut = nn.Sequential(
          _conv(nn, inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
        )
      main = nn.Sequential(
        _conv(nn, inputs, outputs, 3, stride),
        nn.BatchNorm2d(outputs),
        _relu(nn),
        _conv(nn, outputs, outputs, 3),
        nn.BatchNorm2d(outputs),
      )
      layers += [_sum(nn, main, shortcut), _relu(nn)]
      inputs = outputs
  return _with_head(nn, layers, inputs, num_classes)


def library() -> Any:
  """Returns the module `torch`.

  Raises:
    ModuleNotFoundError: if it is not installed.
  """
  return importlib.import_module("torch")


def _wide(nn: Any, channels: int, num_classes: int) -> Any:
  layers = [_conv(nn, channels, 16, 3)]
  inputs = 16
  for stage in range(3):
    for block in range(4):
      outputs, stride = 32 * 2**stage, 2 if stage and not block else 1
      first = [nn.BatchNorm2d(inputs), _leaky(nn)]
      rest = [
        _conv(nn, inputs, outputs, 3, stride),
        nn.BatchNorm2d(outputs),
        _leaky(nn),
        _conv(nn, outputs, outputs, 3),
      ]
      shortcut = nn.Identity()
      if inputs != outputs:
        shortcut = _conv(nn, inputs, outputs, 1, stride)
      if stage == block == 0:  # Its shortcut is fed with the activated input.
        layers += [*first, _sum(nn, nn.Sequential(*rest), shortcut)]
      else:
        layers.append(_sum(nn, nn.Sequential(*first, *rest), shortcut))
      inputs = outputs
  layers += [nn.BatchNorm2d(inputs), _leaky(nn)]
  return _with_head(nn, layers, inputs, num_classes)


def _with_head(nn: Any, layers: list[Any], inputs: int, classes: int) -> Any:
  pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
  return nn.Sequential(*layers, *pool, nn.Linear(inputs, classes))


def _conv(
  nn: Any, inputs: int, outputs: int, size: int, stride: int = 1
) -> Any:
  return nn.Conv2d(
    inputs, outputs, size, stride=stride, padding=size // 2, bias=False
  )


def _relu(nn: Any) -> Any:
  return nn.ReLU(inplace=True)


def _leaky(nn: Any) -> Any:
  return nn.LeakyReLU(0.1, inplace=True)


def _sum(nn: Any, main: Any, shortcut: Any) -> Any:
  class Sum(nn.Module):
    """The main path and the shortcut, added."""

    def __init__(self):
      super().__init__()
      self.main, self.shortcut = main, shortcut

    def forward(self, x):
      return self.main(x) + self.shortcut(x)

  return Sum()


def _option_a(nn: Any, inputs: int, outputs: int, stride: int) -> Any:
  before = (outputs - inputs) // 2
  after = outputs - inputs - before

  class OptionA(nn.Module):
    """Every second pixel, new channels zero."""

    def forward(self, x):
      x = x[:, :, ::stride, ::stride]
      return nn.functional.pad(x, (0, 0, 0, 0, before, after))

  return OptionA()

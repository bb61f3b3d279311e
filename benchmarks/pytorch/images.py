"""The augmentation of a PyTorch loop: one image by PIL, or a batch on a device.

Both pad by 4 pixels, cut, mirror every second image and normalise, as
`ltjax.augment.crop_flip` does.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

PAD = 4


def augment(torch: Any, images: Any) -> Any:
  """Pads, crops, mirrors and normalises a batch on its device.

  Args:
    torch: the module.
    images: uint8 `[B, C, H, W]`.

  Returns:
    float32 `[B, C, H, W]`, each image with a crop and a mirror of its own.
  """
  size, _, height, width = images.shape
  device = images.device
  padded = torch.nn.functional.pad(images, (PAD,) * 4)
  top = torch.randint(2 * PAD + 1, (size, 1), device=device)
  left = torch.randint(2 * PAD + 1, (size, 1), device=device)
  mirror = torch.rand(size, 1, device=device) < 0.5
  columns = torch.arange(width, device=device)[None]
  columns = left + torch.where(mirror, width - 1 - columns, columns)
  rows = top + torch.arange(height, device=device)[None]
  each = torch.arange(size, device=device)
  # Indices beside a slice: the indexed axes come first, `[B, H, W, C]`.
  cut = padded[each[:, None, None], :, rows[:, :, None], columns[:, None, :]]
  return cut.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def dataset(torch: Any, pixels: np.ndarray, labels: np.ndarray) -> Any:
  """Returns a data set for a `DataLoader`, of images augmented one by one.

  Args:
    torch: the module.
    pixels: uint8 `[N, H, W, 3]`.
    labels: integers `[N]`.
  """

  class Pictures(torch.utils.data.Dataset):
    """Images through PIL, one at a time."""

    def __len__(self) -> int:
      return len(pixels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
      array = picture(pixels[index])
      return torch.from_numpy(array), int(labels[index])

  return Pictures()


def picture(pixels: np.ndarray) -> np.ndarray:
  """Pads, crops, mirrors and normalises an image by PIL.

  Args:
    pixels: uint8 `[H, W, 3]`.

  Returns:
    float32 `[3, H, W]`.
  """
  from PIL import Image, ImageOps

  image = Image.fromarray(pixels)
  width, height = image.size
  image = ImageOps.expand(image, PAD)
  left, top = (random.randrange(2 * PAD + 1) for _ in range(2))
  image = image.crop((left, top, left + width, top + height))
  if random.random() < 0.5:
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  array = np.asarray(image, np.float32).transpose(2, 0, 1) / np.float32(255)
  return np.ascontiguousarray((array - np.float32(0.5)) / np.float32(0.5))

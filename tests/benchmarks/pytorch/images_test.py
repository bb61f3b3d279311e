import random

import numpy as np
import pytest

from benchmarks.pytorch import images as torch_images

PIXELS = np.random.default_rng(0).integers(1, 256, (6, 7, 3), np.uint8)


def windows(pixels):
  """Returns all that the augmentation may give, as float32 `[H, W, C]`."""
  pad = torch_images.PAD
  padded = np.pad(pixels, ((pad, pad), (pad, pad), (0, 0)))
  height, width = pixels.shape[:2]
  found = []
  for top in range(2 * pad + 1):
    for left in range(2 * pad + 1):
      cut = padded[top : top + height, left : left + width]
      found += [cut / 127.5 - 1, cut[:, ::-1] / 127.5 - 1]
  return np.stack(found)


def test_an_image_through_pil():
  known = windows(PIXELS)
  random.seed(0)
  seen = set()
  for _ in range(60):
    made = torch_images.picture(PIXELS)
    assert made.dtype == np.float32 and made.shape == (3, 6, 7)
    gaps = np.abs(known - made.transpose(1, 2, 0)).max((1, 2, 3))
    assert gaps.min() < 1e-5
    seen.add(int(gaps.argmin()))
  assert len(seen) > 30 and {i % 2 for i in seen} == {0, 1}


def test_a_batch_on_a_device():
  torch = pytest.importorskip("torch")
  known = windows(PIXELS)
  torch.manual_seed(0)
  batch = np.repeat(PIXELS.transpose(2, 0, 1)[None], 60, 0)
  made = torch_images.augment(torch, torch.from_numpy(batch)).numpy()
  assert made.dtype == np.float32 and made.shape == (60, 3, 6, 7)
  seen = set()
  for image in made.transpose(0, 2, 3, 1):
    gaps = np.abs(known - image).max((1, 2, 3))
    assert gaps.min() < 1e-5
    seen.add(int(gaps.argmin()))
  assert len(seen) > 30 and {i % 2 for i in seen} == {0, 1}


def test_a_data_set():
  torch = pytest.importorskip("torch")
  pixels = np.repeat(PIXELS[None], 3, 0)
  found = torch_images.dataset(torch, pixels, np.array([4, 5, 6]))
  assert len(found) == 3
  image, label = found[1]
  assert image.shape == (3, 6, 7) and label == 5

"""Thousands of small JPEG files in a second: few contents, repeated."""

import io

import numpy as np
from PIL import Image
import toys


def jpegs(label, count=4, seed=0):
  """Returns the bytes of `count` pictures of a class, of several shapes."""
  rng = np.random.default_rng([seed, label])
  result = []
  for i in range(count):
    (pixels,) = toys.pictures([label], seed=seed + i, size=16)
    shape = tuple(int(side) for side in rng.integers(16, 41, 2))
    picture = Image.fromarray(pixels[..., 0]).resize(shape).convert("RGB")
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=95)
    result.append(out.getvalue())
  return result


def write_tree(root, **parts):
  """Writes `root/PART/n0CLASS/IMAGE.JPEG`; parts are counts of the classes."""
  for seed, (part, counts) in enumerate(sorted(parts.items())):
    for label, count in enumerate(counts):
      folder = root / part / f"n0{label}"
      folder.mkdir(parents=True)
      contents = jpegs(label, seed=100 * seed)
      for i in range(count):
        file = folder / f"{i:05}.JPEG"
        file.write_bytes(contents[i % len(contents)])
  return root

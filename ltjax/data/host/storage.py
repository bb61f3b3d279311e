"""Where a run's images are: on the device, or on the host.

A device that holds a set whole is fastest. Larger sets stay on the host, and
`ltjax.training.prefetch` hands the rows of each batch to the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import functools
from typing import cast

import jax
from jax.sharding import Mesh
import numpy as np

from ltjax import require
from ltjax.data.files import decoding as decodings
from ltjax.data.files import images
from ltjax.data.host import host_images, image_files, workers
from ltjax.devices import sharding

PLACES = ("device", "host")
Images = np.ndarray | jax.Array | host_images.HostImages


def reader(
  names: Sequence[str],
  *,
  place: str,
  image_size: int,
  resize: str,
  cache: str,
  processes: int = 0,
  decoding: decodings.Decoding = decodings.DEFAULT,
) -> image_files.Reader | None:
  """Returns what reads picture files batch by batch, if a source needs it.

  It does if it is a list, a table or ArrayRecord files, or a folder that stays
  on the host or is cropped.

  Args:
    names: the sources of the images.
    place: `device` or `host`.
    image_size, resize, cache, processes, decoding: as of `ImageFiles`.

  Raises:
    ValueError: for an unknown choice, pictures without a size, or processes
      without pictures to decode.
  """
  require.choice("data.storage", place, PLACES)
  require.choice("data.resize", resize, images.RESIZES)
  kinds = {name.partition(":")[0] for name in names}
  unread = place == "host" or resize == "crop"
  workers.check(processes)
  files = kinds & {"list", "csv", "arrayrecord"}
  if not files and not (unread and "folder" in kinds):
    if processes:
      raise ValueError(
        f"data.workers is {processes}, but there are no pictures to decode"
        " while training: they are for list:, csv:, arrayrecord: and,"
        " with data.storage 'host', folder:. Set it to 0."
      )
    return None
  if image_size < 1:
    raise ValueError(
      f"data.image_size is {image_size}; pictures of lists, tables and"
      " ArrayRecord files, and of folders that are cropped or stay on the host,"
      " need the pixels to bring them to, such as 256."
    )
  return functools.partial(
    image_files.ImageFiles,
    size=image_size,
    resize=resize,
    cache=cache,
    processes=processes,
    decoding=decoding,
  )


def put(given: Images, place: str, mesh: Mesh) -> jax.Array:
  """Puts images in their place.

  Args:
    given: uint8 `[N, H, W, C]`.
    place: `device` for an array, `host` for `HostImages` that stand in for one.
    mesh: the devices, each of which gets a copy.
  """
  if place == "device":
    return sharding.replicate(np.asarray(given), mesh)
  if not isinstance(given, host_images.HostImages):
    given = host_images.ArrayImages(np.asarray(given))
  return cast(jax.Array, given)


def describe(sets: Mapping[str, Images]) -> str:
  """Returns a line a set: how many images, of what size, where."""
  total = sum(int(np.prod(x.shape, dtype=np.int64)) for x in sets.values())
  on_host = any(isinstance(x, host_images.HostImages) for x in sets.values())
  lines = [
    f"{name + ' images':<22} {len(x):>9,} of"
    f" {' x '.join(map(str, x.shape[1:]))}"
    for name, x in sets.items()
  ]
  where = "on the host" if on_host else "on each device"
  lines.append(f"{'together':<22} {_bytes(total)} {where}, decoded")
  return "\n".join(lines)


def _bytes(count: int) -> str:
  for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
    if count >= size:
      return f"{count / size:.1f} {unit}"
  return f"{count} bytes"

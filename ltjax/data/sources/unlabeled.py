"""External unlabeled images.

    pickle:PATH   a dict with `data` uint8 [M, H, W, C] and, if the images were
                  selected by a classifier, its `extrapolated_targets`: the
                  layout of ti_80M_selected.pickle and
                  ti_500K_pseudo_labeled.pickle (Tiny Images)
    npz:PATH      array x, images or data; optionally y or labels
    folder:PATH   pictures at any depth, resized to the set's images
    list:PATH     a list file of pictures; classes as far as known
    csv:PATH      a table of pictures; classes as far as known
    arrayrecord:PATH  ArrayRecord files; class numbers as far as known
    found         those that came with the labeled set, see `contents`
    svhn_extra    the 531,131 extra images of SVHN, from the data folder
    mat:PATH      a .mat file of SVHN's layout: X and, if known, y

The labels of a pool say which class an image was *selected* for. They serve to
draw an unlabeled set of a wanted profile; training never sees them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib

import numpy as np

from ltjax.data.download import catalogue, prepare
from ltjax.data.files import archives, images, pickles, tree
from ltjax.data.files import decoding as decodings
from ltjax.data.host import host_images, image_files
from ltjax.data.parts import arrays, contents
from ltjax.data.sources import (
  folders,
  lists,
  record_labels,
  svhn,
  tables,
)

_NPZ_KEYS: dict[str, tuple[str, ...]] = {
  "data": ("x", "images", "data"),
  "labels": ("y", "labels"),
}


@dataclasses.dataclass(frozen=True)
class Pool:
  """Unlabeled images in host memory.

  Attributes:
    images: uint8 `[M, H, W, C]`; unread `HostImages` where `pictures` was given
      to `load_pool`.
    labels: int32 `[M]`, the selection truth; -1 where there is none.
    understood: What was passed over in a folder; may be empty.
  """

  images: np.ndarray | host_images.HostImages
  labels: np.ndarray
  understood: str = ""


def load_pool(
  name: str,
  *,
  image_shape: tuple[int, int, int],
  resize: bool = False,
  data_dir: str | None = None,
  root: str = "",
  pictures: image_files.Reader | None = None,
  given: Pool | None = None,
  columns: Mapping[str, str] | None = None,
  class_names: Sequence[str] = (),
  decoding: decodings.Decoding = decodings.DEFAULT,
  broken: str = "error",
) -> Pool:
  """Loads unlabeled images to go with a set.

  Args:
    name: One of the pools in this module's docstring.
    image_shape: `[H, W, C]` of the labeled set. Pictures of a folder are fitted
      to it; arrays must have it.
    resize: Resize arrays too, where the user asked for an image size.
    data_dir: The data folder, of `svhn_extra`.
    root: The folder that the paths in a list file or a table start from.
    pictures: Leaves the pictures of a folder, of a list, of a table or of
      ArrayRecord files unread, to be read by this. The last three need it.
    given: A pool that is no source but arrays at hand, called `name`.
    columns: The names of a table's columns, see `tables`.
    class_names: Of the labeled set; a list or a table may name classes.
    decoding: What becomes of pixels of a folder that are not 8-bit grey or RGB;
      `pictures` have their own.
    broken: What becomes of broken pictures of a folder, see `folders`.

  Raises:
    FileNotFoundError: No such file or folder.
    ValueError: Unknown source, another shape, no images, or a damaged file.
  """
  kind, _, argument = name.partition(":")
  files = ("folder", "list", "csv", "arrayrecord")
  if kind in files[1:] and not pictures:
    raise ValueError(
      f"{name}: set data.image_size, the pixels to bring the pictures to."
    )
  if given is not None:
    pool = given
  elif kind in files and argument and pictures:
    understood = ""
    if kind == "arrayrecord":
      found = record_labels.read_pool(argument, data_dir)
    elif kind == "csv":
      found = tables.read_pool(
        argument, root, columns=columns, class_names=class_names
      )
    elif kind == "list":
      found = lists.read(argument, root, class_names)
      lists.check_exist(found.files, argument)
    else:
      paths, understood = _find(pathlib.Path(argument).expanduser())
      found = contents.Listed(paths, np.full(len(paths), -1, np.int32))
    pool = Pool(pictures(found.files), found.labels, understood)
  else:
    pool = read(
      name,
      picture_shape=image_shape,
      data_dir=data_dir,
      decoding=decoding,
      broken=broken,
    )
  pixels = pool.images
  if resize and isinstance(pixels, np.ndarray):
    pixels = images.resize(pixels, image_shape[:2])
  if pixels.shape[1:] != tuple(image_shape):
    raise ValueError(
      f"{name.partition(':')[2] or name}: images are {pixels.shape[1:]}, those "
      f"of the labeled set {tuple(image_shape)}; they must have one shape. Set "
      "data.image_size to resize both; the number of channels must agree."
    )
  return dataclasses.replace(pool, images=pixels)


def read(
  name: str,
  *,
  picture_shape: tuple[int, int, int],
  data_dir: str | None = None,
  decoding: decodings.Decoding = decodings.DEFAULT,
  broken: str = "error",
) -> Pool:
  """Reads unlabeled images, arrays in the shape they have.

  Args:
    name, data_dir, decoding, broken: As of `load_pool`.
    picture_shape: `[H, W, C]` to fit the pictures of a folder to.

  Raises:
    FileNotFoundError, ValueError: As `load_pool`.
  """
  kind, _, argument = name.partition(":")
  if name == "svhn_extra":
    kind = "mat"
    (file,) = catalogue.MAT_SETS[name][1]
    argument = str(prepare.prepare(name, data_dir) / file)
  if kind not in ("pickle", "npz", "folder", "mat") or not argument:
    raise ValueError(
      f"Unknown pool of unlabeled images {name!r}. Known: pickle:PATH, "
      "npz:PATH, folder:PATH, list:PATH, csv:PATH, arrayrecord:PATH, mat:PATH "
      "and svhn_extra."
    )
  path = pathlib.Path(argument).expanduser()
  if kind == "folder":
    return _read_folder(path, picture_shape, decoding, broken)
  if not path.is_file():
    raise FileNotFoundError(f"{path}: no such file (pool {name!r}).")
  if kind == "mat":
    pixels, labels = svhn.read_mat(path)
    found = {"data": pixels} | ({} if labels is None else {"labels": labels})
  elif kind == "npz":
    found = archives.read_npz(path, _NPZ_KEYS)
  else:
    content = pickles.read_pickle(path)
    found = {"data": content.get("data")}
    if "extrapolated_targets" in content:
      found["labels"] = content["extrapolated_targets"]
  if not isinstance(found.get("data"), np.ndarray):
    raise ValueError(
      f"{path}: no array of images. A pickle needs the key 'data', an npz x, "
      "images or data: uint8 [M, H, W, C]."
    )
  pixels = arrays.check_images(found["data"], f"{path}: images")
  if not len(pixels):
    raise ValueError(f"{path}: the pool has no images.")
  if "labels" not in found:
    return Pool(pixels, np.full(len(pixels), -1, np.int32))
  labels = arrays.check_labels(
    found["labels"], f"{path}: labels", num_images=len(pixels), minimum=-1
  )
  return Pool(pixels, labels)


def _read_folder(
  path: pathlib.Path,
  shape: tuple[int, int, int],
  decoding: decodings.Decoding,
  broken: str,
) -> Pool:
  """Reads pictures at any depth, with the shape of the labeled set."""
  files, understood = _find(path)
  height, width, channels = shape
  mode = "RGB" if channels == 3 else "L"
  found = folders.read_files(
    files,
    lambda image: images.to_array(image.convert(mode), (height, width)),
    decoding=decoding,
    broken=broken,
  )
  return Pool(
    found.pixels,
    np.full(len(found.pixels), -1, np.int32),
    "\n".join([understood, *found.told]),
  )


def _find(path: pathlib.Path) -> tuple[list[pathlib.Path], str]:
  """Returns pictures at any depth, and what is passed over."""
  top, passed = tree.walk(path)
  files, lines = top.all(), passed.lines(path)
  if not files:
    raise ValueError(
      f"{path}: no pictures. Suffixes that count: "
      f"{', '.join(sorted(images.readable()))}."
      + "".join(f"\n{line}" for line in lines)
    )
  return files, "\n".join([f"{path}: {len(files):,} pictures", *lines])

"""Image sets in one .npz file, as `np.savez` writes it.

x        uint8 [N, H, W, C] or [N, H, W]    (or: images)
y        integers [N]                       (or: labels)
x_test, y_test                              optional, an official test part
classes  names, a text array [C]            (or: class_names), optional
groups   integers or texts [N], optional: images of one group stay on one side
         of every split; groups_test, with x_test, is compared with it
"""

from __future__ import annotations

import pathlib

from ltjax.data.files import archives
from ltjax.data.parts import arrays, contents, group_by

_KEYS: dict[str, tuple[str, ...]] = {
  "x": ("x", "images"),
  "y": ("y", "labels"),
  "x_test": ("x_test", "test_images"),
  "y_test": ("y_test", "test_labels"),
  "classes": ("classes", "class_names"),
  "groups": ("groups",),
  "groups_test": ("groups_test",),
}


def read(path: str) -> contents.Read:
  """Reads train part, test part or None, and class names (else the numbers).

  Raises a FileNotFoundError without a file, and a ValueError if an array is
  missing, holds objects, or is not what it should be.
  """
  path = str(pathlib.Path(path).expanduser())
  found = archives.read_npz(path, _KEYS)
  for key in ("x", "y"):
    if key not in found:
      raise ValueError(
        f"{path}: no array {' or '.join(map(repr, _KEYS[key]))}; an npz "
        "set needs images x and labels y."
      )
  if ("x_test" in found) != ("y_test" in found):
    raise ValueError(f"{path}: x_test and y_test must come together.")
  names, count = None, None
  if "classes" in found:
    names = arrays.class_names(found["classes"], f"{path}: classes")
    count = len(names)

  def part(x: str, y: str) -> contents.Part:
    pixels = arrays.check_images(found[x], f"{path}: {x}")
    labels = arrays.check_labels(
      found[y], f"{path}: {y}", num_images=len(pixels), num_classes=count
    )
    return contents.Part(pixels, labels)

  train = part("x", "y")
  test = part("x_test", "y_test") if "x_test" in found else None
  if test and test[0].shape[1:] != train[0].shape[1:]:
    raise ValueError(
      f"{path}: test images are {test[0].shape[1:]}, train images "
      f"{train[0].shape[1:]}; they must have one shape."
    )
  if names is None:
    tops = [y.max(initial=-1) for _, y in (train, test or train)]
    names = tuple(map(str, range(max(tops) + 1)))
  content = contents.Content(train, test, names)
  if "groups" not in found:
    return content
  groups, others = found["groups"], {}
  group_by.check_array(groups, len(train.labels), f"{path}: groups")
  if test and "groups_test" in found:
    of_test = found["groups_test"]
    group_by.check_array(of_test, len(test.labels), f"{path}: groups_test")
    others["test"] = of_test.tolist()
  return group_by.add(
    content, groups.tolist(), others, how="the array groups", where=path
  )

"""Packs the images of CIFAR-10 or CIFAR-100 that some configs need.

    python -m ltjax.pack --config=FILE[:ARGS] ... --out=DIR [--data_dir=DIR]

For a machine without a network and with little room for uploads: of the
training images only those that the configs' splits name (labeled, unlabeled,
validation, probe) go into DIR, and all test images, as lossless WebP, a little
more than half their bytes. There `--data_dir=DIR` stands for the whole set;
another config says which images it lacks. `--config` may be given again and
again, `--split_seeds=0,1` packs other splits of each too. What a config reads
beside its set (pools, index files) is not packed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import hashlib
import importlib.util
import io
import json
import pathlib
import shutil
import sys
import tempfile
from typing import Any

import numpy as np

from ltjax.config import check as config_check
from ltjax.data import task
from ltjax.data.download import catalogue
from ltjax.data.sources import labeled, packed
from ltjax.devices import sharding
from ltjax.methods import build

# WebP has at most 16383 pixels a side: so many images of 32 rows.
_STRIP_PIXELS = 16383
# Of Pillow's effort; more costs 50 times as long for 1 %.
_EFFORT = {"lossless": True, "exact": True, "quality": 75, "method": 4}


def needed(split: task.record.Split) -> np.ndarray:
  """Returns which training images a split names.

  Returns:
    int64 `[P]`, sorted.
  """
  parts = [split.labeled, split.validation, split.probe]
  if split.unlabeled_from == "train":
    parts.append(split.unlabeled)
  return np.unique(np.concatenate(parts))


def write(
  name: str,
  out: pathlib.Path,
  splits: dict[str, task.record.Split],
  *,
  data_dir: str | None = None,
) -> pathlib.Path:
  """Writes a pack, whole or not at all, and reads it back.

  Args:
    name: `cifar10` or `cifar100`.
    out: the data folder that the pack goes to; an older pack is replaced.
    splits: by what they are packed for.
    data_dir: where the set itself lies; not `out`.

  Returns:
    The pack's folder.

  Raises:
    ValueError: if the set cannot be packed, or what was written is not it.
    FileNotFoundError: if the set is missing.
  """
  data = labeled.load(name, data_dir=data_dir)
  if not isinstance(data.train_images, np.ndarray):
    raise ValueError(f"{name} in {data_dir} is itself a pack; use the set.")
  index = np.unique(np.concatenate([needed(s) for s in splits.values()]))
  train_images, test_images = data.train_images[index], data.test_images
  place = catalogue.pack_folder(out, name)
  out.mkdir(parents=True, exist_ok=True)
  beside = pathlib.Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=out))
  try:
    record: dict[str, Any] = {
      "format": packed.FORMAT,
      "set": name,
      "packed_for": list(splits),
      "split_hashes": [split.hash for split in splits.values()],
      "shape": list(data.image_shape),
      "class_names": list(data.class_names),
      "train_labels": data.train_labels.tolist(),
      "test_labels": data.test_labels.tolist(),
      "train": index.tolist(),
      "strips": {
        "train": _write_strips(beside, "train", train_images),
        "test": _write_strips(beside, "test", np.asarray(test_images)),
      },
    }
    record["checksum"] = packed.checksum(record)
    (beside / packed.RECORD).write_text(json.dumps(record))
    found = packed.read(beside)
    assert found.test is not None
    if not (
      np.array_equal(found.train.images[index], train_images)
      and np.array_equal(found.test.images, test_images)
    ):
      raise ValueError(f"{name}: what was packed is not what is read back.")
    shutil.rmtree(place, ignore_errors=True)
    beside.rename(place)
    place.chmod(0o755)  # mkdtemp makes it private
  finally:
    shutil.rmtree(beside, ignore_errors=True)
  return place


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  options = _parser().parse_args(argv)
  try:
    seeds = [int(seed) for seed in options.split_seeds.split(",") if seed]
    found: dict[str, dict[str, task.record.Split]] = {}
    for text in options.config:
      config = _config(text)
      for seed in seeds or [config.data.seed]:
        config.data.seed = seed
        name, split = _split(config, options.data_dir)
        title = f"{text}, split {seed}"
        found.setdefault(name, {})[title] = split
        print(f"{title}: {len(needed(split)):,} training images", flush=True)
    for name, splits in found.items():
      place = write(
        name, pathlib.Path(options.out), splits, data_dir=options.data_dir
      )
      size = sum(path.stat().st_size for path in place.iterdir())
      print(f"{place}: {size / 1e6:.1f} MB")
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  return 0


def _config(text: str) -> Any:
  """Returns the config that `--config=FILE:ARGS` would give."""
  path, _, argument = text.partition(":")
  spec = importlib.util.spec_from_file_location("config_to_pack", path)
  if spec is None or spec.loader is None or not pathlib.Path(path).is_file():
    raise ValueError(f"--config is {text!r}: there is no such Python file.")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(*([argument] if argument else []))
  config_check.check(config)
  return config


def _split(config: Any, data_dir: str | None) -> tuple[str, task.record.Split]:
  """Returns the set that a config draws from, and what it draws."""
  name, unlabeled = config.data.source, config.data.unlabeled
  if name not in catalogue.ARCHIVES:
    raise ValueError(
      f"data.source is {name!r}; packed are {', '.join(catalogue.ARCHIVES)}."
    )
  if unlabeled.irrelevant:
    raise ValueError(
      f"data.unlabeled.irrelevant is {unlabeled.irrelevant!r}: such splits"
      " number the images otherwise; take the whole set along."
    )
  return name, build.build_task(config, sharding.make_mesh(1), data_dir).split


def _write_strips(
  folder: pathlib.Path, part: str, images: np.ndarray
) -> dict[str, str]:
  """Writes images one under the other; returns the checksum of each file."""
  from PIL import Image

  sums = {}
  count, height, width, channels = images.shape
  most = _STRIP_PIXELS // height
  for number, first in enumerate(range(0, count, most)):
    strip = images[first : first + most].reshape(-1, width, channels)
    content = io.BytesIO()
    Image.fromarray(strip).save(content, "WEBP", **_EFFORT)
    name = f"{part}_{number:03}.webp"
    (folder / name).write_bytes(content.getvalue())
    sums[name] = hashlib.sha256(content.getvalue()).hexdigest()
  return sums


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.pack",
    description="Packs the images that configs need, to travel.",
  )
  parser.add_argument(
    "--config", action="append", required=True, help="FILE or FILE:ARGS"
  )
  parser.add_argument("--out", required=True, help="a data folder to be")
  parser.add_argument(
    "--split_seeds", default="", help="of data.seed; those of the configs"
  )
  parser.add_argument(
    "--data_dir", help="data folder; else LTJAX_DATA, else ~/.cache/ltjax/data"
  )
  return parser


if __name__ == "__main__":
  sys.exit(main())

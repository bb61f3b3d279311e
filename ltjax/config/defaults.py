"""Configs: one block of hyper-parameters per stage, and the two presets.

A config file starts from `default(variant)` and changes what it needs. `paper`
follows Section 4.4 of the paper; `author_code` follows the authors' published
code, which differs (see docs/paper_and_code.md).
"""

from __future__ import annotations

from typing import Any

import ml_collections
from ml_collections import config_dict

from ltjax.methods import registry

VARIANTS = registry.VARIANTS


def default(variant: str = "paper") -> ml_collections.ConfigDict:
  """Returns the config that all others start from, of alternate sampling.

  The blocks of stages and methods are those that the methods declare; what a
  method does not read, a run's config.json leaves out.

  Args:
    variant: `paper` or `author_code`.

  Raises:
    ValueError: if the variant is unknown.

  Source: Liu et al., Section 4.4.
  """
  if variant not in VARIANTS:
    raise ValueError(
      f"variant is {variant!r}; choose one of {', '.join(VARIANTS)}."
    )
  config = ml_collections.ConfigDict()
  config.method = "sslt"
  config.variant = variant  # which preset this config started from
  config.seed = 0  # of initialization, index streams and augmentation
  config.seeds = 1  # so many runs, of seeds `seed`, `seed + 1`, ...

  config.data = ml_collections.ConfigDict()
  config.data.source = "digits"
  config.data.seed = 0  # of the split
  config.data.order = "shuffled"  # or "file"
  config.data.groups = ()  # classes in (many, medium, few), by rank
  config.data.group_counts = ()  # or (100, 10): many above, few up to
  config.data.split_file = ""  # a saved split to reproduce
  config.data.image_size = 0  # resize all images to so many pixels; 0: as is
  # The order of the classes: names with commas between them, or a file with a
  # name a line; empty for that of the set.
  config.data.classes = ""
  config.data.root = ""  # folder that paths in lists and tables start from
  # Columns of a table; empty: found by usual names. label: "a,b" for one-hot.
  config.data.columns = ml_collections.ConfigDict(
    {"path": "", "label": "", "split": ""}
  )
  # What keeps images on one side of every split: a table's column, or a pattern
  # on the paths of pictures such as r"patient_(\d+)".
  config.data.group_by = ""
  config.data.resize = "stretch"  # or "crop": how pictures become squares
  config.data.storage = "device"  # or "host", for sets larger than a device
  config.data.cache = ""  # folder for decoded pictures
  config.data.workers = 0  # processes that decode pictures; 0: threads
  config.data.broken = "error"  # or "skip": leaves broken pictures out
  config.data.pixel_range = "auto"  # of more than 8 bits; or "0,4095"
  config.data.background = "white"  # of transparent pixels; "black", "grey"
  config.data.pages = "error"  # or "first", of several pages or frames
  config.data.crop_size = 0  # pixels that the network sees; 0: all
  config.data.augment = "crop_flip"  # or "random_resized_crop"
  config.data.test_fraction = 0.2  # of a set that has no test part
  config.data.pad = 4  # pixels of random cropping
  config.data.pad_mode = "zero"  # or "reflect": what they show
  config.data.flip = "auto"  # horizontal flip: "on", "off", "auto"
  # Test images among those to learn from: "error", "drop", "keep" or "ignore";
  # "auto" is an error, but published sets are taken as they are.
  config.data.copies = "auto"
  config.data.labeled = ml_collections.ConfigDict(
    {
      "profile": "exponential",
      "max_count": 500,
      "rho": 100.0,
      "counts": (),
      "alpha": 6.0,
      "scale": 1000.0,
      "minority_fraction": 0.5,
      "fraction": 1.0,  # of each count: less data of the same profile
      "class_order": (),  # classes by rank, most populated first
      "index_file": "",  # .npy, image numbers: takes the profile's place
    }
  )
  config.data.unlabeled = ml_collections.ConfigDict(
    {
      "source": "train",  # or "svhn_extra", "pickle:PATH", "npz:PATH" ...
      "profile": "same",
      "factor": 5.0,
      "rho": config_dict.placeholder(float),
      "max_count": config_dict.placeholder(int),
      "total": config_dict.placeholder(int),
      "uniform": "per_class",
      "counts": (),
      "relevance": 1.0,  # share of images which have one of the classes
      "irrelevant": "",  # the others: "classes:8,9", "cifar100", "npz:PATH"
    }
  )
  config.data.validation = ml_collections.ConfigDict(
    {"per_class": 0, "index_file": ""}
  )
  config.data.probe = ml_collections.ConfigDict(
    {
      "images": "none",  # or "train": all of them but those for validation
      "per_class": 0,  # of each class; 0: all
      "index_file": "",
    }
  )

  config.update(registry.defaults(variant))
  config.eval = ml_collections.ConfigDict(
    {
      "batch_size": 500,
      "last_k": 3,
      # When a stage is over; "knn,accuracy" asks the nearest images too.
      "evaluators": "accuracy",
      "neighbors": 10,  # of knn
      # Of the images tested, whose logits are averaged: "flip" or "crops".
      "views": "plain",
    }
  )
  config.run = ml_collections.ConfigDict(
    {
      "steps_per_call": 0,  # 0: 1 on a CPU, an epoch on an accelerator
      "checkpoint_every_s": 60.0,
      "keep": 3,
      "memory_limit_gib": 0.0,  # what a device has; 0: what it says
      "rehearse": "auto",  # on accelerators; "always", "never"
    }
  )
  return config


def parse_arg(arg: str | None, **defaults: Any) -> ml_collections.ConfigDict:
  """Returns the arguments of a config file, as in `--config=FILE:rho=1000`.

  Args:
    arg: `name=value` pairs joined by commas, or nothing.
    **defaults: the known names with their defaults, which give the types.

  Raises:
    ValueError: for an unknown name or a value of another type.
  """
  values = dict(defaults)
  for part in filter(None, (arg or "").split(",")):
    name, equals, text = part.partition("=")
    if name not in defaults or not equals:
      raise ValueError(
        f"The config argument {part!r} is unknown; known are"
        f" {', '.join(f'{k}={v}' for k, v in defaults.items())}."
      )
    kind = type(defaults[name])
    try:
      values[name] = kind(text)
    except ValueError as error:
      raise ValueError(
        f"The config argument {name} is {text!r}; it must be a {kind.__name__}."
      ) from error
  return ml_collections.ConfigDict(values)

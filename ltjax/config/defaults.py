"""Configs: one block of hyper-parameters per stage, and the two presets.

A config file starts from `sslt(variant)` and changes what it needs. `paper`
follows Section 4.4 of the paper; `author_code` follows the authors' published
code, which differs (see docs/paper_and_code.md).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import ml_collections
from ml_collections import config_dict

from ltjax.config import blocks
from ltjax.losses import settings as loss_settings

VARIANTS = ("paper", "author_code")


def sslt(variant: str = "paper") -> ml_collections.ConfigDict:
  """Returns the config of alternate sampling.

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
  author = variant == "author_code"
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
  config.data.root = ""  # folder that the paths in list files start from
  config.data.resize = "stretch"  # or "crop": how pictures become squares
  config.data.storage = "device"  # or "host", for sets larger than a device
  config.data.cache = ""  # folder for decoded pictures
  config.data.workers = 0  # processes that decode pictures; 0: threads
  config.data.crop_size = 0  # pixels that the network sees; 0: all
  config.data.augment = "crop_flip"  # or "random_resized_crop"
  config.data.test_fraction = 0.2  # of a set that has no test part
  config.data.pad = 4  # pixels of random cropping
  config.data.flip = "auto"  # horizontal flip: "on", "off", "auto"
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

  config.model = ml_collections.ConfigDict(
    {
      "name": "resnet18",
      "head": "linear",
      "head_scale": 16.0,  # of a cosine head
      "stem": "auto",
      "zero_init_last": False,
      "dtype": "float32",
    }
  )

  config.loss = ml_collections.ConfigDict(
    dataclasses.asdict(loss_settings.Settings())
  )
  config.sampler = ml_collections.ConfigDict(
    {
      "name": "random",
      "exponent": 1.0,  # of "power"
      "beta": 0.9999,  # of "effective_number"
      "defer": 0.0,  # DRS: share of the epochs before it begins
    }
  )
  config.pretrain = blocks.pretrain()
  config.prototypes = blocks.prototypes()
  config.student = blocks.student()
  config.embedding = blocks.recipe(epochs=200)
  config.classifier = blocks.recipe(epochs=20 if author else 10)
  config.classifier.update(
    {
      # Steps at least, by more epochs than `epochs` where these have fewer; 0:
      # none. In the paper 10 epochs are some 960 steps, of 12,406 images.
      "min_steps": 0,
      "kind": "crt",  # "ncm", "tau_norm", "lws"
      "views": 10,
      "batch_norm": "frozen",  # or "update", with `views` of 1
      "sampler": "class_balanced",
      # "logit_adjustment" or "class_balanced", with the sampler "random"
      "loss": "cross_entropy",
      "max_norm": 0.0,  # bound of the vectors' lengths, 0: none
      "tau": 1.0,
      "select_tau": False,  # on the validation images
      "ncm_features": "cl2n",  # or "l2", "plain", "cosine"
    }
  )
  config.pseudo = blocks.recipe(epochs=200)
  config.pseudo.update(
    {
      "base": "supervised",  # or "decoupling"
      "start": "scratch",  # or "base"
      "omega": 1.0,  # weight of pseudo labels
      "reduction": "examples",  # or "parts": L(D_L) + omega L(D_U), of means
    }
  )
  config.semi = blocks.recipe(epochs=200)
  config.semi.update(
    {
      "weight": config_dict.placeholder(float),  # None: the method's own
      "rampup": 0.4,  # share of the stage; USB's length, Laine & Aila's shape
      "unlabeled_ratio": 1,  # unlabeled images to a labeled one, in a batch
      "ema": 0.999,  # of the teacher, as its authors'
      "teacher_batch_norm": "batch",  # or "ema": of the student's statistics
      "alpha": 0.6,  # of temporal ensembling, as its authors'
      "epsilon": 6.0,  # of VAT, as USB's
      "xi": 0.1,  # of VAT; for a bf16 model 1.0
      "iterations": 1,  # of VAT's power method
    }
  )

  config.loops = 5
  config.shared_head = author
  config.pseudo_label = ml_collections.ConfigDict(
    {"transform": "train" if author else "test"}
  )
  config.consistency = blocks.recipe(epochs=50 if author else 40)
  config.consistency.weight = 1.0  # lambda
  config.consistency.memory_reset = "uniform" if author else "keep"
  config.consistency.sampler = "random"
  config.consistency.data = "all"
  config.consistency.schedule_over = "loop"  # or "run": all loops at once
  config.refit = blocks.recipe(epochs=20 if author else 10)
  config.refit.min_steps = 0  # as of `classifier`
  config.refit.views = 10
  config.refit.sampler = "class_balanced"
  config.refit.loss = "cross_entropy"  # as of `classifier`
  config.refit.max_norm = 0.0
  config.refit.data = "labeled"
  config.refit.batch_norm = "frozen"  # or "update", with `views` of 1
  if author:
    config.consistency.learning_rate = 0.01
    config.consistency.schedule = "step"
    config.consistency.milestones = (0.8,)
    config.consistency.nesterov = True
    config.refit.learning_rate = 0.001
    config.refit.schedule = "constant"

  config.posthoc = ml_collections.ConfigDict(
    {
      "name": "none",  # "logit_adjustment", "threshold_moving", "tau_norm"
      "tau": 1.0,
      "select": False,  # tau on the validation images
      "costs": (),
    }
  )
  config.probe = blocks.probe()
  config.eval = ml_collections.ConfigDict({"batch_size": 500, "last_k": 3})
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

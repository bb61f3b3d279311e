"""Configs: one block of hyper-parameters per stage, and the two presets.

A config file starts from `sslt(variant)` and changes what it needs. `paper`
follows Section 4.4 of the paper; `author_code` follows the authors' published
code, which differs (see docs/paper_and_code.md).
"""

from __future__ import annotations

from collections.abc import Mapping
import difflib
from typing import Any

import ml_collections
from ml_collections import config_dict

VARIANTS = ("paper", "author_code")
# Checked here, as they are used late or by others.
_LEAST = {
  "seed": 0,
  "data.seed": 0,
  "eval.last_k": 1,
  "run.keep": 2,
  "run.steps_per_call": 0,
}


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

  config.data = ml_collections.ConfigDict()
  config.data.source = "digits"
  config.data.seed = 0  # of the split
  config.data.order = "shuffled"  # or "file"
  config.data.groups = ()  # classes in (many, medium, few), by rank
  config.data.split_file = ""  # a saved split to reproduce
  config.data.image_size = 0  # resize a folder's images to so many pixels
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
      "fraction": 1.0,
    }
  )
  config.data.unlabeled = ml_collections.ConfigDict(
    {
      "source": "train",  # or "pickle:PATH", "npz:PATH", "folder:PATH"
      "profile": "same",
      "factor": 5.0,
      "rho": config_dict.placeholder(float),
      "max_count": config_dict.placeholder(int),
      "total": config_dict.placeholder(int),
      "uniform": "per_class",
      "counts": (),
    }
  )
  config.data.validation = ml_collections.ConfigDict({"per_class": 0})

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

  config.embedding = _recipe(epochs=200)
  config.classifier = _recipe(epochs=20 if author else 10)
  config.classifier.views = 10

  config.loops = 5
  config.shared_head = author
  config.pseudo_label = ml_collections.ConfigDict(
    {"transform": "train" if author else "test"}
  )
  config.consistency = _recipe(epochs=50 if author else 40)
  config.consistency.weight = 1.0  # lambda
  config.consistency.memory_reset = "uniform" if author else "keep"
  config.consistency.sampler = "random"
  config.consistency.data = "all"
  config.refit = _recipe(epochs=20 if author else 10)
  config.refit.views = 10
  config.refit.sampler = "class_balanced"
  config.refit.data = "labeled"
  if author:
    config.consistency.learning_rate = 0.01
    config.consistency.schedule = "step"
    config.consistency.milestones = (0.8,)
    config.consistency.nesterov = True
    config.refit.learning_rate = 0.001
    config.refit.schedule = "constant"

  config.eval = ml_collections.ConfigDict({"batch_size": 500, "last_k": 3})
  config.run = ml_collections.ConfigDict(
    {
      "steps_per_call": 0,  # 0: 1 on a CPU, an epoch on an accelerator
      "checkpoint_every_s": 60.0,
      "keep": 3,
    }
  )
  return config


def _recipe(*, epochs: int) -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    {
      "epochs": epochs,
      "batch_size": 128,
      "learning_rate": 0.1,
      "schedule": "cosine",
      "milestones": (),
      "factor": 0.1,
      "momentum": 0.9,
      "nesterov": False,
      "weight_decay": 5e-4,
    }
  )


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


def check(config: Mapping[str, Any] | ml_collections.ConfigDict) -> None:
  """Checks that a config has the known fields, with values of their types.

  Args:
    config: as a config file returned it.

  Raises:
    ValueError: names the field, and the known one nearest to it.
  """
  if not isinstance(config, Mapping | ml_collections.ConfigDict):
    raise ValueError(
      f"The config is {config!r}; get_config() must return the ConfigDict of"
      " ltjax.config.sslt()."
    )
  _check(config, sslt(), "")
  for name, least in _LEAST.items():
    value: Any = config
    for part in name.split("."):
      value = value[part]
    if value < least:
      raise ValueError(f"{name} is {value}; it must be {least} or more.")


def _check(given: Any, known: Any, prefix: str) -> None:
  for name in given:
    if name not in known:
      close = difflib.get_close_matches(str(name), list(known), 1)
      hint = f" Did you mean {prefix}{close[0]}?" if close else ""
      raise ValueError(f"Unknown config field {prefix}{name}.{hint}")
  for name in known:
    if name not in given:
      raise ValueError(
        f"The config field {prefix}{name} is missing; start the config file"
        " from ltjax.config.sslt()."
      )
    value, default = given[name], known[name]
    if isinstance(default, ml_collections.ConfigDict):
      if not isinstance(value, Mapping | ml_collections.ConfigDict):
        raise ValueError(f"The config field {prefix}{name} must be a block.")
      _check(value, default, f"{prefix}{name}.")
    elif default is None:
      if value is not None and not _is_number(value):
        raise ValueError(f"{prefix}{name} is {value!r}; it must be a number.")
    elif not _same_kind(value, default):
      raise ValueError(
        f"{prefix}{name} is {value!r}; it must be of type"
        f" {type(default).__name__}."
      )
    values = value if isinstance(value, tuple | list) else (value,)
    for entry in values:
      if isinstance(value, tuple | list) and not _is_number(entry):
        raise ValueError(
          f"{prefix}{name} is {value!r}; it must hold numbers only."
        )
      if _is_number(entry) and not abs(entry) <= 2**53:
        raise ValueError(
          f"{prefix}{name} is {value!r}; it must be finite and at most 2 ** 53."
        )


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _same_kind(value: Any, default: Any) -> bool:
  if isinstance(default, bool) or isinstance(value, bool):
    return isinstance(default, bool) and isinstance(value, bool)
  if isinstance(default, float):
    return isinstance(value, int | float)
  if isinstance(default, tuple):
    return isinstance(value, tuple | list)
  return isinstance(value, type(default))

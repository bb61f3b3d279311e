"""Features of class names by a text tower, for `start.head=FILE.npy`.

    python -m ltjax.models.text_features --names=cat,dog,... \
      --model=hf:openai/clip-vit-base-patch16 --out=names.npy

Names come in the order of the classes, joined by commas or a line each in a
file. Each is put into every template; features are brought to length 1,
averaged over templates, and brought to length 1 again. The tower is one of the
package transformers (`pip install 'ltjax[text]'`), by its name on the Hugging
Face hub or from a folder; it must be that of the images' network.

Source: Radford et al. (2021), "Learning transferable visual models from natural
  language supervision" (CLIP), Section 3.1.4.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import importlib
import pathlib
import sys
from typing import Any

import numpy as np

TEMPLATE = "a photo of a {}."
_BATCH = 256

# `texts -> [N, P]`.
Encode = Callable[[list[str]], np.ndarray]


def of_names(
  names: Sequence[str], encode: Encode, templates: Sequence[str] = (TEMPLATE,)
) -> np.ndarray:
  """Returns the features of names, of length 1, float32 `[C, P]`.

  Args:
    names: of the classes; underscores become spaces.
    encode: the text tower.
    templates: texts with `{}` for the name.

  Raises:
    ValueError: if a name is empty or there twice, or a template has no `{}`.
  """
  cleaned = [name.replace("_", " ").strip() for name in names]
  if not cleaned or not all(cleaned):
    raise ValueError("names holds an empty one, or none; give a name a class.")
  twice = {name for name in cleaned if cleaned.count(name) > 1}
  if twice:
    raise ValueError(
      f"names holds {sorted(twice)[0]!r} twice; each class needs its own."
    )
  for template in templates:
    if template.count("{}") != 1:
      raise ValueError(
        f"The template {template!r} must have {{}} once, for the name."
      )
  total = np.zeros((), np.float64)
  for template in templates:
    texts = [template.replace("{}", name) for name in cleaned]
    found = [
      np.asarray(encode(texts[first : first + _BATCH]), np.float64)
      for first in range(0, len(texts), _BATCH)
    ]
    total = total + _unit(np.concatenate(found))
  return _unit(total).astype(np.float32)


def encoder(model: str) -> Encode:
  """Returns the text tower of a published model.

  Args:
    model: `hf:OWNER/NAME`, or a folder.

  Raises:
    ValueError: if packages or the model are missing; says how to get them.
  """
  try:
    torch = importlib.import_module("torch")
    transformers = importlib.import_module("transformers")
  except ImportError as error:
    raise ValueError(
      f"The text tower needs the package {error.name}: pip install"
      " 'ltjax[text]'. Or compute the features elsewhere, and save them by"
      " numpy.save, a row a class."
    ) from None
  place = model.removeprefix("hf:")
  try:
    tower = transformers.AutoModel.from_pretrained(place).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    length = int(tower.config.text_config.max_position_embeddings)
    encode = tower.get_text_features
  except Exception as error:  # Many kinds, by version and by fault.
    raise ValueError(
      f"--model={model} gives no text tower ({type(error).__name__}: {error})."
      " It is hf:OWNER/NAME of a CLIP or SigLIP, such as"
      " hf:openai/clip-vit-base-patch16, or a folder with all its files."
      " Without a network, fetch these elsewhere (hf download OWNER/NAME"
      " --local-dir DIR) and give --model=DIR."
    ) from None

  def run(texts: list[str]) -> np.ndarray:
    # SigLIP was trained on texts of full length, and CLIP reads no padding.
    tokens: Any = tokenizer(
      texts,
      padding="max_length",
      max_length=length,
      truncation=True,
      return_tensors="pt",
    )
    with torch.no_grad():
      found = encode(**tokens)
    # transformers 5 returns the features among others.
    return getattr(found, "pooler_output", found).float().numpy()

  return run


def read_names(given: str) -> list[str]:
  """Returns names from a file, a line each, or joined by commas.

  Args:
    given: a path, or the names.
  """
  path = pathlib.Path(given)
  if path.is_file():
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip()]
  return given.split(",")


def _unit(x: np.ndarray) -> np.ndarray:
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.models.text_features",
    description="Writes features of class names, for start.head.",
  )
  parser.add_argument(
    "--names", required=True, help="joined by commas, or a file of lines"
  )
  parser.add_argument(
    "--model", required=True, help="hf:OWNER/NAME, or a folder"
  )
  parser.add_argument("--out", required=True, help="the .npy file to write")
  parser.add_argument(
    "--template",
    action="append",
    help=f"again for more; {TEMPLATE!r} if there is none",
  )
  options = parser.parse_args(argv)
  try:
    out = pathlib.Path(options.out)
    if out.suffix != ".npy":
      raise ValueError(f"--out is {options.out}; it must end in .npy.")
    found = of_names(
      read_names(options.names),
      encoder(options.model),
      tuple(options.template or (TEMPLATE,)),
    )
    np.save(out, found)
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  print(f"{out}: {len(found)} classes, {found.shape[1]} numbers each.")
  return 0


if __name__ == "__main__":
  sys.exit(main())

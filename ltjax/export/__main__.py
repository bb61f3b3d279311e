"""`python -m ltjax.export --workdir=DIR --to=onnx --out=FOLDER`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import json
from pathlib import Path
import sys
from typing import Any

from ltjax.export import card, program, state_dict
from ltjax.runs import workdir as workdirs

FORMATS = tuple(card.LOADING)


def export(
  shipped: program.Shipped,
  workdir: str | Path,
  out: str | Path,
  formats: Sequence[str],
) -> list[Path]:
  """Writes a model, `labels.json` and `MODEL_CARD.md` into a folder.

  Args:
    shipped: what to export.
    workdir: of its run, for the card.
    out: the folder; made, if it is not there.
    formats: among `FORMATS`.

  Returns:
    The models' files, or the folder of a SavedModel.

  Raises:
    ValueError: if a format is unknown, its package is not installed, it cannot
      hold the model, or the file is there already.
  """
  folder, files = Path(out), {}
  for name in formats:
    if name not in FORMATS:
      raise ValueError(
        f"--to is {name!r}; choose among {', '.join(FORMATS)}, with commas"
        " between several."
      )
    suffix = {"pytorch-state": ".safetensors", "savedmodel": ""}
    files[name] = folder / f"model{suffix.get(name, f'.{name}')}"
  for path in files.values():
    if path.exists():
      raise ValueError(
        f"{path} is there already; name another folder by --out, or remove it."
      )
  folder.mkdir(parents=True, exist_ok=True)
  for name, path in files.items():
    if name == "stablehlo":
      path.write_bytes(program.stablehlo(shipped))
    elif name == "onnx":
      program.onnx(shipped, path)
    elif name == "savedmodel":
      program.savedmodel(shipped, path)
    else:
      state_dict.write(state_dict.tensors(shipped.trained, shipped.head), path)
  workdirs.write_json(folder / "labels.json", _labels(shipped))
  known = Path(workdir)
  summary = json.loads((known / "summary.json").read_text())
  sessions = json.loads((known / "environment.json").read_text())["sessions"]
  text = card.text(shipped, summary, sessions[-1], list(files))
  (folder / "MODEL_CARD.md").write_text(text, encoding="utf-8")
  return list(files.values())


def _labels(shipped: program.Shipped) -> dict[str, Any]:
  given = shipped.trained
  fitted = shipped.calibrated
  return {
    "classes": list(given.classes),
    "picture": {"size": list(shipped.shape), "resize": given.resize},
    "mean": given.description["mean"],
    "std": given.description["std"],
    "views": given.views.name,
    "calibration": None
    if fitted is None
    else {
      "kind": fitted.kind,
      "temperature": fitted.temperature,
      "bias": list(fitted.bias),
    },
    "prior": list(shipped.target) or None,
  }


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.export",
    description="Writes the model of a finished run for use without ltjax.",
  )
  parser.add_argument("--workdir", required=True, help="of the run")
  parser.add_argument(
    "--to", required=True, help=f"of {', '.join(FORMATS)}; several by commas"
  )
  parser.add_argument("--out", default="", help="folder; WORKDIR/export if not")
  parser.add_argument(
    "--head", choices=("balanced", "random"), default="balanced"
  )
  parser.add_argument(
    "--calibrated", action="store_true", help="as of ltjax.predict"
  )
  parser.add_argument(
    "--prior",
    default="",
    metavar="uniform|FILE",
    help="shares of the classes where it is used, as of ltjax.predict",
  )
  parser.add_argument(
    "--source", choices=("uniform", "labeled"), default="", help="likewise"
  )
  options = parser.parse_args(argv)
  try:
    shipped = program.of_run(
      options.workdir,
      head=options.head,
      calibrated=options.calibrated,
      shares=options.prior,
      source=options.source,
    )
    out = options.out or Path(options.workdir) / "export"
    files = export(shipped, options.workdir, out, options.to.split(","))
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  for path in files:
    print(path)
  print(Path(out) / "MODEL_CARD.md")
  return 0


if __name__ == "__main__":
  sys.exit(main())

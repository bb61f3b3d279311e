"""Classifies pictures: `python -m ltjax.predict --workdir=DIR IMAGES...`.

Pictures of any size and kind are brought to the channels and the size that the
network was trained on. One that cannot be read is reported and passed over;
the others are classified all the same, and the exit code says 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
import json
import math
import os
from pathlib import Path
import sys
from typing import Any

import numpy as np
from scipy import special

from ltjax import require
from ltjax.devices import compilation
from ltjax.report import predictions
from ltjax.report.predictions import Record
from ltjax.runs import finished, pictures
from ltjax.runs import trained as trained_lib
from ltjax.trust import calibration, conformal, decided_run, prior, scores


def predict(
  trained: trained_lib.Trained,
  files: Sequence[Path],
  *,
  head: str = "balanced",
  top: int = 1,
  batch_size: int = pictures.BATCH_SIZE,
  change: Callable[[np.ndarray], np.ndarray] | None = None,
  told: Mapping[str, Any] | None = None,
  unknown_below: float = 0.0,
  with_scores: bool = False,
  limits: np.ndarray | None = None,
  decide: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Iterator[Record]:
  """Classifies pictures, a batch at a time.

  Args:
    trained: the model.
    files: the pictures.
    head: `balanced` for g, `random` for g'.
    top: how many of the most probable classes to tell.
    batch_size: pictures in memory at a time.
    change: from the network's probabilities, `[B, C]`, to those to tell, such
      as a calibration; None to leave them.
    told: what to write into each record of it.
    unknown_below: a picture whose most probable class has less is `unknown`,
      with the label -1; in [0, 1].
    with_scores: whether to tell `energy` and `max_logit`, see `trust.scores`.
    limits: `[C]` of `conformal.thresholds`, to tell the `set` of classes that
      fit; of the network's probabilities, whatever `change` is.
    decide: from the probabilities to tell, `[B, C]`, to the classes to name,
      `[B]`; None for the most probable ones.

  Yields:
    In the order of `files`: `image`, and `class`, `label`, `probability` of the
    most probable class, and with `top` above 1 a list `top` of those of as many
    classes; or `image` and `error`.

  Raises:
    ValueError: if `top` is not between 1 and the number of classes, or
      `unknown_below` is out of range.
  """
  num_classes = len(trained.classes)
  if not 1 <= top <= num_classes:
    raise ValueError(
      f"--top is {top}; the model has {num_classes} classes, so choose 1 to"
      f" {num_classes}."
    )
  require.within("--unknown_below", unknown_below, "[0, 1]")
  run = trained.predictor(head, logits=with_scores)
  for chunk, batch, errors in pictures.batches(trained, files, batch_size):
    found = run(batch)
    columns = {}
    if with_scores:
      columns["energy"] = scores.energy(found)
      columns["max_logit"] = scores.max_logit(found)
      found = special.softmax(found, axis=1)
    fits = None if limits is None else conformal.sets(found, limits)
    probabilities = found if change is None else change(found)
    rank = probabilities.copy()
    if decide is not None:
      rank[np.arange(len(rank)), decide(probabilities)] = np.inf
    for i, path in enumerate(chunk):
      if i in errors:
        yield {"image": str(path), "error": errors[i]}
        continue
      order = np.argsort(-rank[i], kind="stable")[:top]
      best = [_named(trained, label, probabilities[i]) for label in order]
      more: Record = {"top": best} if top > 1 else {}
      first = best[0]
      if first["probability"] < unknown_below:
        first = {**first, "class": predictions.UNKNOWN, "label": -1}
      more |= {name: round(float(x[i]), 4) for name, x in columns.items()}
      if fits is not None:
        more["set"] = [trained.classes[c] for c in np.flatnonzero(fits[i])]
      yield {"image": str(path), **first, **more, **(told or {})}


def set_limits(
  workdir: str | Path,
  alpha: float,
  *,
  head: str = "balanced",
  data_dir: str | None = None,
) -> np.ndarray:
  """Returns the limits of conformal sets, from a run's validation images.

  Args:
    workdir: of the run; its data must be there.
    alpha: how often the true class may be missing, in (0, 1).
    head: `balanced` for g, `random` for g'.
    data_dir: where data sets live; None for the default.

  Raises:
    FileNotFoundError, ValueError: as `finished.reopen`, and if there are no
      validation images, or alpha is out of range.
  """
  require.within("--sets", alpha, "(0, 1)", "such as 0.1")
  run = finished.reopen(workdir, data_dir)
  found, labels = run.probabilities("validation", head=head)
  return conformal.thresholds(found, labels, alpha=alpha)


def reading(
  trained: trained_lib.Trained,
  workdir: str | Path,
  files: Sequence[Path],
  *,
  head: str = "balanced",
  calibrated: bool = False,
  shares: str = "",
  source: str = "",
) -> tuple[Callable[[np.ndarray], np.ndarray] | None, Record]:
  """Returns how to read the network's probabilities, and what to tell of it.

  Args:
    trained: the model.
    workdir: of its run.
    files: the pictures, of which `estimated` takes the shares.
    head: `balanced` for g, `random` for g'.
    calibrated: whether to use the run's calibration.
    shares: of the classes, to have probabilities for: `uniform`, `estimated`
      by EM, or a file, see `prior.read`; "" for as they are.
    source: shares that uncalibrated probabilities belong to: `uniform`, or
      `labeled` for those of the labeled images; "" where they are calibrated.

  Returns:
    `change` and `told` of `predict`.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if there is no calibration, the shares of the source are not
      known, or a file is wrong.
  """
  fitted, told = None, {}
  if calibrated:
    fitted = calibration.load(workdir, head)
    told["calibrated"] = fitted.kind
  if not shares:
    return (None if fitted is None else fitted.apply), told
  told["prior"] = shares
  num_classes = len(trained.classes)
  start = prior.source_shares(
    workdir, source, fitted, num_classes, asked=shares
  )

  def before(found: np.ndarray) -> np.ndarray:
    return found if fitted is None else fitted.apply(found)

  if shares == "uniform":
    target = np.full(num_classes, 1 / num_classes)
  elif shares == "estimated":
    run, found = trained.predictor(head), []
    for _, batch, errors in pictures.batches(
      trained, files, pictures.BATCH_SIZE
    ):
      kept = [i for i in range(len(batch)) if i not in errors]
      found.append(run(batch)[kept])
    pool = np.concatenate([*found, np.zeros((0, num_classes))])
    target = start if not len(pool) else prior.em(before(pool), source=start)
    told["shares"] = [round(float(x), 6) for x in target]
  else:
    target = prior.read(shares, trained.classes)
  return (
    lambda found: prior.correct(before(found), source=start, target=target)
  ), told


def _named(
  trained: trained_lib.Trained, label: int, probabilities: np.ndarray
) -> Record:
  return {
    "class": trained.classes[label],
    "label": int(label),
    "probability": round(float(probabilities[label]), 6),
  }


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.predict",
    description="Classifies pictures with the model of a finished run.",
  )
  parser.add_argument("--workdir", required=True, help="folder of the run")
  parser.add_argument(
    "--head",
    choices=tuple(trained_lib.HEADS),
    default="balanced",
    help="balanced: g, the class-balanced one (default); random: g'",
  )
  parser.add_argument(
    "--calibrated",
    action="store_true",
    help="with the calibration of `ltjax.evaluate --calibrate`",
  )
  parser.add_argument(
    "--decided",
    action="store_true",
    help="name the class by the rule of `ltjax.evaluate --decide`",
  )
  parser.add_argument(
    "--prior",
    default="",
    metavar="uniform|estimated|FILE",
    help="shares of the classes where it is used; a file has a name and a share"
    " a line",
  )
  parser.add_argument(
    "--source",
    choices=("uniform", "labeled"),
    default="",
    help="with --prior: shares that uncalibrated probabilities belong to",
  )
  parser.add_argument(
    "--unknown_below",
    type=float,
    default=0.0,
    metavar="P",
    help="call a picture unknown whose most probable class has less than P",
  )
  parser.add_argument(
    "--scores",
    action="store_true",
    help="tell energy and max_logit, low where a picture is of no class",
  )
  parser.add_argument(
    "--sets",
    type=float,
    metavar="ALPHA",
    help="tell all classes that fit; the true one is missing in ALPHA of the"
    " pictures of each class",
  )
  parser.add_argument(
    "--data_dir", help="with --sets: data sets; else LTJAX_DATA, else a cache"
  )
  parser.add_argument(
    "--top", type=int, default=1, help="classes a picture, most probable first"
  )
  parser.add_argument("--format", choices=("table", "jsonl"), default="table")
  parser.add_argument(
    "--out",
    type=Path,
    metavar="FILE",
    help="write FILE.csv, .jsonl or .parquet and print nothing",
  )
  parser.add_argument(
    "--sort_into",
    type=Path,
    metavar="FOLDER",
    help="copy the pictures into a folder for each class",
  )
  parser.add_argument(
    "images", nargs="+", metavar="IMAGES", help="pictures, and folders of them"
  )
  compilation.add_flag(parser)
  options = parser.parse_args(argv)
  compilation.enable(options.compilation_cache)
  table = options.format == "table"
  bad = 0

  def tell(line: str) -> None:
    text = f"note: {line}" if table else json.dumps({"note": line})
    print(predictions.shown(text), file=sys.stderr)

  try:
    if options.out:
      predictions.check_format(options.out)
    files = pictures.find(options.images, tell)
    trained = trained_lib.load(options.workdir)
    change, told = reading(
      trained,
      options.workdir,
      files,
      head=options.head,
      calibrated=options.calibrated,
      shares=options.prior,
      source=options.source,
    )
    rule = None
    if options.decided:
      rule = decided_run.load(
        options.workdir, options.head, calibrated=options.calibrated
      )
      told["decided"] = rule.kind
    limits = None
    if options.sets is not None:
      limits = set_limits(
        options.workdir,
        options.sets,
        head=options.head,
        data_dir=options.data_dir,
      )
      every = conformal.always(limits, trained.classes)
      if every:
        need = math.ceil(round(1 / options.sets - 1, 9))
        tell(
          f"with fewer than {need} validation images, {len(every)}"
          f" classes are in every set: {', '.join(every)}."
        )
    records = predict(
      trained,
      files,
      head=options.head,
      top=options.top,
      change=change,
      told=told,
      unknown_below=options.unknown_below,
      with_scores=options.scores,
      limits=limits,
      decide=rule.decide if rule else None,
    )
    columns = ("energy", "max_logit") if options.scores else ()
    columns += () if limits is None else ("set",)
    layout = predictions.Table(files, trained.classes, options.top, columns)
    written: list[Record] = []
    for number, row in enumerate(records):
      if options.out:
        written.append(row)
      elif table and number == 0:
        print(layout.header())
      if "error" not in row:
        if options.sort_into:
          predictions.sort_into(options.sort_into, row)
        if not options.out:
          print(layout.line(row) if table else json.dumps(row))
        continue
      bad += 1
      sys.stdout.flush()
      text = f"error: {row['error']}" if table else json.dumps(row)
      print(predictions.shown(text), file=sys.stderr)
    if options.out:
      predictions.write(options.out, written)
    sys.stdout.flush()
  except BrokenPipeError:  # such as of `| head`: nobody reads on
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13  # as of a process that SIGPIPE ends
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  if bad:
    print(
      f"error: {bad} of {len(files)} pictures could not be read.",
      file=sys.stderr,
    )
  return 1 if bad else 0


if __name__ == "__main__":
  sys.exit(main())

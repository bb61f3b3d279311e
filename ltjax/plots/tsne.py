"""Draws what networks see as a map: `python -m ltjax.plots.tsne WORKDIR...`.

The embeddings of a finished run's labeled training images and of its test
images, projected to the plane by one t-SNE, as in figures 1 and 4 of Yang and
Xu (2020): a test image lies among the training images that the network takes it
for. Several runs stand side by side, each with a projection of its own.
Distances between groups, their sizes and the axes mean nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
import sys

import jax
import numpy as np

from ltjax import require
from ltjax.plots import embeddings as maps
from ltjax.runs import finished
from ltjax.training import inference

IMAGES = 1000
PERPLEXITY = 30.0


def embed(
  features: np.ndarray, *, perplexity: float = PERPLEXITY, seed: int = 0
) -> np.ndarray:
  """Projects features to the plane by t-SNE, starting from their PCA.

  Args:
    features: float `[N, D]`, to float32 `[N, 2]`.
    perplexity: about the number of neighbours that each point keeps, above 0
      and below N, else a ValueError.
    seed: of the projection.
  """
  from sklearn import manifold

  require.within("--perplexity", perplexity, "(0, inf]")
  if len(features) <= perplexity:
    raise ValueError(
      f"{len(features)} images are too few for t-SNE with perplexity"
      f" {perplexity:g}, which needs more than that; choose a smaller"
      " --perplexity, or more --images."
    )
  tsne = manifold.TSNE(
    perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed
  )
  return tsne.fit_transform(np.asarray(features, np.float32))


def project(
  workdir: str | Path,
  *,
  title: str = "",
  classes: Sequence[int] = (),
  images: int = IMAGES,
  perplexity: float = PERPLEXITY,
  seed: int = 0,
  data_dir: str | None = None,
) -> maps.Map:
  """Maps the training and test images of a finished run.

  Args:
    workdir: the run's folder.
    title: of the panels; the folder's name if empty.
    classes: those to map; all if empty.
    images: the most to draw of each of the two sets.
    perplexity: see `embed`.
    seed: of the draw and the projection.
    data_dir: where data sets live; None for the default.

  Raises:
    FileNotFoundError: if there is no run, or its data is gone.
    ValueError: if the run is not finished or its files do not belong together,
      there are too few images, or a class is there twice or not at all.
  """
  run = finished.reopen(workdir, data_dir)
  task = run.task
  kept = tuple(classes) or tuple(range(task.num_classes))
  maps.check_classes(kept, task.num_classes)
  sets = {
    "train": (task.images[: task.num_labeled], np.asarray(task.labels)),
    "test": (task.test_images, np.asarray(task.test_labels)),
  }
  transform = run.trained.transform
  predictor = inference.Predictor(
    run.trained.model,
    test_transform=transform,
    train_transform=lambda key, batch: transform(batch),
    batch_size=run.config.eval.batch_size,
    mesh=run.mesh,
  )
  state = run.state()
  features, labels = {}, {}
  for name, (pictures, every) in sets.items():
    among, numbers = maps.narrow(every, kept)
    index = maps.choose(numbers, images, seed=seed)
    found = predictor.features(state, pictures[among[index]])
    features[name] = np.asarray(jax.device_get(found))
    labels[name] = numbers[index]
  both = embed(
    np.concatenate(list(features.values())), perplexity=perplexity, seed=seed
  )
  num = len(labels["train"])
  counts = np.asarray(task.split.labeled_counts)[list(kept)]
  return maps.Map(
    title=title or Path(workdir).resolve().name,
    points={"train": both[:num], "test": both[num:]},
    labels=labels,
    class_names=tuple(task.class_names[c] for c in kept),
    order=tuple(int(c) for c in np.argsort(-counts, kind="stable")),
    groups={
      group: tuple(kept.index(c) for c in ids if c in kept)
      for group, ids in task.groups.items()
    },
  )


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.plots.tsne",
    description="Draws the embeddings of finished runs, projected by t-SNE.",
  )
  parser.add_argument(
    "workdirs", nargs="+", metavar="WORKDIR", help="folders of finished runs"
  )
  parser.add_argument(
    "--titles", help="of the runs, comma-separated; else the folders' names"
  )
  parser.add_argument(
    "--images", type=int, default=IMAGES, help="at most, train and test each"
  )
  parser.add_argument(
    "--classes",
    type=_numbers,
    default=(),
    metavar="0,1,...",
    help="the classes to draw, comma-separated numbers; else all",
  )
  parser.add_argument("--perplexity", type=float, default=PERPLEXITY)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument(
    "--data_dir", help="data sets; else LTJAX_DATA, else a cache folder"
  )
  parser.add_argument(
    "--out",
    type=Path,
    help="the PNG file; else plots/tsne.png of the run, or for several"
    " plots/tsne_runs.png of the first",
  )
  options = parser.parse_args(argv)
  runs = options.workdirs
  titles = options.titles.split(",") if options.titles else [""] * len(runs)
  name = "tsne.png" if len(runs) == 1 else "tsne_runs.png"
  path = options.out or Path(runs[0]) / "plots" / name
  try:
    if len(titles) != len(runs):
      raise ValueError(
        f"--titles has {len(titles)} titles for {len(runs)} runs; give one"
        " each."
      )
    found = [
      project(
        run,
        title=title,
        classes=options.classes,
        images=options.images,
        perplexity=options.perplexity,
        seed=options.seed,
        data_dir=options.data_dir,
      )
      for run, title in zip(runs, titles, strict=True)
    ]
    maps.draw(found, path)
  except (OSError, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  print(path)
  return 0


def _numbers(text: str) -> tuple[int, ...]:
  return tuple(int(number) for number in text.split(","))


if __name__ == "__main__":
  sys.exit(main())

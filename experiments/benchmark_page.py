"""The tables and pictures of `benchmark`, from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import launches, variants
from benchmarks.seeds import compare as seeds
from experiments import benchmark_plots
from ltjax import config as configs
from ltjax.data.splits import profiles
from ltjax.report import markdown

PAPER_LABELED = 5000  # Images of the first class in the paper, at rho 100.
UNLABELED = 5  # Times as many unlabeled images.
Record = Mapping[str, Any]


def write(path: Path, records: Sequence[Record]) -> None:
  """Writes the page and the pictures beside the results.

  Args:
    path: of the results, `.jsonl`.
    records: of `benchmark`.
  """
  path.with_suffix(".md").write_text(page(records))
  device = path.stem.removeprefix("results_")
  speeds = [r["result"] for r in records if r["name"].startswith("speed/")]
  if speeds:
    benchmark_plots.speeds(speeds, path.with_name(f"speed_{device}.png"))
  scaling = [r["result"] for r in records if r["name"] == "scaling"]
  if scaling:
    benchmark_plots.scaling(
      scaling[0]["rows"], path.with_name(f"scaling_{device}.png")
    )


def page(records: Sequence[Record]) -> str:
  """Returns the tables, in Markdown.

  Args:
    records: of `benchmark`.
  """
  described = [r["machine"] for r in records if r["machine"]]
  found = described[-1]
  versions = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
  loads = [machine["load"] for machine in described]
  lines = [
    "# Benchmark",
    f"{found['devices']} x {found['device']}, {found['processor']},"
    f" {found['cores']} cores. Python {found['python']}, {versions}; commit"
    f" {found['commit']}, {found['date']} UTC. Load at the end of each"
    f" measurement: {min(loads)} to {max(loads)}. Medians over turns, with"
    " their range.",
  ]
  speeds = [r["result"] for r in records if r["name"].startswith("speed/")]
  if speeds:
    lines += ["## Images a second", _speeds(speeds), *_ratios(speeds)]
    lines += ["## The paper's full schedule", _schedule(speeds)]
  parts = [r["result"] for r in records if r["name"].startswith("breakdown/")]
  if parts:
    lines += ["## Where the time of a step goes, per cent", _parts(parts)]
  for kind, title, draw in (
    ("launches", "What a step costs whatever its batch", launches.text),
    ("variants", "Variants", variants.text),
    ("seeds", "Several seeds", seeds.text),
  ):
    texts = [
      f"{record['name']}:\n\n{_block(draw(record['result']))}"
      for record in records
      if record["name"].startswith(f"{kind}/")
      and (record["result"].get("rows") or "ways" in record["result"])
    ]
    lines += [f"## {title}", *texts] if texts else []
  scaling = [r["result"] for r in records if r["name"] == "scaling"]
  if scaling:
    lines += ["## Cost against size", _scaling(scaling[0]["rows"])]
  commands = [f"    {record['command']}" for record in records]
  return "\n\n".join([*lines, "## Commands", "\n".join(commands)]) + "\n"


def _block(text: str) -> str:
  """Returns text as Markdown shows it, letter by letter."""
  return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def schedule(config: Any) -> dict[str, int]:
  """Returns how many images each loop sees in a run of SSLT.

  Args:
    config: of `configs.default`, with the paper's numbers of images.

  Returns:
    Images, by the names of `benchmarks.measure.LOOPS`.
  """
  counts = profiles.counts(
    "exponential",
    num_classes=10,
    max_count=config.data.labeled.max_count,
    rho=config.data.labeled.rho,
  )
  labeled = int(counts.sum())
  unlabeled = int(labeled * config.data.unlabeled.factor)
  fits = config.classifier.epochs + config.loops * config.refit.epochs
  views = config.classifier.views + config.loops * config.refit.views
  return {
    "epoch": config.embedding.epochs * labeled,
    "consistency": config.loops
    * config.consistency.epochs
    * (labeled + unlabeled),
    "pseudo_label": config.loops * unlabeled,
    "refit_features": views * labeled,
    "refit": fits * labeled,
  }


def paper() -> Any:
  """Returns the paper's config at rho 100, with the paper's images."""
  config = configs.default("paper")
  config.data.labeled.max_count = PAPER_LABELED
  config.data.labeled.rho = 100.0
  config.data.unlabeled.factor = float(UNLABELED)
  return config


def minutes(result: Mapping[str, Any], images: Mapping[str, int]) -> float:
  """Returns how long a run takes, compilation included.

  Args:
    result: of `measure.measure`, of all loops.
    images: of `schedule`.
  """
  seconds = 0.0
  for name, count in images.items():
    row = result["loops"][name]
    seconds += count / row["images_per_second"]["median"]
    seconds += row["compile_seconds"]
  return seconds / 60


def _speeds(results: Sequence[Mapping[str, Any]]) -> str:
  rows = []
  for result in results:
    for row in result["loops"].values():
      speed, memory = row["images_per_second"], row["memory_bytes"]
      rows.append(
        [
          f"{benchmark_plots.shape(result)}: {row['name']}",
          f"{speed['median']:,.1f}",
          f"{speed['min']:,.1f} to {speed['max']:,.1f}",
          f"{row['flops_per_second'] / 1e12:.3g}" if "mfu" in row else "",
          markdown.percent(row["mfu"]) if "mfu" in row else "",
          f"{row['compile_seconds']:.1f}",
          f"{memory / 2**20:,.0f}" if memory else "",
        ]
      )
  return markdown.table(
    ["", "images/s", "range", "TFLOP/s", "MFU", "compile s", "MiB"], rows
  )


def _ratios(results: Sequence[Mapping[str, Any]]) -> list[str]:
  rows = []
  for result in results:
    for name, peer in result["peers"].items():
      if "ratio" not in peer or "layout" not in peer["how"]:
        continue  # It was stopped before.
      how, ratio = peer["how"], peer["ratio"]
      rows.append(
        [
          f"{benchmark_plots.shape(result)}: {benchmark_plots.NAMES[name]}",
          f"{peer['images_per_second']['median']:,.1f}",
          f"{ratio['median']:.2f}",
          f"{ratio['min']:.2f} to {ratio['max']:.2f}",
          f"{how['precision']}, {how['layout']}"
          + (f", compile {how['compiled']}" if how["compiled"] else ""),
        ]
      )
  if not rows:
    return []
  header = ["", "images/s", "ltjax is faster by", "range", "how"]
  return ["## Beside PyTorch", markdown.table(header, rows)]


def _schedule(results: Sequence[Mapping[str, Any]]) -> str:
  images = schedule(paper())
  trained = images["epoch"] + images["consistency"]
  rows = [
    [benchmark_plots.shape(result), f"{minutes(result, images):,.1f}"]
    for result in results
    if set(images) <= set(result["loops"])
  ]
  said = (
    f"SSLT at rho 100 trains on {trained / 1e6:.1f} million images. From the"
    " speeds above, without evaluations and checkpoints:"
  )
  return f"{said}\n\n{markdown.table(['', 'minutes'], rows)}"


def _parts(results: Sequence[Mapping[str, Any]]) -> str:
  names = list(results[0]["pieces"])
  rows = [
    [
      f"{benchmark_plots.shape(result)}: {1000 * result['step']:,.1f} ms",
      *(
        markdown.percent(result["pieces"][name] / result["step"])
        for name in names
      ),
    ]
    for result in results
  ]
  return markdown.table(["a step", *names], rows)


def _scaling(rows: Sequence[Mapping[str, Any]]) -> str:
  cells = [
    [
      row["name"],
      f"{row['sizes'][0]:,} to {row['sizes'][-1]:,} {row['variable']}",
      f"{1000 * row['seconds'][0]:,.3g} to {1000 * row['seconds'][-1]:,.3g}",
      f"{row['exponent']:.2f}",
      f"{row['limit']:.0f}",
      f"{row['memory_exponent']:.2f}",
    ]
    for row in rows
  ]
  header = ["", "from", "ms", "exponent", "should be at most", "of memory"]
  return markdown.table(header, cells)

"""CE, Decoupling, Pseudo-Label and SSLT at the size of a small CPU.

    python -m experiments.sslt_small [--only=digits] [--print]

Three seeds each on digits (embedded), Fashion-MNIST and CIFAR-10, long-tailed
by subsampling. The seed moves initialization, batches and augmentation; the
split is the same. On digits also the questions behind SSLT's schedule: a lower
learning rate in Stage 2, no consistency, a memory that starts each loop from
uniform rows. Pseudo-Label + Decoupling is SSLT with one loop of as many epochs
and lambda 0, which is the row `pseudo_label_d_finetuned`: from the base on, g
fitted to D. `experiments/sslt_table1.py` has the other kind, from scratch, too.

Not the paper's setting: its numbers (ResNet-18, 200 + 5 * 40 epochs, unlabeled
images from Tiny Images) stand beside ours for orientation only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
import statistics
import sys
from typing import Any

from experiments import sweep
from ltjax.plots import style

SEEDS = (0, 1, 2)
CONFIGS = {
  "digits": "configs/digits_sslt.py",
  "fashion_mnist": "configs/fashion_mnist_sslt.py",
  "cifar10": "configs/cifar10_sslt_small.py",
}
# Epochs of all loops together, for the one long loop of Pseudo-Label.
EPOCHS = {"digits": 24, "fashion_mnist": 32, "cifar10": 32}
VARIANTS = {
  "lr0.03": ("--config.consistency.learning_rate=0.03",),
  "lr0.01": ("--config.consistency.learning_rate=0.01",),
  "lambda0": ("--config.consistency.weight=0.0",),
  "uniform_memory": ("--config.consistency.memory_reset=uniform",),
}
PSEUDO_LABEL = "Pseudo-Label + D, fine-tuned, g on D"
PAPER = {"Decoupling": 64.0, PSEUDO_LABEL: 68.9, "SSLT": 71.3}


def runs() -> Iterator[sweep.Run]:
  """Yields the runs of the sweep."""
  for data, config in CONFIGS.items():
    for seed in SEEDS:
      yield sweep.Run(f"{data}-sslt", config, seed)
    for seed in SEEDS:
      one_loop = (
        "--config.loops=1",
        f"--config.consistency.epochs={EPOCHS[data]}",
        "--config.consistency.weight=0.0",
      )
      yield sweep.Run(f"{data}-pseudo_label", config, seed, one_loop)
  for variant, overrides in VARIANTS.items():
    for seed in SEEDS:
      yield sweep.Run(
        f"digits-sslt_{variant}", CONFIGS["digits"], seed, overrides
      )


def to_markdown(records: Sequence[dict[str, Any]]) -> str:
  """Returns the tables: accuracy per model, pseudo labels per loop."""
  lines = [
    "# SSLT at the size of a small CPU",
    "",
    "Test accuracy in %, mean and sample standard deviation over seeds; last"
    " evaluation of each model, nothing selected on test images. CPU-sized: see"
    " `experiments/sslt_small.py` for what differs from the paper. Paper:"
    " CIFAR-10-SSLT, rho 100, ResNet-18, Tiny Images as the pool.",
  ]
  for data in CONFIGS:
    rows = [r for r in records if r["name"].startswith(f"{data}-")]
    if not rows:
      continue
    lines += ["", f"## {data}", ""]
    lines += _accuracies(rows, data)
    lines += ["", "Pseudo-label accuracy on the unlabeled images:", ""]
    lines += _pseudo_labels([r for r in rows if r["name"] == f"{data}-sslt"])
    seconds = [r["seconds"] for r in rows if r["name"] == f"{data}-sslt"]
    if seconds:
      lines += [
        "",
        f"An SSLT run took {min(seconds) / 60:.1f} to"
        f" {max(seconds) / 60:.1f} minutes on one CPU core, on a machine busy"
        " with other work.",
      ]
  return "\n".join(lines) + "\n"


def draw(records: Sequence[dict[str, Any]], folder: Path) -> None:
  """Draws accuracy per group over loops, a panel a data set.

  Bars are the standard deviation over seeds, dashed lines plain cross-entropy,
  dotted ones Pseudo-Label + D, fine-tuned.
  """
  from matplotlib import figure, lines

  drawn = figure.Figure(figsize=(10.5, 3.6), layout="constrained")
  panels = drawn.subplots(1, len(CONFIGS))
  for axes, data in zip(panels, CONFIGS, strict=True):
    axes.set_title(data)
    axes.set_xlabel("loop (0: Decoupling)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E3E3E3", linewidth=0.7)
    runs = [_tests(r) for r in records if r["name"] == f"{data}-sslt"]
    rivals = [_tests(r) for r in records if r["name"] == f"{data}-pseudo_label"]
    if not runs:
      continue
    loops = [m for m in runs[0] if m.startswith(("D", "S")) and "(" not in m]
    axes.set_xticks(range(len(loops)))
    for group, color in style.COLORS.items():
      key = "accuracy" if group == "overall" else f"accuracy/{group}"
      values = [[100 * run[m][key] for run in runs] for m in loops]
      axes.errorbar(
        range(len(loops)),
        [statistics.mean(v) for v in values],
        yerr=[statistics.stdev(v) if len(v) > 1 else 0.0 for v in values],
        color=color,
        marker=style.MARKERS[group],
        capsize=2,
        label=style.GROUP_NAMES[group],
      )
      plain = statistics.mean(100 * run["CE (g')"][key] for run in runs)
      axes.axhline(plain, color=color, linewidth=0.9, linestyle="--")
      if rivals:
        rival = statistics.mean(100 * r["SSLT loop 1"][key] for r in rivals)
        axes.axhline(rival, color=color, linewidth=1.1, linestyle=":")
  panels[0].set_ylabel("test accuracy (%)")
  handles, _ = panels[0].get_legend_handles_labels()
  grey = {"color": "#777777", "linewidth": 1.1}
  handles += [
    lines.Line2D([], [], linestyle="--", label="CE", **grey),
    lines.Line2D([], [], linestyle=":", label=PSEUDO_LABEL, **grey),
  ]
  drawn.legend(handles=handles, loc="outside lower center", ncols=6)
  style.save(drawn, folder / "accuracy_over_loops.png")


def _tests(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
  return {e["model"]: e for e in record["evaluations"] if e["split"] == "test"}


def _accuracies(rows: Sequence[dict[str, Any]], data: str) -> list[str]:
  groups = ("accuracy", "accuracy/many", "accuracy/medium", "accuracy/few")
  with_paper = data == "cifar10"
  lines = [
    "| model | seeds | overall | many | medium | few |"
    + (" paper, overall |" if with_paper else ""),
    "|---|---|---|---|---|---|" + ("---|" if with_paper else ""),
  ]
  for name in dict.fromkeys(r["name"] for r in rows):
    same = [r for r in rows if r["name"] == name]
    tests = [_tests(r) for r in same]
    variant = name.removeprefix(f"{data}-")
    for model in tests[0]:
      if variant != "sslt" and model in ("CE (g')", "Decoupling"):
        continue  # The same initialization as SSLT's.
      if variant not in ("sslt", "pseudo_label"):
        if model != list(tests[0])[-1]:
          continue  # Of a variant, its last loop.
      title = model
      if variant == "pseudo_label":
        if model.endswith("(g')"):
          continue
        title = PSEUDO_LABEL
      elif variant != "sslt":
        title = f"{model}, {variant.removeprefix('sslt_')}"
      shown = " | ".join(_spread([t[model][g] for t in tests]) for g in groups)
      lines.append(f"| {title} | {len(same)} | {shown} |")
      if with_paper:
        last = title == list(tests[0])[-1]
        paper = PAPER.get("SSLT" if last else title, "")
        lines[-1] += f" {paper} |"
  return lines


def _pseudo_labels(rows: Sequence[dict[str, Any]]) -> list[str]:
  lines = [
    "| loop | overall | many | medium | few |",
    "|---|---|---|---|---|",
  ]
  names = ["pseudo/accuracy"]
  names += [f"pseudo/accuracy/{g}" for g in ("many", "medium", "few")]
  loops = len(rows[0]["pseudo_labels"]) if rows else 0
  for loop in range(loops):
    shown = " | ".join(
      _spread([r["pseudo_labels"][loop][n] for r in rows]) for n in names
    )
    lines.append(f"| {loop + 1} | {shown} |")
  return lines


def _spread(values: Sequence[float]) -> str:
  mean = f"{100 * statistics.mean(values):.1f}"
  if len(values) == 1:
    return mean
  return f"{mean} ± {100 * statistics.stdev(values):.1f}"


if __name__ == "__main__":
  sys.exit(
    sweep.main(list(runs()), Path(__file__).with_suffix(""), to_markdown, draw)
  )

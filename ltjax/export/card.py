"""The model card: what is shipped, what it was made of, how good it is where.

After Mitchell et al. (2019), "Model cards for model reporting".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ltjax.export import program
from ltjax.report import markdown, verdict
from ltjax.trust import intervals

LOADING = {
  "stablehlo": """\
```python
import jax, numpy as np
program = bytearray(open("model.stablehlo", "rb").read())
run = jax.export.deserialize(program).call
probabilities = run(np.zeros({shape}, np.uint8))
```""",
  "onnx": """\
```python
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
(name,) = (given.name for given in session.get_inputs())
(probabilities,) = session.run(None, {{name: np.zeros({shape}, np.uint8)}})
```""",
  "savedmodel": """\
```python
import numpy as np, tensorflow as tf
probabilities = tf.saved_model.load("model").f(np.zeros({shape}, np.uint8))
```""",
  "pytorch-state": """\
```python
from safetensors.torch import load_file
model.load_state_dict(load_file("model.safetensors"), strict=False)
```

`model` is the architecture of torchvision or timm with as many classes;
counters of batches are missing. Images are normalised by `mean` and `std` of
`labels.json`, on the scale [0, 1]. It gives logits, neither calibrated nor
corrected.""",
}


def text(
  shipped: program.Shipped,
  summary: Mapping[str, Any],
  environment: Mapping[str, Any],
  formats: list[str],
) -> str:
  """Returns the card in Markdown.

  Args:
    shipped: what is exported.
    summary: the run's `summary.json`.
    environment: of the run's last session, from `environment.json`.
    formats: those that were written.
  """
  last, config = summary["result"]["last"], summary["config"]
  parts = [
    f"# {last['model']}",
    verdict.headline(summary),
    "## What it is",
    "\n".join(_about(shipped, config, environment)),
    "## How to load it",
    _input(shipped),
    *(LOADING[name].format(shape=(1, *shipped.shape)) for name in formats),
    "## Data and how good it is",
    _classes(summary),
    _groups(summary),
    "## Limits",
    "\n".join(f"- {line}" for line in _limits(shipped, summary)),
  ]
  return "\n\n".join(filter(None, parts)) + "\n"


def _about(shipped, config, environment) -> list[str]:
  lines = [
    f"- network: {shipped.trained.model.name}, head"
    f" {'g, balanced' if shipped.head == 'balanced' else 'g′'}",
    f"- trained by: {config['method']} on {config['data']['source']}, seed"
    f" {config['seed']}",
  ]
  if environment:
    versions = environment.get("versions", {})
    lines.append(
      f"- with ltjax {versions.get('ltjax', 'of unknown version')}, commit"
      f" {environment.get('commit') or 'unknown'}, on"
      f" {environment.get('started', '')[:10]}"
    )
  fitted = shipped.calibrated
  lines.append(
    "- probabilities are not calibrated"
    if fitted is None
    else f"- probabilities are calibrated ({fitted.kind}) with a temperature of"
    f" {fitted.temperature:.3f}"
  )
  if len(shipped.target):
    lines.append("- probabilities are for these shares of the classes:")
    lines += [
      f"  {name}: {share:.4f}"
      for name, share in zip(shipped.trained.classes, shipped.target)
    ]
  lines.append("- licence: that of the data and of pretrained weights, if any")
  return lines


def _input(shipped: program.Shipped) -> str:
  height, width, channels = shipped.shape
  how = (
    "the shorter side brought to that size and the middle cut out"
    if shipped.trained.resize == "crop"
    else "stretched to that size"
  )
  kind = "RGB" if channels == 3 else "grey"
  return (
    f"Pictures are {kind} bytes, `uint8 [B, {height}, {width}, {channels}]`,"
    f" any B, {how} (bilinear, antialiased). Crop, normalisation and views are"
    " inside. Columns are in the order of `classes` in `labels.json`."
  )


def _classes(summary: Mapping[str, Any]) -> str:
  recalls = summary["result"]["last"].get("per_class") or []
  rows = [
    [
      name,
      f"{summary['labeled_counts'][c]:,}",
      f"{summary['test_counts'][c]:,}",
      markdown.percent(recalls[c] if c < len(recalls) else None),
    ]
    for c, name in enumerate(summary["classes"])
  ]
  return markdown.table(
    ["class", "labeled images", "test images", "right, %"], rows
  )


def _groups(summary: Mapping[str, Any]) -> str:
  confusion = summary["result"]["last"].get("confusion")
  if not confusion or not np.sum(confusion):
    return ""
  found = intervals.of_accuracy(confusion, groups=summary["groups"])
  rows = [
    [
      name,
      markdown.percent(value.value),
      f"{markdown.percent(value.low)} to {markdown.percent(value.high)}",
    ]
    for name, value in found.items()
  ]
  return markdown.table(["on the test images", "%", "95 % interval"], rows)


def _limits(shipped: program.Shipped, summary: Mapping[str, Any]) -> list[str]:
  lines = [*verdict.warnings(summary)]
  rare = [
    name
    for name, count in zip(summary["classes"], summary["labeled_counts"])
    if count < 10
  ]
  if rare:
    lines.append(f"fewer than ten labeled images of {', '.join(rare)}")
  lines.append(
    "a picture of none of the classes is called one of them; low probabilities"
    " are a hint, no proof"
  )
  lines.append(
    "all numbers are of test images like those of training; others may differ"
  )
  return lines

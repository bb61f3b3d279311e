"""docs/python_api.md: its code runs, and the parts it names need no config."""

import importlib
import pathlib
import re
import subprocess
import sys

import finished
import jax
import runs
import toys

from ltjax import api
from ltjax.report import page as report

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "python_api.md").read_text()
# What only a run needs.
OF_RUNS = ("ml_collections", "flax", "orbax", "rich", "matplotlib")


def parts() -> list[str]:
  """Returns the modules of the page's table of parts."""
  rows = re.findall(r"^\|[^|]+\| (`ltjax.*) \|$", PAGE, re.MULTILINE)
  names = []
  for row in rows:
    for name in re.findall(r"`([\w.]+)`", row):
      if name.startswith("."):  # beside the one before
        name = names[-1].rpartition(".")[0] + name
      names.append(name)
  return names


def test_code_blocks_run(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  finished.one_device(monkeypatch)
  # The toys' network, for images of digits and with the features of a ResNet-8.
  for name, value in {"C": 10, "SIZE": 8, "D": 64}.items():
    monkeypatch.setattr(toys, name, value)
  runs.patch_model(monkeypatch)
  monkeypatch.setattr(api, "EPOCHS", dict.fromkeys(api.EPOCHS, 1))
  monkeypatch.setattr(api, "LOOPS", 1)
  monkeypatch.setattr(report, "_draw", lambda *unused: {})  # plots
  blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
  assert len(blocks) == 3
  names = {}
  # As a reader runs them; Adam of optax promotes its count.
  with jax.numpy_dtype_promotion("standard"):
    for block in blocks:
      exec(block, names)
  trained, probabilities = names["trained"], names["probabilities"]
  assert trained.predict(names["unseen"]).shape == (5,)
  assert trained.probabilities(names["unseen"]).shape == (5, 10)
  assert trained.features(names["unseen"]).shape == (5, 64)
  assert (tmp_path / "digits_run" / "report.md").exists()
  # The linear model has learned: four times what guessing gives.
  assert probabilities.shape == (597, 10)
  assert names["result"]["accuracy"] > 0.4
  assert "# sslt, seed 0" in capsys.readouterr().out


def test_parts_are_importable_on_their_own():
  names = parts()
  assert len(names) > 10
  program = f"import sys, {', '.join(names)}; print(*sys.modules)"
  done = subprocess.run(
    [sys.executable, "-c", program],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr
  assert not {*OF_RUNS} & {*done.stdout.split()}


def test_no_function_of_a_part_asks_for_a_config():
  for name in parts():
    module = importlib.import_module(name)
    for function in vars(module).values():
      if getattr(function, "__module__", "") == name and callable(function):
        code = getattr(function, "__code__", None)
        variables = code.co_varnames[: code.co_argcount] if code else ()
        assert "config" not in variables, f"{name}.{function}"

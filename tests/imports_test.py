"""What may import what: training stays free of TensorFlow and torch."""

import ast
import pathlib
import subprocess
import sys

import pytest

import ltjax

PACKAGE = pathlib.Path(ltjax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]

# Builds everything a training run needs, and says what it dragged in.
PROGRAM = """
import sys
from ltjax.methods import build
from ltjax import config as configs, main, methods
from ltjax.devices import sharding
config = configs.default()
config.data.labeled.max_count = 20
config.data.labeled.rho = 10.0
config.model.name = "resnet8"
for block in ("embedding", "classifier", "consistency", "refit"):
  config[block].batch_size = 16
mesh = sharding.make_mesh()
task = build.build_task(config, mesh, None)
learner = build.build_learner(config, task, mesh)
assert methods.stages(learner, config)
learner.init()
heavy = {"tensorflow", "torch", "matplotlib"} & set(sys.modules)
print("imported:", sorted(heavy))
"""


def imported(path: pathlib.Path) -> set[str]:
  """Returns the dotted names of all modules that a file imports, anywhere."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and not node.level:
      names |= {f"{node.module}.{alias.name}" for alias in node.names}
  return names


def within(names: set[str], package: str) -> set[str]:
  return {n for n in names if n == package or n.startswith(package + ".")}


def test_there_are_files_to_look_at():
  assert "main.py" in NAMES and "models/backbones/resnet.py" in NAMES
  assert within(
    imported(PACKAGE / "models" / "backbones" / "resnet.py"), "flax.linen"
  )


def test_preparing_to_train_imports_neither_tensorflow_nor_torch():
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1] == "imported: []"


def test_no_file_imports_tensorflow_or_torch():
  """But to write a SavedModel, where it is asked for."""
  for path in FILES:
    names = imported(path)
    savedmodel = path == PACKAGE / "export" / "program.py"
    assert savedmodel or not within(names, "tensorflow"), path
    assert not within(names, "torch"), path


def test_only_models_import_linen():
  for path in FILES:
    if not path.is_relative_to(PACKAGE / "models"):
      assert not within(imported(path), "flax.linen"), path
      assert not within(imported(path), "flax.nnx"), path


def test_heavy_libraries_wait_until_they_are_needed():
  heavy = ("matplotlib", "sklearn", "tensorflow_datasets", "tensorboardX")
  for path in FILES:
    tree = ast.parse(path.read_text())
    top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    names = imported_names(top)
    assert not any(within(names, name) for name in heavy), path


def imported_names(nodes: list[ast.stmt]) -> set[str]:
  """Returns the modules that import statements name."""
  names = set()
  for node in nodes:
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      names.add(node.module or "")
  return names


# The folders of the package; each imports those before it only. Of the root's
# modules all but the first here may import all.
FLOORS = (
  *("require", "geometry", "settings", "devices", "optim", "augment"),
  *("data.files", "models.cpu_kernels", "models.layers", "models.backbones"),
  *("models", "data.download", "data.host", "data.parts", "data.sources"),
  *("data.splits", "data", "losses", "checkpoints", "training", "evaluation"),
  *("stages", "semi_supervised", "self_supervised", "methods", "config"),
  *("runs", "plots", "report", "trust", "suggest", "export"),
  "launch",
)


def floor(module: str) -> int:
  """Returns the place of a module's folder in `FLOORS`, the root's on top."""
  parts = module.removeprefix("ltjax.").split(".")
  for depth in (2, 1):
    folder = ".".join(parts[:depth])
    if folder in FLOORS:
      return FLOORS.index(folder)
  return len(FLOORS)


@pytest.mark.parametrize("name", NAMES)
def test_imports_point_one_way(name):
  here = floor(name.removesuffix(".py").replace("/", "."))
  above = {
    n for n in within(imported(PACKAGE / name), "ltjax") if floor(n) > here
  }
  assert not above


def test_no_folder_is_left_out_and_none_is_crowded():
  folders = {path.parent.relative_to(PACKAGE).as_posix() for path in FILES}
  folders.remove(".")
  assert {f.replace("/", ".") for f in folders} == set(FLOORS[1:])
  sizes = {f: len(list((PACKAGE / f).glob("[a-z]*.py"))) for f in folders}
  assert len(list(PACKAGE.glob("[a-z]*.py"))) <= 8
  crowded = {f for f, size in sizes.items() if size > 13} - {"methods"}
  assert not crowded

"""One finished run of a real network on digits, shared by tests."""

import atexit
import functools
import pathlib
import shutil
import tempfile

import ml_collections
import pytest

from ltjax import config as configs
from ltjax import train
from ltjax.devices import sharding
from ltjax.report import page

_make_mesh = sharding.make_mesh  # Before any test has it patched.


def config() -> ml_collections.ConfigDict:
  """Two stages (embedding, classifier), an epoch or two each."""
  config = configs.default()
  config.method = "decoupling"
  config.data.source = "digits"
  config.data.pad = 1
  config.data.labeled.max_count = 12
  config.data.labeled.rho = 4.0
  config.data.unlabeled.factor = 2.0
  config.data.validation.per_class = 2
  config.model.name = "resnet8"
  config.embedding.epochs = 2
  config.classifier.epochs = 1
  for block in ("embedding", "classifier"):
    config[block].batch_size = 16
  config.classifier.views = 1
  return config


@functools.cache
def run() -> pathlib.Path:
  """Returns the folder of the run; look, but do not touch."""
  folder = pathlib.Path(tempfile.mkdtemp(prefix="ltjax-finished-"))
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(page, "write", lambda path: None)  # Plots take seconds.
    one_device(patch)
    train.train(config(), str(folder), echo=lambda text: None)
  return folder


def one_device(patch: pytest.MonkeyPatch) -> None:
  """Runs on one device, as a command line does, to compare bit for bit."""
  mesh = _make_mesh(1)
  patch.setattr(sharding, "make_mesh", lambda: mesh)


def copy(to: pathlib.Path) -> pathlib.Path:
  """Returns a copy of the run that may be changed."""
  return shutil.copytree(run(), to / "run")


def contents(folder: pathlib.Path) -> dict[str, bytes]:
  """Returns every file below a folder with its bytes."""
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }

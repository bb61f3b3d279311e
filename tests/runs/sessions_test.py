"""What `environment.json` notes of each session."""

import importlib.metadata
import json
import subprocess

import jax
import pytest

from benchmarks import machine
from ltjax.runs import workdir as workdirs


@pytest.fixture
def folder(tmp_path):
  with workdirs.Workdir(str(tmp_path / "run")) as folder:
    yield folder


def noted(folder):
  return json.loads((folder / "environment.json").read_text())["sessions"]


def test_each_session_is_noted_with_how_it_ended(folder):
  with workdirs.Session(folder):
    pass
  with pytest.raises(KeyError), workdirs.Session(folder):
    raise KeyError("x")
  first, second = noted(folder)
  assert first["ended_by"] == "completion" and second["ended_by"] == "KeyError"
  assert first["started"] <= second["started"] and first["seconds"] >= 0
  assert first["cpu_cores"] >= 1 and {"ltjax", "jax"} <= set(first["versions"])


def test_a_source_folder_that_is_not_installed_has_no_version(
  folder, monkeypatch
):
  """PYTHONPATH is enough to run from one; the note follows the last stage."""
  real = importlib.metadata.version

  def version(name):
    if name == "ltjax":
      raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

  monkeypatch.setattr(importlib.metadata, "version", version)
  with workdirs.Session(folder):
    pass
  (row,) = noted(folder)
  assert row["ended_by"] == "completion"
  assert row["versions"]["ltjax"] == "unknown (source)"
  assert row["versions"]["jax"] == jax.__version__
  assert machine.describe()["versions"]["ltjax"] == "unknown (source)"


@pytest.mark.parametrize("content", ["{", "[]", '{"sessions": 3}', "{}"])
def test_a_damaged_file_is_begun_anew(folder, content):
  (folder / "environment.json").write_text(content)
  with workdirs.Session(folder):
    pass
  assert len(noted(folder)) == 1


def test_an_error_of_the_run_counts_more_than_that_of_the_note(
  folder, monkeypatch
):
  def full(*unused):
    raise OSError("disk full")

  monkeypatch.setattr(workdirs, "write_json", full)
  with pytest.raises(KeyError), workdirs.Session(folder):
    raise KeyError("x")
  with pytest.raises(OSError, match="disk full"), workdirs.Session(folder):
    pass


def test_the_commit_is_unknown_without_git_and_where_git_hangs(monkeypatch):
  for error in (FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10)):

    def fail(*unused, error=error, **unused_too):
      raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert workdirs.commit() is None


def test_the_root_of_the_sources_is_asked(monkeypatch):
  def run(command, cwd, **unused):
    assert (cwd / "pyproject.toml").exists() and (cwd / "ltjax").is_dir()
    return subprocess.CompletedProcess(command, 0, "abc\n", "")

  monkeypatch.setattr(subprocess, "run", run)
  assert workdirs.commit() == "abc"


def test_an_installed_package_has_no_commit(tmp_path, monkeypatch):
  place = tmp_path / "a" / "b" / "c.py"
  monkeypatch.setattr(workdirs, "__file__", str(place))
  assert workdirs.commit() is None

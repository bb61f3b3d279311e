"""The cache: where it is, what it may never do, and that it works."""

import argparse
import collections
import os
import pathlib
import zlib

import jax
from jax import monitoring
from jax.experimental.compilation_cache import compilation_cache
import jax.numpy as jnp
import numpy as np
import pytest
import runs
import toys

from ltjax.devices import compilation
from ltjax.training import fit
from ltjax.training import state as states

SETTINGS = (
  "jax_compilation_cache_dir",
  "jax_persistent_cache_min_compile_time_secs",
  "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(autouse=True)
def as_before():
  """The suite's own cache, when a test is over."""
  before = {name: getattr(jax.config, name) for name in SETTINGS}
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch, tmp_path):
  monkeypatch.delenv("LTJAX_COMPILATION_CACHE", raising=False)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


def current():
  return jax.config.jax_compilation_cache_dir


def test_the_folder_chosen_comes_before_the_environments(monkeypatch, tmp_path):
  assert compilation.folder() == tmp_path / "user" / "ltjax" / "jax"
  monkeypatch.setenv("LTJAX_COMPILATION_CACHE", str(tmp_path / "env"))
  assert compilation.folder() == tmp_path / "env"
  assert compilation.folder(str(tmp_path / "flag")) == tmp_path / "flag"
  assert compilation.folder("~/here") == pathlib.Path.home() / "here"
  assert compilation.folder("here") == pathlib.Path.cwd() / "here"
  monkeypatch.delenv("LTJAX_COMPILATION_CACHE")
  monkeypatch.delenv("XDG_CACHE_HOME")
  default = pathlib.Path.home() / ".cache" / "ltjax" / "jax"
  assert compilation.folder() == default


@pytest.mark.parametrize("off", ["", "off"])
def test_off_is_off(monkeypatch, off):
  jax.config.update("jax_compilation_cache_dir", "/somewhere")
  assert compilation.enable(off) is None
  assert current() is None
  monkeypatch.setenv("LTJAX_COMPILATION_CACHE", off)
  assert compilation.enable() is None


def test_a_cache_given_to_jax_itself_is_left_alone(tmp_path):
  jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
  assert compilation.enable() == tmp_path / "own"
  assert current() == str(tmp_path / "own")
  chosen = compilation.enable(str(tmp_path / "flag"))
  assert chosen is not None and chosen.parent == tmp_path / "flag"
  assert current() == str(chosen)


def test_each_number_of_cores_has_programs_of_its_own(monkeypatch, tmp_path):
  places = set()
  for cores in ({0}, {0, 1}, {1, 3}):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid, c=cores: c)
    places.add(compilation.enable(str(tmp_path)))
  assert places == {tmp_path / "cpu-1", tmp_path / "cpu-2"}
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert compilation.enable(str(tmp_path)) == tmp_path / "gpu"


def test_where_nothing_can_be_written_a_line_says_so(tmp_path, capsys):
  jax.config.update("jax_compilation_cache_dir", None)
  (tmp_path / "file").write_text("")
  assert compilation.enable(str(tmp_path / "file")) is None
  assert current() is None
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("warning: compiled programs cannot be kept in ")
  assert str(tmp_path / "file") in line and "Not a directory" in line
  assert "--compilation_cache=DIR, or --compilation_cache=off" in line


def program(scale):
  @jax.jit
  def call(x):
    return jnp.sum(jnp.sin(x @ x.T) * scale, axis=1)

  return call


def events(run):
  """Returns how often each event of the cache came, and the result."""
  seen = collections.Counter()

  def listen(event, **unused):
    seen[event.rpartition("/")[2]] += 1

  monitoring.register_event_listener(listen)
  try:
    result = np.asarray(run())
  finally:
    monitoring.unregister_event_listener(listen)
  return seen, result


def test_what_was_compiled_is_read_and_gives_the_same_bits(tmp_path):
  x = np.random.default_rng(0).normal(size=(37, 19)).astype(np.float32)
  compilation.enable("off")
  plain = np.asarray(program(3.0)(x))
  compilation.enable(str(tmp_path))
  first, compiled = events(lambda: program(3.0)(x))
  assert first["cache_misses"] == 1 and first["cache_hits"] == 0
  second, read = events(lambda: program(3.0)(x))
  assert second["cache_hits"] == 1 and second["cache_misses"] == 0
  assert plain.tobytes() == compiled.tobytes() == read.tobytes()


def test_an_entry_that_was_torn_is_made_anew(tmp_path, recwarn):
  place = compilation.enable(str(tmp_path))
  x = np.ones((5, 5), np.float32)
  expected = np.asarray(program(7.0)(x))
  (entry,) = place.glob("jit_call-*-cache")
  content = entry.read_bytes()
  entry.write_bytes(content[: len(content) // 2])
  compilation.enable(str(tmp_path))
  assert not entry.exists()
  seen, result = events(lambda: program(7.0)(x))
  assert seen["cache_misses"] == 1
  assert result.tobytes() == expected.tobytes()
  assert zlib.decompress(entry.read_bytes())
  assert not recwarn.list


def test_only_what_is_new_is_looked_at(tmp_path):
  place = compilation.enable(str(tmp_path))
  old, new = place / "old-cache", place / "new-cache"
  for path in (old, new):
    path.write_bytes(b"x\x9ctorn")
  os.utime(old, (1, 1))
  (place / "other").write_bytes(b"no entry")
  compilation.enable(str(tmp_path))
  assert (old.exists(), new.exists()) == (True, False)
  assert (place / "other").exists()


def test_entries_of_a_library_that_is_missing_are_kept(monkeypatch, tmp_path):
  find = compilation.importlib.util.find_spec
  monkeypatch.setattr(
    compilation.importlib.util,
    "find_spec",
    lambda name: None if name == "zstandard" else find(name),
  )
  place = compilation.enable(str(tmp_path))
  (place / "a-cache").write_bytes(b"\x28\xb5\x2f\xfd...")
  compilation.enable(str(tmp_path))
  assert (place / "a-cache").exists()


def test_the_longest_unused_go_first(tmp_path):
  place = compilation.enable(str(tmp_path))
  other = tmp_path / "cpu-99"
  other.mkdir()
  for number, path in enumerate([other / "b-cache", place / "a-cache"]):
    path.write_bytes(zlib.compress(bytes(10), 0))
    os.utime(path, (10 + number, 10 + number))
  size = (place / "a-cache").stat().st_size
  compilation.enable(str(tmp_path), max_bytes=2 * size)
  assert (other / "b-cache").exists()
  compilation.enable(str(tmp_path), max_bytes=2 * size - 1)
  assert not (other / "b-cache").exists()
  assert (place / "a-cache").exists()


def test_the_flag_of_other_commands():
  parser = argparse.ArgumentParser()
  compilation.add_flag(parser)
  assert parser.parse_args([]).compilation_cache is None
  chosen = parser.parse_args(["--compilation_cache=off"]).compilation_cache
  assert chosen == "off"


def test_a_second_run_compiles_nothing(tmp_path):
  learner = toys.learner()
  state = learner.init()

  def run():
    jax.clear_caches()  # as a new process
    compilation.enable(str(tmp_path / "cache"))
    stage, ends = toys.embedding_stage(learner, epochs=1), []

    def train():
      start = states.copy(stage.init(state))
      reads = stage.prepare(state)
      ends.extend(fit.fit(stage, start, *reads, mesh=learner.mesh))
      return 0

    return events(train)[0], ends[-1].state

  first, made = run()
  assert first["cache_misses"] > 1
  second, again = run()
  assert second["cache_misses"] == 0
  assert second["cache_hits"] >= first["cache_misses"]
  toys.assert_same(made, again)


def test_the_flag_of_main(tmp_path):
  """A mistake behind it, so that nothing is trained."""
  done = runs.main(
    f"--config={runs.ROOT / 'tests' / 'toy_config.py'}",
    *("--dry_run", f"--compilation_cache={tmp_path / 'cache'}"),
    "--config.loops=-1",
    cwd=tmp_path,
  )
  assert done.returncode == 1
  assert list((tmp_path / "cache").iterdir())

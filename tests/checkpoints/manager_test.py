"""Tests of checkpoints: what is saved comes back, and damage is noticed."""

import itertools
import json
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.checkpoints import integrity
from ltjax.checkpoints import manager as checkpoints


def tree(value=0.0):
  """A tree of the kinds of arrays that a run has."""
  return {
    "b": {"kernel": jnp.arange(12.0).reshape(3, 4) + value},
    "key": jax.random.key(7),
    "memory": jnp.zeros((0, 4)),  # orbax refuses arrays of no element
    "half": jnp.asarray([1.5, -2.0], jnp.bfloat16),
    "step": jnp.asarray(3, jnp.int32),
  }


def same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.dtype == y.dtype and x.shape == y.shape
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
      x, y = jax.random.key_data(x), jax.random.key_data(y)
    np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def target(record):
  del record
  return jax.eval_shape(tree)


@pytest.fixture
def open_at(tmp_path):
  """Opens the checkpoints of `tmp_path`, as a new process would."""
  opened = []

  def make(folder=tmp_path, keep=3):
    opened.append(checkpoints.Checkpoints(folder, keep=keep))
    return opened[-1]

  yield make
  for found in opened:
    found.close()


def numbers(folder):
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
  """A folder with the checkpoints (0, 1) and (1, 0), to be copied."""
  folder = tmp_path_factory.mktemp("two")
  saved = checkpoints.Checkpoints(folder)
  saved.save((0, 1), tree(), {"stage": "a"})
  saved.save((1, 0), tree(1.0), {"stage": "b"})
  saved.close()
  return folder


@pytest.fixture
def folder(two, tmp_path):
  shutil.copytree(two, tmp_path, dirs_exist_ok=True)
  return tmp_path


def files_of(folder, number=1_000_000_000):
  root = folder / str(number)
  return sorted(p for p in root.rglob("*") if p.is_file())


def test_nothing_saved_is_none(open_at):
  assert open_at().restore(target) is None


def test_what_is_saved_comes_back(open_at):
  open_at().save((2, 5), tree(0.5), {"stage": "loop1/refit", "n": [1]})
  found, record = open_at().restore(target)
  same(found, tree(0.5))
  assert record["stage"] == "loop1/refit" and record["n"] == [1]
  assert record["position"] == [2, 5]
  assert record["shapes"]["b/kernel"] == [3, 4]


def test_the_target_may_depend_on_the_record(folder, open_at):
  seen = []

  def target_of(record):
    seen.append(record["stage"])
    return target(record)

  open_at().restore(target_of)
  assert seen == ["b"]


def test_stages_order_before_steps(open_at, tmp_path):
  saved = open_at(keep=4)
  for position in ((0, 900), (1, 0), (1, 12), (10, 0)):
    saved.save(position, tree(), {"stage": "x"})
  assert numbers(tmp_path) == [900, 10**9, 10**9 + 12, 10**10]
  _, record = open_at().restore(target)
  assert record["position"] == [10, 0]


def test_keeps_the_newest(open_at, tmp_path):
  saved = open_at(keep=2)
  for step in (1, 2, 3, 4):
    saved.save((0, step), tree(step), {"stage": "x"})
  assert numbers(tmp_path) == [3, 4]


def test_saving_again_at_a_position_replaces(open_at):
  saved = open_at()
  saved.save((0, 1), tree(), {"stage": "x"})
  saved.save((0, 1), tree(5.0), {"stage": "x"})
  found, _ = open_at().restore(target)
  same(found, tree(5.0))


@pytest.mark.parametrize("keep", [1, 0, -3])
def test_one_checkpoint_is_too_few(tmp_path, keep):
  with pytest.raises(ValueError, match=f"run.keep is {keep}; at least 2"):
    checkpoints.Checkpoints(tmp_path / "c", keep=keep)
  assert not (tmp_path / "c").exists()


# -- Damage. Orbax's own files are not known by name here: each is damaged.


def truncate(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 0x10
  path.write_bytes(content)


def empty(path):
  path.write_bytes(b"")


def remove(path):
  path.unlink()


@pytest.mark.parametrize("damage", [truncate, flip, empty, remove])
def test_damage_to_any_file_is_noticed(two, tmp_path, damage):
  for index, path in enumerate(files_of(two)):
    if damage is remove and path.name == integrity.NAME:
      continue  # As if killed just before the seal; the rest is whole.
    folder = tmp_path / str(index)
    shutil.copytree(two / "1000000000", folder / "1000000000")
    damage(folder / path.relative_to(two))
    with pytest.raises(
      checkpoints.CheckpointError, match="its files changed after they were"
    ):
      checkpoints.read(folder, target)


def rename_a_key(path):
  """Well-formed JSON, which orbax refuses."""
  path.write_bytes(path.read_bytes().replace(b"commit_time", b"commit_tyme"))


@pytest.mark.parametrize(
  "which, damage",
  [
    *itertools.product(
      ["_CHECKPOINT_METADATA", "largest"], [truncate, flip, remove]
    ),
    ("_CHECKPOINT_METADATA", rename_a_key),
  ],
)
def test_damage_falls_back(folder, open_at, caplog, capfd, which, damage):
  largest = max(files_of(folder), key=lambda path: path.stat().st_size)
  damage(
    largest if which == "largest" else folder / "1000000000" / which,
  )
  found, record = open_at().restore(target)
  same(found, tree())
  assert record["position"] == [0, 1]
  assert caplog.messages == [
    f"The checkpoint of stage 1, step 0 in {folder} is damaged (its files"
    " changed after they were written); trying the one before it."
  ]
  assert caplog.records[0].levelno == logging.WARNING
  assert numbers(folder) == [1]
  out, err = capfd.readouterr()
  assert "Traceback" not in err + out  # Orbax stays silent.


def test_a_checkpoint_killed_before_its_seal_is_read(folder, open_at, caplog):
  (folder / "1000000000" / integrity.NAME).unlink()
  found, record = open_at().restore(target)
  same(found, tree(1.0))
  assert record["position"] == [1, 0] and not caplog.messages


def test_a_half_written_checkpoint_is_not_seen(folder, open_at, caplog):
  """Orbax writes into a temporary folder and renames it."""
  shutil.move(
    folder / "1000000000", folder / "1000000000.orbax-checkpoint-tmp-1"
  )
  _, record = open_at().restore(target)
  assert record["position"] == [0, 1] and not caplog.messages


def test_all_damaged_is_an_error_and_nothing_is_deleted(folder, open_at):
  for number in (1, 10**9):
    for path in files_of(folder, number):
      truncate(path)
  before = {p: p.read_bytes() for n in (1, 10**9) for p in files_of(folder, n)}
  for _ in range(2):  # The next run must not begin anew in silence.
    with pytest.raises(
      checkpoints.CheckpointError,
      match=r"None of the 2 checkpoints in .* can be read. Restore them from"
      " a copy, or remove that folder to start the run again",
    ):
      open_at().restore(target)
  assert {p: p.read_bytes() for p in before} == before


def test_saves_go_on_after_a_fall_back(folder, open_at):
  for path in files_of(folder):
    empty(path)
  saved = open_at()
  saved.restore(target)
  saved.save((1, 0), tree(9.0), {"stage": "b"})
  found, record = open_at().restore(target)
  same(found, tree(9.0))
  assert record["position"] == [1, 0]


# -- Other models.


def test_a_checkpoint_of_another_model_is_refused(folder, open_at, caplog):
  def wider(record):
    shapes = target(record)
    shapes["b"]["kernel"] = jax.ShapeDtypeStruct((3, 5), jnp.float32)
    return shapes

  with pytest.raises(
    ValueError,
    match=r"is of another model or data set \(1 arrays differ; b/kernel:"
    r" stored \[3, 4\], needed \[3, 5\]\). Use the config that wrote it, or"
    " another workdir",
  ):
    open_at().restore(wider)
  assert not caplog.messages and numbers(folder) == [1, 10**9]


def test_missing_and_surplus_arrays_are_named(folder, open_at):
  def renamed(record):
    shapes = target(record)
    shapes["c"] = shapes.pop("b")
    return shapes

  with pytest.raises(
    ValueError, match=r"2 arrays differ; b/kernel: stored \[3, 4\], needed noth"
  ):
    open_at().restore(renamed)


def test_errors_of_the_target_are_not_taken_for_damage(folder, open_at):
  def refuse(record):
    raise ValueError(f"no stage {record['stage']} here")

  with pytest.raises(ValueError, match="no stage b here"):
    open_at().restore(refuse)
  assert numbers(folder) == [1, 10**9]


# -- Disks that are full.


def full(*unused, **also_unused):
  raise OSError(28, "No space left on device")


def test_a_save_that_fails_keeps_the_earlier_ones(folder, open_at, monkeypatch):
  saved = open_at()
  monkeypatch.setattr(saved._checkpointer, "save", full)
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"could not be written to .* \(OSError: \[Errno 28\] No space left on"
    r" device\). The earlier checkpoints are kept: free space",
  ):
    saved.save((2, 0), tree(), {"stage": "c"})
  monkeypatch.undo()
  found, record = open_at().restore(target)
  same(found, tree(1.0))
  assert record["position"] == [1, 0]


def test_a_seal_that_fails_is_a_save_that_fails(folder, open_at, monkeypatch):
  monkeypatch.setattr(integrity, "write", full)
  with pytest.raises(checkpoints.CheckpointError, match="No space left"):
    open_at().save((2, 0), tree(2.0), {"stage": "c"})


def test_an_error_without_words_is_named(open_at, monkeypatch):
  saved = open_at()

  def silent(*unused, **also_unused):
    raise KeyError()

  monkeypatch.setattr(saved._checkpointer, "save", silent)
  with pytest.raises(checkpoints.CheckpointError, match=r"KeyError: KeyError"):
    saved.save((2, 0), tree(), {"stage": "c"})


# -- Reading without a run.


def test_read_gives_the_newest_and_changes_nothing(folder):
  before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
  found, record = checkpoints.read(folder, target)
  same(found, tree(1.0))
  assert record["stage"] == "b"
  assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_read_of_nothing_is_an_error(tmp_path):
  with pytest.raises(
    checkpoints.CheckpointError, match="There is no checkpoint in"
  ):
    checkpoints.read(tmp_path / "none", target)


def test_read_of_damage_is_an_error_not_an_older_one(folder):
  truncate(files_of(folder)[0])
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"1000000000 is damaged \(its files changed after",
  ):
    checkpoints.read(folder, target)
  assert numbers(folder) == [1, 10**9]


def test_the_record_is_json(folder):
  """Another program can tell where a run stands."""
  text = (folder / "1000000000" / "_CHECKPOINT_METADATA").read_text()
  assert json.loads(text)["custom_metadata"]["stage"] == "b"

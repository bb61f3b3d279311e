"""Processes decode what threads decode, and end with who asked them."""

import json
import mmap
import os
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pictures
from PIL import Image
import pytest
import runs
import toys

from ltjax import config as configs
from ltjax import dry_run, models, train
from ltjax.data import records
from ltjax.data.files import decoding as decodings
from ltjax.data.host import host_images, image_files, workers
from ltjax.methods import build
from ltjax.report import page
from ltjax.runs import interrupts


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  root = tmp_path_factory.mktemp("pictures")
  pictures.write_tree(root, train=(20, 20, 10))
  return sorted(root.rglob("*.JPEG"))


@pytest.fixture(scope="module")
def two():
  """The two workers that all tests here share: starting them costs time."""
  yield workers.shared(2)
  workers.shared(2).close()


def alive(pid):
  try:
    os.kill(pid, 0)
    with open(f"/proc/{pid}/stat") as stat:
      return stat.read().rpartition(")")[2].split()[0] != "Z"
  except (ProcessLookupError, FileNotFoundError):
    return False


def gone(pids):
  deadline = time.monotonic() + 60
  while any(map(alive, pids)) and time.monotonic() < deadline:
    time.sleep(0.05)
  return not any(map(alive, pids))


@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_the_same_bytes_as_threads_give(resize, files, two):
  settings = {"size": 12, "resize": resize}
  wanted = image_files.ImageFiles(files, **settings)
  found = image_files.ImageFiles(files, **settings, processes=2)
  for index in (range(50), [3], [], [7, 7, 0] * 30, range(49, 0, -5)):
    index = np.array(index, int)
    np.testing.assert_array_equal(found.read(index), wanted.read(index))


def test_workers_are_told_how_to_decode(tmp_path, two):
  values = np.array([[0, 100, 200]], np.uint16)
  Image.fromarray(values).save(tmp_path / "a.png")
  file = [tmp_path / "a.png"]
  with pytest.raises(host_images.BrokenImageError, match="0 ... 200. data.pix"):
    two.decode(file, size=1, resize="crop")
  decoding = decodings.Decoding(0, 200)
  found = two.decode(file, size=1, resize="crop", decoding=decoding)
  assert found.ravel().tolist() == [128] * 3


def test_sizes_may_change_and_rows_stay(files, two):
  small = two.decode(files, size=4, resize="crop")
  kept = small.copy()
  large = two.decode(files, size=32, resize="crop")
  np.testing.assert_array_equal(small, kept)
  wanted = image_files.ImageFiles(files, size=32)
  np.testing.assert_array_equal(large, np.asarray(wanted))


def test_a_cache_is_filled_by_workers(files, two, tmp_path, monkeypatch):
  wanted = np.asarray(image_files.ImageFiles(files, size=8))
  settings = {"size": 8, "cache": tmp_path, "processes": 2}
  found = image_files.ImageFiles(files, **settings)
  np.testing.assert_array_equal(found.read(np.arange(9)), wanted[:9])
  monkeypatch.setattr(two, "decode", None)
  np.testing.assert_array_equal(found.read(np.arange(9)), wanted[:9])


def test_the_first_broken_picture_is_named(files, two, tmp_path):
  broken = []
  for name in "ab":
    broken.append(tmp_path / f"{name}.JPEG")
    broken[-1].write_bytes(files[0].read_bytes()[:50])
  many = [*files, broken[0], *files, broken[1], *files]
  with pytest.raises(host_images.BrokenImageError, match="a.JPEG: not a whole"):
    two.decode(many, size=8, resize="crop")
  with pytest.raises(host_images.BrokenImageError, match="gone.JPEG"):
    two.decode([tmp_path / "gone.JPEG"], size=8, resize="crop")
  assert two.decode(files, size=8, resize="crop").shape == (50, 8, 8, 3)


def test_a_worker_that_was_killed_is_told_and_replaced(files, two):
  wanted = two.decode(files, size=8, resize="crop")
  processes = list(two._workers.values())
  processes[0].kill()
  with pytest.raises(
    host_images.BrokenImageError, match=r"ended \(exit code -9\) at one of /"
  ):
    two.decode(files, size=8, resize="crop")
  assert gone([process.pid for process in processes])
  again = two.decode(files, size=8, resize="crop")
  np.testing.assert_array_equal(again, wanted)


def test_shared_memory_without_linux(monkeypatch):
  monkeypatch.delattr(os, "memfd_create", raising=False)
  file = workers._anonymous_file()
  os.ftruncate(file, 100)
  ours, theirs = mmap.mmap(file, 100), mmap.mmap(file, 100)
  ours[7] = 77
  assert theirs[7] == 77
  os.close(file)


def test_signals_are_for_the_process_that_trains(files, two):
  two.decode(files, size=8, resize="crop")
  for process in two._workers.values():
    assert os.getsid(process.pid) != os.getsid(0)


PARENT = """
import os, pathlib, sys, time
from ltjax.data.host import image_files, workers
pool = workers.Workers(1)
pool.decode([pathlib.Path(sys.argv[1])], size=8, resize="crop")
assert "jax" not in sys.modules and "grain" not in sys.modules
print(*[process.pid for process in pool._workers.values()], flush=True)
time.sleep(100)
"""


def test_workers_end_with_a_parent_that_is_killed(files):
  """And they import no JAX, for this process imports what they import."""
  parent = subprocess.Popen(
    [sys.executable, "-c", PARENT, str(files[0])],
    stdout=subprocess.PIPE,
    env=runs.environment(),
  )
  with parent:
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 1 and alive(pids[0])
    parent.send_signal(signal.SIGKILL)
  assert gone(pids)


@pytest.mark.parametrize("count", [-1, 257])
def test_numbers_of_workers(count):
  with pytest.raises(ValueError, match=f"data.workers is {count}; it must be"):
    workers.check(count)


# -- A large set, long-tailed, in shards: trained, stopped, resumed.


def config(source, **changes):
  result = configs.default()
  data = result.data
  data.source = f"arrayrecord:{source}"
  data.labeled.max_count, data.labeled.rho = 120, 10.0
  data.unlabeled.factor = 0.0
  data.validation.per_class = 5
  data.image_size, data.crop_size, data.resize = 6, 4, "crop"
  data.pad = 0
  data.storage = "host"
  result.method = "supervised"
  result.embedding.update(epochs=2, batch_size=32, learning_rate=0.05)
  result.update_from_flattened_dict(changes)
  return result


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
  """3,000 pictures of four classes in eight shards."""
  root = tmp_path_factory.mktemp("large")
  counts = {"train": (1600, 800, 300, 100), "test": (50,) * 4}
  pictures.write_tree(root / "pictures", **counts)
  assert records.write(root / "pictures", root / "shards") == {
    "train": 2800,
    "test": 200,
  }
  return root / "shards"


@pytest.fixture
def small(monkeypatch):
  """The network of the toys, on the mean of the colours; no plots."""
  toy = toys.model()

  def apply(params, stats, images, is_training):
    grey = jnp.mean(images, -1, keepdims=True)
    return toy.apply(params, stats, grey, is_training)

  network = toy._replace(apply=apply, image_shape=(4, 4, 3))
  monkeypatch.setattr(models, "create", lambda *args, **settings: network)
  monkeypatch.setattr(page, "write", lambda workdir: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The folder of a run with threads; the first test that asks runs it."""
  return tmp_path_factory.mktemp("whole")


def run(shards, folder, **changes):
  train.train(config(shards, **changes), str(folder), echo=lambda text: None)


def outcome(folder):
  found = runs.outcome(folder)
  return found["model"], found["metrics"]


def test_stopped_and_resumed_with_workers_it_is_bit_equal(
  shards, small, whole, two, tmp_path, monkeypatch
):
  run(shards, whole)
  settings = {"data.workers": 2, "run.checkpoint_every_s": 1e6}
  read, asked = image_files.ImageFiles.read, []

  def stopping(images, index):
    asked.append(len(index))
    if len(asked) == 4:  # within the first epoch of the stage
      signal.raise_signal(signal.SIGTERM)
    return read(images, index)

  began = train.methods.stages

  def stages(*args):  # The moments of the images are taken by now.
    asked.clear()
    return began(*args)

  monkeypatch.setattr(train.methods, "stages", stages)
  with monkeypatch.context() as patch:
    patch.setattr(image_files.ImageFiles, "read", stopping)
    with pytest.raises(interrupts.Interrupted):
      run(shards, tmp_path, **settings)
  saved = [int(path.name) for path in (tmp_path / "checkpoints").iterdir()]
  assert 0 < max(saved) < 6  # steps of an epoch
  run(shards, tmp_path, **settings)
  assert outcome(tmp_path) == outcome(whole)


def test_the_split_names_the_same_pictures_again(shards, small, whole):
  run(shards, whole)
  again = config(shards, **{"data.split_file": str(whole / "split.json")})
  task = build.build_task(again, toys.one_device(), None)
  assert (
    task.split.hash == json.loads((whole / "split.json").read_text())["hash"]
  )
  assert list(task.split.labeled_counts) == [120, 55, 25, 12]


def test_a_dry_run_tells_where_the_pictures_are(shards, small):
  lines = []
  dry_run.show(config(shards, **{"data.workers": 2}), echo=lines.append)
  text = "\n".join(lines)
  assert "training images              212 of 6 x 6 x 3" in text
  assert "on the host, decoded" in text


@pytest.mark.parametrize(
  "changes, error",
  [
    ({"data.workers": -1}, "data.workers is -1"),
    ({"data.workers": 2, "data.source": "digits"}, "no pictures to decode"),
    ({"data.image_size": 0}, "data.image_size is 0; .* ArrayRecord"),
    ({"data.source": "arrayrecord:nowhere"}, "no ArrayRecord files"),
    ({"data.unlabeled.source": "arrayrecord:nowhere"}, "no ArrayRecord files"),
  ],
)
def test_bad_settings(changes, error, shards, small, tmp_path):
  with pytest.raises((ValueError, FileNotFoundError), match=error):
    train.train(config(shards, **changes), str(tmp_path), echo=print)

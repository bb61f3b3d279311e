"""Images on the host train as images on the device do, bit for bit."""

import dataclasses
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.data.host import host_images
from ltjax.devices import sharding
from ltjax.runs import interrupts
from ltjax.training import fit, prefetch

ROWS = np.arange(5 * 2 * 2 * 1, dtype=np.uint8).reshape(5, 2, 2, 1)


class Recorded(host_images.ArrayImages):
  """Notes what is read, and breaks at an image or holds until released."""

  def __init__(self, array, broken=None, gate=None):
    super().__init__(array)
    self.asked, self.broken, self.gate = [], broken, gate

  def read(self, index):
    self.asked.append([int(i) for i in index])
    if self.gate is not None:
      self.gate.wait(30)
    if self.broken in index:
      raise host_images.BrokenImageError(f"n{self.broken}.JPEG: not whole")
    return super().read(index)


def on_host(learner, make=host_images.ArrayImages):
  """Returns the learner, its images taken to the host."""
  task = learner.task
  names = ("images", "test_images", "validation_images")
  moved = {name: make(np.asarray(getattr(task, name))) for name in names}
  return dataclasses.replace(learner, task=dataclasses.replace(task, **moved))


class Spy:
  """Stands for all images in a step, and notes which it reads."""

  def __init__(self, images):
    self.shape, self.read = images.shape, []

  def __len__(self):
    return self.shape[0]

  def __getitem__(self, index):
    self.read.append(index)
    return jnp.zeros((*index.shape, *self.shape[1:]), jnp.uint8)


def images_read(stage, state, index, arrays):
  """Returns the indices of the images that a step reads, by source of images.

  What the step does with the images is traced, but not compiled.
  """

  def step(state, index):
    spies = []

    def spy(leaf):
      if isinstance(leaf, host_images.HostImages):
        leaf = Spy(leaf)
        spies.append(leaf)
      return leaf

    stage.step(state, index, jax.tree.map(spy, arrays))
    return [spy.read for spy in spies]

  return jax.jit(step)(state, index)


@pytest.mark.parametrize("case", toys.WITH_OWN_STEPS)
def test_a_step_reads_the_images_of_its_batch_and_no_others(case):
  """So that those are all it needs. A step on features needs none."""
  learner = on_host(toys.learner(pad=1, flip=True))
  state, seen = learner.init(), 0
  for stage in toys.stages(case, learner, loops=1, epochs=1):
    train = None
    if stage.steps:
      train = stage.init(state)
      arrays, stream = stage.prepare(state)
      index = stream(0)[0]
      for read in images_read(stage, train, index, arrays):
        assert {i for part in read for i in part.ravel().tolist()} == set(
          index.ravel().tolist()
        )
        seen += 1
    state = stage.finish(state, train)
  assert seen or case in ("classifier", "refit")


@pytest.mark.parametrize("case", ["consistency", "rotation", "vat"])
def test_same_bits_as_on_the_device(case, tmp_path, optimized):
  results = []
  for name, move in (("device", lambda x: x), ("host", on_host)):
    learner = move(toys.learner(pad=1, flip=True, validation=2))
    stages = toys.stages(case, learner, loops=1, epochs=1)
    state, rows = toys.execute(tmp_path / name, learner, stages)
    results.append((toys.host(state), rows))
  (state, rows), (host_state, host_rows) = results
  toys.assert_same(host_state, state)
  assert host_rows == rows


def test_many_steps_a_call_become_one(tmp_path):
  """An accelerator would run an epoch in a call."""
  learner = toys.learner()
  expected, _ = toys.execute(
    tmp_path / "device", learner, toys.stages("embedding", learner)
  )
  learner = on_host(learner)
  state, _ = toys.execute(
    tmp_path / "host",
    learner,
    toys.stages("embedding", learner),
    steps_per_call=5,
  )
  toys.assert_same(state, expected)


def test_four_devices_agree(tmp_path):
  learner = toys.learner(mesh=sharding.make_mesh(4))
  stages = toys.stages("consistency", learner)
  expected, _ = toys.execute(tmp_path / "device", learner, stages)
  learner = on_host(learner)
  stages = toys.stages("consistency", learner)
  state, _ = toys.execute(tmp_path / "host", learner, stages)
  pairs = zip(jax.tree.leaves(toys.host(state)), jax.tree.leaves(expected))
  for found, wanted in pairs:
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


class Stop:
  """A progress display that does something at a tick."""

  def __init__(self, tick, action):
    self._left, self._action = tick, action

  def update(self, *unused):
    self._left -= 1
    if self._left == 0:
      self._action()

  def stage(self, *unused, resumed_at):
    pass

  def skip(self, images):
    pass

  def message(self, text):
    pass


@pytest.mark.parametrize("tick", [1, 4, 7, 10])
def test_stopped_and_resumed_it_gives_the_same_bits(tick, tmp_path):
  learner = on_host(toys.learner(pad=1, flip=True))
  stages = toys.stages("embedding", learner)
  whole, whole_rows = toys.execute(tmp_path / "whole", learner, stages)
  stop = Stop(tick, lambda: signal.raise_signal(signal.SIGINT))
  folder = tmp_path / "stopped"
  with pytest.raises(interrupts.Interrupted):
    toys.execute(folder, learner, stages, progress=stop)
  state, rows = toys.execute(folder, learner, stages)
  toys.assert_same(state, whole)
  assert rows == whole_rows


def test_a_step_is_traced_once(tmp_path):
  toy, traces = toys.model(), []

  def apply(*args):
    traces.append(args[-1])
    return toy.apply(*args)

  learner = on_host(toys.learner(network=toy._replace(apply=apply)))
  toys.execute(tmp_path, learner, toys.stages("embedding", learner))
  # The training step, and the test images in evaluation mode.
  assert traces.count(True) == 1 and traces.count(False) <= 1


# -- What is read, and when.


def batches(*indices):
  return [np.array(index, np.int32) for index in indices]


def test_each_batch_gets_its_rows_in_order():
  images = Recorded(ROWS)
  labels = jnp.arange(5)
  indices = batches([0, 1], [4, 2], [3, 3], [1, 0])
  given = prefetch.ahead(
    {"images": images, "labels": labels}, indices, toys.one_device()
  )
  read = jax.jit(lambda arrays, i: prefetch.bind(arrays, i)["images"][i])
  for index, arrays in zip(indices, given, strict=True):
    np.testing.assert_array_equal(read(arrays, index), ROWS[index])
    np.testing.assert_array_equal(arrays["labels"], labels)
    assert len(arrays["images"]) == 5
    assert arrays["images"].shape == (5, 2, 2, 1)
  assert images.asked == [i.tolist() for i in indices]


def test_only_the_rows_of_this_process_are_read(monkeypatch):
  """Of several hosts, each has every other image here."""

  def assemble(rows, mesh):
    del mesh
    return jnp.repeat(jnp.asarray(rows), 2, axis=0)

  monkeypatch.setattr(sharding, "local", lambda index, mesh: index[::2])
  monkeypatch.setattr(sharding, "assemble", assemble)
  images, index = Recorded(ROWS), np.array([0, 1, 4, 2], np.int32)
  (given,) = prefetch.ahead(images, [index], toys.one_device())
  assert images.asked == [[0, 4]]
  rows = prefetch.bind(given, index)[index]
  np.testing.assert_array_equal(rows, ROWS[[0, 0, 4, 4]])


def test_rows_are_read_ahead_but_not_far():
  images = Recorded(ROWS)
  given = prefetch.ahead(
    images, batches(*[[i % 5] for i in range(20)]), toys.one_device()
  )
  next(given)
  deadline = time.monotonic() + 10
  while len(images.asked) < 3 and time.monotonic() < deadline:
    time.sleep(0.01)
  time.sleep(0.05)
  assert len(images.asked) == 3


def test_the_next_batch_is_read_while_a_step_runs():
  gate = threading.Event()
  images = Recorded(ROWS)
  given = prefetch.ahead(images, batches([0], [1], [2], [3]), toys.one_device())
  next(given)
  images.gate = gate
  threading.Timer(0.05, gate.set).start()
  assert len(list(given)) == 3


def test_a_part_of_the_batch_may_be_read():
  index = jnp.array([4, 1, 3])
  rows = prefetch.bind(
    prefetch.Gathered(jnp.asarray(ROWS[[4, 1, 3]]), 5), index
  )
  np.testing.assert_array_equal(rows[index[1:]], ROWS[[1, 3]])
  np.testing.assert_array_equal(rows[jnp.array([3, 4])], ROWS[[3, 4]])
  both = jnp.stack([index, index[::-1]])
  np.testing.assert_array_equal(rows[both], ROWS[np.asarray(both)])


def test_unbound_rows_are_refused():
  rows = prefetch.Gathered(jnp.asarray(ROWS[:2]), 5)
  with pytest.raises(TypeError, match="within a step"):
    rows[jnp.array([0, 1])]


def test_arrays_alone_are_handed_on():
  arrays = {"images": jnp.asarray(ROWS)}
  assert not prefetch.on_host(arrays)
  assert prefetch.on_host({"images": host_images.ArrayImages(ROWS)})
  (given,) = prefetch.ahead(arrays, batches([0]), toys.one_device())
  np.testing.assert_array_equal(given["images"], ROWS)


# -- What goes wrong.


def test_a_broken_image_is_told_when_its_batch_is_due():
  given = prefetch.ahead(
    Recorded(ROWS, broken=3), batches([0], [1], [3], [2]), toys.one_device()
  )
  next(given), next(given)
  with pytest.raises(host_images.BrokenImageError, match="n3.JPEG: not whole"):
    next(given)


def workers():
  return [t for t in threading.enumerate() if t.name.startswith("gather")]


def test_a_closed_reader_leaves_nothing_behind():
  images = Recorded(ROWS)
  given = prefetch.ahead(images, batches(*[[0]] * 50), toys.one_device())
  next(given)
  given.close()
  deadline = time.monotonic() + 10
  while workers() and time.monotonic() < deadline:
    time.sleep(0.01)
  assert not workers()
  assert len(images.asked) <= 4


def test_the_state_before_a_broken_image_is_good():
  learner = on_host(toys.learner(), lambda x: Recorded(x, broken=11))
  (stage,) = toys.stages("embedding", learner)
  arrays, stream = stage.prepare(learner.init())
  due = int(np.argmax((stream(0) == 11).any(1)))
  ticks, last = [], None
  with pytest.raises(host_images.BrokenImageError):
    for tick in fit.fit(
      stage,
      stage.init(learner.init()),
      arrays,
      stream,
      mesh=learner.mesh,
    ):
      ticks.append(tick.step)
      last = tick.state
  assert ticks == list(range(1, due + 1))
  if last is not None:
    assert int(last.step) == due  # not donated


# 11 is a labeled image; the epochs have 5 steps.
@pytest.mark.parametrize("every", [0, 60])
def test_a_run_saves_before_it_stops_at_a_broken_image(every, tmp_path):
  learner = on_host(toys.learner(pad=1, flip=True))
  stages = toys.stages("embedding", learner)
  whole, whole_rows = toys.execute(tmp_path / "whole", learner, stages)

  broken = on_host(
    toys.learner(pad=1, flip=True), lambda x: Recorded(x, broken=11)
  )
  stages = toys.stages("embedding", broken)
  _, stream = stages[0].prepare(broken.init())
  due = int(np.argmax((stream(0) == 11).any(1)))
  assert due > 0
  folder = tmp_path / "broken"
  for _ in range(2):  # The second time nothing is left to save.
    with pytest.raises(host_images.BrokenImageError, match="n11.JPEG"):
      toys.execute(folder, broken, stages, checkpoint_every_s=every)
    saved = [int(path.name) for path in (folder / "checkpoints").iterdir()]
    assert max(saved) % 1_000_000_000 == due
  stages = toys.stages("embedding", learner)
  state, rows = toys.execute(folder, learner, stages)
  toys.assert_same(state, whole)
  assert rows == whole_rows


def test_a_broken_test_image_costs_no_training(tmp_path):
  learner = on_host(toys.learner())
  whole, whole_rows = toys.execute(
    tmp_path / "whole", learner, toys.stages("decoupling", learner)
  )
  task = dataclasses.replace(
    learner.task, test_images=Recorded(learner.task.test_images, broken=11)
  )
  broken = dataclasses.replace(learner, task=task)
  folder = tmp_path / "broken"
  with pytest.raises(host_images.BrokenImageError, match="n11.JPEG"):
    toys.execute(folder, broken, toys.stages("decoupling", broken))
  saved = [int(path.name) for path in (folder / "checkpoints").iterdir()]
  assert max(saved) == 10  # the steps of the first stage, all done
  state, rows = toys.execute(
    folder, learner, toys.stages("decoupling", learner)
  )
  toys.assert_same(state, whole)
  assert rows == whole_rows

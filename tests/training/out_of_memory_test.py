"""What is refused, and which batch would fit."""

import programs
import pytest

from ltjax.training import memory_check

MB = programs.MB


def test_what_fits_is_let_pass():
  memory_check.check(programs.estimate(), programs.batch(), None)
  memory_check.check(programs.estimate(), programs.batch(), 116 * MB)
  with pytest.raises(memory_check.OutOfMemoryError):
    memory_check.check(programs.estimate(), programs.batch(), 116 * MB - 1)
  with pytest.raises(memory_check.OutOfMemoryError):
    memory_check.check(programs.estimate(None), programs.batch(), None)


def needs(size):
  """A megabyte an image, and some that does not depend on the batch."""
  return size * MB - 10


@pytest.mark.parametrize("room", [99, 51, 50, 49.5, 30, 8, 2.5, 1.5])
@pytest.mark.parametrize("multiple", [1, 4])
def test_the_batch_that_fits_does_fit_and_is_near_the_limit(room, multiple):
  asked = []
  most = programs.estimate().resting + int(room * MB)
  size, compiled = memory_check.largest(
    programs.estimate(needs(100) + 10),
    programs.batch(needs, multiple=multiple, asked=asked),
    most,
  )
  assert len(asked) <= 4
  assert size % multiple == 0
  if size == 0:
    assert room < 2 * multiple
    return
  assert compiled and asked[-1] == size and needs(size) + 10 <= room * MB
  assert size >= 0.9 * room - max(8, multiple)


def test_steps_in_the_memory_of_batches_are_no_trap():
  """As where the hardware's tiles are filled: the line is a guess only."""

  def tiled(size):
    return -(-size // 32) * 32 * MB

  most = programs.estimate().resting + 60 * MB
  size, compiled = memory_check.largest(
    programs.estimate(tiled(256)), programs.batch(tiled, size=256), most
  )
  assert tiled(size) <= 60 * MB and size == 32
  assert not compiled  # It is said to fit with less certainty.


def test_a_program_that_xla_refused_to_compile_is_halved():
  def refused(size):
    return None if size > 30 else needs(size)

  size, compiled = memory_check.largest(
    programs.estimate(None),
    programs.batch(refused, size=128),
    programs.estimate().resting + 25 * MB,
  )
  assert compiled and 8 <= size <= 25


def test_without_another_program_temporaries_grow_with_the_batch():
  most = programs.estimate().resting + 50 * MB
  assert memory_check.largest(
    programs.estimate(), programs.batch(size=64), most
  ) == (32, False)
  assert memory_check.largest(
    programs.estimate(None), programs.batch(size=64), most
  ) == (32, False)
  # The device has not what it said: half, unless a half is nothing.
  assert memory_check.largest(
    programs.estimate(), programs.batch(needs, 64), None
  ) == (32, False)
  assert memory_check.largest(
    programs.estimate(), programs.batch(needs, 1), None
  ) == (0, False)


def test_if_data_alone_are_too_large_no_batch_fits():
  assert memory_check.largest(
    programs.estimate(), programs.batch(needs), 16 * MB
  ) == (0, False)
  assert memory_check.largest(
    programs.estimate(), programs.batch(needs, 1), 17 * MB
  ) == (0, False)


def test_the_message_tells_parts_limit_and_ways_out():
  most = programs.estimate().resting + 40 * MB
  text = memory_check.message(
    programs.estimate(needs(100) + 10), programs.batch(needs), most
  )
  size, _ = memory_check.largest(
    programs.estimate(needs(100) + 10), programs.batch(needs), most
  )
  for part in (
    "Stage toy does not fit on the device. It needs about 116.0 MiB (10.0 MiB"
    " of data, 5.0 MiB of state, 1.0 MiB held for other stages, 100.0 MiB of"
    " temporaries), and the device has 56.0 MiB.",
    f"--config.toy.batch_size={size} fits (it is 100 now).",
    "--config.model.dtype=bfloat16, and on each of more devices",
    "--config.run.memory_limit_gib",
    "What is saved stays; other settings need another --workdir.",
  ):
    assert part in text, part
  assert "held" not in memory_check.message(
    programs.estimate(held=0), programs.batch(needs), most
  )
  unsure = memory_check.message(programs.estimate(), programs.batch(), most)
  assert "batch_size=40 should fit (it is 100 now)" in unsure


def test_other_messages():
  nothing = memory_check.message(
    programs.estimate(), programs.batch(needs), 9 * MB
  )
  assert "and the device has 9.0 MiB. No --config.toy.batch_size fits (it" in (
    nothing
  )
  assert "--config.data.storage=host" in nothing
  assert "which the device did not have" in memory_check.message(
    programs.estimate(), programs.batch(needs), None
  )
  refused = memory_check.message(
    programs.estimate(None), programs.batch(needs), 900 * MB
  )
  assert "XLA cannot place its temporaries beside 10.0 MiB of data" in refused

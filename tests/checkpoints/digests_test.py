"""Digests: of every bit and its place, however the rows are split."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax.checkpoints import digests
from ltjax.devices import sharding


def rows(count=8, seed=0):
  return np.random.default_rng(seed).random((count, 3), np.float32)


def slow(x):
  """The sums of `checksum`, an element at a time, in Python's integers."""

  def hashed(number):
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
      number = ((number ^ (number >> shift)) * factor) % 2**32
    return number ^ (number >> 16)

  bits = x.view(np.uint32).reshape(-1).tolist()
  return [
    sum(hashed(hashed((i + seed) % 2**32) ^ b) for i, b in enumerate(bits))
    % 2**32
    for seed in (0x9E3779B9, 0x3C6EF372)
  ]


def test_the_checksum_is_a_sum_of_hashes():
  found = digests.checksum(rows())
  assert found.dtype == np.uint32 and found.tolist() == slow(rows())


@pytest.mark.parametrize("devices", [2, 4])
def test_the_checksum_does_not_depend_on_how_rows_are_split(devices):
  split = jax.device_put(rows(), sharding.batched(sharding.make_mesh(devices)))
  assert not split.is_fully_replicated
  assert digests.checksum(split).tolist() == slow(rows())


def test_the_checksum_notices_each_change():
  wanted = digests.checksum(rows()).tolist()
  changed = []
  for place in (0, 11, 23):  # the lowest bit of one element
    x = rows()
    x.view(np.uint32).reshape(-1)[place] ^= 1
    changed.append(x)
  changed += [np.roll(rows(), 1, 0), rows()[:, ::-1].copy(), -rows()]
  for x in changed:
    assert digests.checksum(x).tolist() != wanted


def test_summed_arrays_enter_by_their_sums():
  tree = {"a": jnp.arange(3), "m": jnp.asarray(rows())}
  whole, summed = digests.digest(tree), digests.digest(tree, ["['m']"])
  assert whole != summed
  on_four = toys.host(tree) | {
    "m": jax.device_put(rows(), sharding.batched(sharding.make_mesh(4)))
  }
  assert digests.digest(on_four) == whole
  assert digests.digest(on_four, ["['m']"]) == summed
  other = tree | {"m": tree["m"].at[3, 1].add(1.0)}
  assert digests.digest(other, ["['m']"]) != summed


def test_scalars_are_digested_as_one_element():
  """So were they in checkpoints from before arrays were split."""
  assert digests.digest({"x": jnp.float32(2)}) == digests.digest(
    {"x": jnp.full((1,), 2.0)}
  )


def test_one_process_has_all_arrays_whole():
  split = jax.device_put(rows(), sharding.batched(sharding.make_mesh(4)))
  assert not digests.in_parts(split) and not digests.in_parts(rows())
  assert digests.paths_in_parts({"m": split}) == []

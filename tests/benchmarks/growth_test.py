import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.benchmarks import clock, growth


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_exponent(power):
  sizes = (10, 100, 1000, 10_000)
  costs = [3 * size**power for size in sizes]
  assert growth.exponent(sizes, costs) == pytest.approx(power)
  # Overheads of the small sizes are not what it tells.
  costs[0] = costs[1] = costs[2]
  assert growth.exponent(sizes, costs) == pytest.approx(power)
  assert growth.exponent((2, 4), [1.0, 2.0**power]) == pytest.approx(power)


def test_costs_of_nothing_do_not_grow():
  assert growth.exponent((1, 2, 4), [0, 0, 0]) == pytest.approx(0.0)


def test_sizes():
  assert growth.sizes(10**4, 10**7) == (10**4, 10**5, 10**6, 10**7)
  assert growth.sizes(10, 40, points=3) == (10, 20, 40)
  assert growth.sizes(10, 5) == (10,)


def test_memory_on_the_host():
  work = growth.on_host(lambda: np.zeros(10**6, np.uint8))
  assert 10**6 <= work.memory_bytes < 1.1 * 10**6
  assert len(work.run()) == 10**6
  kept = growth.on_host(lambda: len(np.zeros(10**6, np.uint8)))
  assert kept.memory_bytes >= 10**6


def test_memory_on_the_device():
  x = jnp.ones((50, 50))
  work = growth.on_device(jnp.sin, x)
  assert work.memory_bytes >= 2 * 4 * 50 * 50
  np.testing.assert_allclose(work.run(), np.sin(1.0), rtol=1e-6)


@pytest.mark.parametrize("limit, good", [(1.0, False), (2.0, True)])
def test_measures(limit, good, monkeypatch):
  # The least counts; the first is to warm up.
  factors = iter(3 * [0.1, 5.0, 1.0, 2.0])
  monkeypatch.setattr(
    clock, "seconds", lambda run: (next(factors) * run() ** 2, 0.0)
  )
  case = growth.Case(
    "squares", "rows", (1, 2, 4), lambda n: growth.Work(lambda: n, 8 * n), limit
  )
  assert growth.measure(case, repeats=3) == {
    "name": "squares",
    "variable": "rows",
    "sizes": [1, 2, 4],
    "seconds": [1.0, 4.0, 16.0],
    "memory_bytes": [8, 16, 32],
    "exponent": pytest.approx(2.0),
    "memory_exponent": pytest.approx(1.0),
    "limit": limit,
    "as_it_should": good,
  }


def test_what_another_process_timed_is_taken_at_its_word():
  case = growth.Case(
    "epoch", "devices", (1, 2, 4), lambda n: growth.Done(3.0 * n, 8), 0.0
  )
  found = growth.measure(case, repeats=3)
  assert found["seconds"] == [3.0, 6.0, 12.0]
  assert found["exponent"] == pytest.approx(1) and not found["as_it_should"]

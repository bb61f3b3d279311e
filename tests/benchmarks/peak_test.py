import jax
import pytest

from benchmarks import peak


def test_the_best_size_counts(monkeypatch):
  # Timings of 4, 2 (size 8), then 1024, 512 seconds (size 16).
  ends = iter([0, 4, 0, 2, 0, 1024, 0, 512])
  monkeypatch.setattr(peak.time, "perf_counter", lambda: next(ends))
  found = peak.measure(dtype="float32", sizes=(8, 16), repeats=2, rounds=3)
  assert found == {
    "flops_per_second": 3 * 2 * 8**3 / 2,
    "size": 8,
    "sizes": [8, 16],
  }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_measures(dtype):
  found = peak.measure(
    dtype=dtype, device=jax.devices()[1], sizes=(8,), repeats=1
  )
  assert found["flops_per_second"] > 0

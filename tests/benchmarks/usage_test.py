import jax
import jax.numpy as jnp

from benchmarks import usage


def test_plan_of_a_compiled_call():
  x = jax.ShapeDtypeStruct((100, 100), jnp.float32)
  size = 4 * 100 * 100

  def compiled(function, **options):
    return usage.of_compiled(jax.jit(function, **options).lower(x).compile())

  plain, donated = compiled(jnp.sin), compiled(jnp.sin, donate_argnums=0)
  assert plain >= 2 * size
  assert plain - donated == size  # The result lies where the argument was.
  between = compiled(lambda x: jnp.sum(jnp.sort(x @ x, 0) @ x))
  assert between >= 2 * size


class Device:
  def __init__(self, stats):
    self.memory_stats = lambda: stats


def test_what_the_process_held():
  without = usage.of_process(Device(None))
  assert set(without) == {"host_bytes"}
  assert without["host_bytes"] > 2**24  # Python with JAX is larger than that.
  counted = usage.of_process(Device({"peak_bytes_in_use": 7}))
  assert counted["device_bytes"] == 7
  assert "device_bytes" not in usage.of_process(Device({"other": 7}))


def test_macos_counts_bytes(monkeypatch):
  linux = usage.of_process(Device(None))["host_bytes"]
  monkeypatch.setattr(usage.sys, "platform", "darwin")
  assert usage.of_process(Device(None))["host_bytes"] < linux / 512

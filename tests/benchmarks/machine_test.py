import json
import re

from benchmarks import machine


def test_describes_this_machine():
  found = machine.describe()
  assert json.loads(json.dumps(found)) == found
  assert found["device"] == "cpu" and found["devices"] == 4
  assert found["cores"] >= 1 and found["processor"]
  assert {"jax", "flax"} <= set(found["versions"])
  assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", found["date"])


def test_slug():
  assert machine.slug("NVIDIA H200") == "nvidia_h200"
  assert machine.slug("TPU v5 lite") == "tpu_v5_lite"
  assert machine.slug("cpu") == "cpu"


def test_processor_falls_back(monkeypatch):
  monkeypatch.setattr(machine, "_processors", lambda: iter(()))
  assert machine.describe()["processor"] == machine.platform.machine()

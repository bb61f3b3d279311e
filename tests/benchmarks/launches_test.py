import pytest

from benchmarks import budget as budgets
from benchmarks import launches, measure

SHAPE = {"model": "any", "image": 8, "dtype": "float32", "steps": 2}


def found(seconds):
  """Stands for `measure.measure`, whose steps take `seconds(batch)`."""

  def fake(*, batch_size, budget=None, **unused):
    result = {"machine": {"device": "cpu", "load": 0.1}, "loops": {}}
    if budget and not budget.left:
      return result | {"stopped": "5 s are over"}
    speed = batch_size / seconds(batch_size)
    made = {"kernels": 50.0, "kinds": {"fusion": 50.0}, "transposes": 0.0}
    made |= {"convolutions": {"b01f_01io->b01f": 9.0}, "graphs": 0}
    row = {"images_per_second": {"median": speed}, "mfu": 0.25}
    result["loops"]["epoch"] = row | {"made_of": made, "mfu_of_card": 0.5}
    return result

  return fake


def test_what_is_fixed_is_told(monkeypatch):
  monkeypatch.setattr(measure, "measure", found(lambda b: 0.004 + 1e-5 * b))
  said = []
  result = launches.measure(**SHAPE, say=lambda line, so_far: said.append(line))
  assert result["fixed"] == pytest.approx(0.004)
  assert result["per_image"] == pytest.approx(1e-5)
  row = result["rows"]["128"]
  assert row["seconds_per_kernel"] == pytest.approx(0.00528 / 50)
  assert [line.split(":")[0] for line in said] == [
    *("batch 128", "batch 512", "batch 2048")
  ]
  text = launches.text(result)
  assert "whatever the batch, 76% of the smallest" in text
  assert "25.0%" in text and "50.0%" in text and "50 kernels" in text


def test_what_was_measured_is_kept(monkeypatch):
  monkeypatch.setattr(measure, "measure", found(lambda b: 1.0))

  class Short(budgets.Budget):
    turns = 2

    @property
    def left(self):
      self.turns -= 1
      return max(self.turns, 0)

  result = launches.measure(**SHAPE, budget=Short())
  assert list(result["rows"]) == ["128"] and "fixed" not in result
  assert "Not all was measured: 5 s are over." in launches.text(result)

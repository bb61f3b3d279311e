import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.optim import schedules


def values(schedule, steps):
  return np.array([float(schedule(t)) for t in range(steps)])


def test_cosine_golden():
  schedule = schedules.make("cosine", learning_rate=0.1, total_steps=4)
  expected = [0.1, 0.0853553, 0.05, 0.0146447, 0.0, 0.0, 0.0]
  np.testing.assert_allclose(values(schedule, 7), expected, atol=1e-7)


def test_cosine_equals_the_recursion_of_pytorch():
  # PyTorch's CosineAnnealingLR multiplies the last rate by a ratio of
  # (1 + cos) terms each step.
  total, rate = 37, 0.3
  expected = [rate]
  for t in range(1, total):
    now, before = (1 + math.cos(math.pi * s / total) for s in (t, t - 1))
    expected.append(expected[-1] * now / before)
  schedule = schedules.make("cosine", learning_rate=rate, total_steps=total)
  np.testing.assert_allclose(values(schedule, total), expected, rtol=2e-4)


def test_seven_sixteenths_of_pi_golden():
  schedule = schedules.make("cosine_7_16", learning_rate=0.03, total_steps=8)
  expected = [0.03 * math.cos(7 * math.pi * t / 128) for t in range(9)]
  np.testing.assert_allclose(values(schedule, 9), expected, rtol=1e-6)
  assert values(schedule, 12)[-1] == pytest.approx(0.03 * 0.19509032)


def test_step_golden():
  schedule = schedules.make(
    "step", learning_rate=1.0, total_steps=10, milestones=(0.5, 0.8)
  )
  expected = [1.0] * 5 + [0.1] * 3 + [0.01] * 4
  np.testing.assert_allclose(values(schedule, 12), expected, rtol=1e-6)


def test_step_factor_and_rounding():
  schedule = schedules.make(
    "step", learning_rate=0.8, total_steps=7, milestones=(0.8,), factor=0.5
  )
  expected = [0.8] * 6 + [0.4]  # round(5.6) = 6.
  np.testing.assert_allclose(values(schedule, 7), expected, rtol=1e-6)


def test_constant():
  schedule = schedules.make("constant", learning_rate=0.01, total_steps=3)
  np.testing.assert_allclose(values(schedule, 5), [0.01] * 5, rtol=1e-6)


def test_warmup_then_cosine():
  schedule = schedules.make(
    "cosine", learning_rate=0.4, total_steps=8, warmup_steps=4
  )
  expected = [0.1, 0.2, 0.3, 0.4, 0.4, 0.3414214, 0.2, 0.0585786, 0.0]
  np.testing.assert_allclose(values(schedule, 9), expected, atol=1e-7)


def test_warmup_counts_into_the_milestones():
  schedule = schedules.make(
    "step",
    learning_rate=1.0,
    total_steps=4,
    warmup_steps=2,
    milestones=(0.75,),
  )
  np.testing.assert_allclose(values(schedule, 4), [0.5, 1, 1, 0.1], rtol=1e-6)


def test_warmup_in_stairs():
  schedule = schedules.make(
    "constant",
    learning_rate=0.6,
    total_steps=8,
    warmup_steps=6,
    warmup_every=2,
  )
  expected = [0.2, 0.2, 0.4, 0.4, 0.6, 0.6, 0.6, 0.6]
  np.testing.assert_allclose(values(schedule, 8), expected, rtol=1e-6)


@pytest.mark.parametrize("name", schedules.NAMES)
@pytest.mark.parametrize("warmup", [0, 2])
def test_traced_array_and_integer_steps_agree(name, warmup):
  schedule = schedules.make(
    name,
    learning_rate=0.1,
    total_steps=6,
    warmup_steps=warmup,
    milestones=(0.5,) if name == "step" else (),
    final_learning_rate=0.01 if name == "exponential" else 0.0,
  )
  steps = jnp.arange(8)
  batch = jax.jit(schedule)(steps)
  assert batch.dtype == jnp.float32 and batch.shape == (8,)
  np.testing.assert_allclose(batch, values(schedule, 8), rtol=1e-6, atol=1e-9)
  one = jax.jit(schedule)(jnp.int32(3))
  assert one.shape == () and one.dtype == jnp.float32


def test_a_million_steps():
  total = 2**20
  schedule = schedules.make("cosine", learning_rate=0.03, total_steps=total)
  for t in (0, 1, total // 3, total - 1):
    expected = 0.015 * (1 + math.cos(math.pi * t / total))
    np.testing.assert_allclose(float(schedule(t)), expected, atol=3e-9)


@pytest.mark.parametrize(
  "kwargs, message",
  [
    ({"name": "cos"}, "schedule is 'cos'; .* cosine_7_16, step, constant"),
    ({"learning_rate": 0.0}, "learning_rate is 0.0; .* above 0 and finite"),
    ({"learning_rate": -0.1}, "learning_rate is -0.1; .* above 0 and finite"),
    (
      {"learning_rate": math.inf},
      "learning_rate is inf; .* above 0 and finite",
    ),
    (
      {"learning_rate": math.nan},
      "learning_rate is nan; .* above 0 and finite",
    ),
    ({"total_steps": 0}, "1 step or more, not 0"),
    ({"warmup_steps": 10}, "from 0 to 9 of the 10 steps, not 10"),
    ({"warmup_steps": -1}, "from 0 to 9 of the 10 steps, not -1"),
    ({"warmup_steps": 6, "warmup_every": 4}, "every 4 steps; .* 6 steps"),
    ({"warmup_every": 0}, "every 0 steps"),
    ({"milestones": (0.5,)}, r"\(0.5,\) have no meaning in .*'cosine'"),
    ({"name": "step"}, "'step' needs milestones"),
    ({"name": "step", "milestones": (160, 180)}, "divide steps by .* 10"),
    ({"name": "step", "milestones": (0.8, 0.5)}, "rising fractions"),
    ({"name": "step", "milestones": (0.5, 0.5)}, "rising fractions"),
    ({"name": "step", "milestones": (0.0,)}, "rising fractions"),
    (
      {"name": "step", "milestones": (0.5,), "factor": 0.0},
      r"decay_factor is 0.0; it must be in \(0, 1\]",
    ),
    (
      {"name": "step", "milestones": (0.5,), "factor": 2.0},
      "decay_factor is 2.0",
    ),
  ],
)
def test_errors(kwargs, message):
  arguments = {"name": "cosine", "learning_rate": 0.1, "total_steps": 10}
  arguments |= kwargs
  with pytest.raises(ValueError, match=message):
    schedules.make(arguments.pop("name"), **arguments)


def test_exponential_golden():
  schedule = schedules.make(
    "exponential", learning_rate=0.1, total_steps=4, final_learning_rate=1e-5
  )
  expected = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-5]
  np.testing.assert_allclose(values(schedule, 6), expected, rtol=1e-5)


def test_exponential_multiplies_by_one_factor_after_the_warm_up():
  schedule = schedules.make(
    "exponential",
    learning_rate=0.3,
    total_steps=40,
    warmup_steps=10,
    final_learning_rate=0.006,
  )
  rates = values(schedule, 41)
  np.testing.assert_allclose(rates[:10], 0.03 * np.arange(1, 11), rtol=1e-5)
  ratios = rates[11:] / rates[10:-1]
  np.testing.assert_allclose(ratios, 0.02 ** (1 / 30), rtol=1e-5)
  np.testing.assert_allclose(rates[-1], 0.006, rtol=1e-5)


def test_exponential_to_where_it_starts_is_constant():
  schedule = schedules.make(
    "exponential", learning_rate=0.2, total_steps=5, final_learning_rate=0.2
  )
  np.testing.assert_allclose(values(schedule, 6), [0.2] * 6, rtol=1e-6)


@pytest.mark.parametrize("final", [0.0, -1e-3, 0.2, float("nan")])
def test_exponential_needs_a_final_rate_in_range(final):
  with pytest.raises(ValueError, match=f"above 0 and at most the 0.1.*{final}"):
    schedules.make(
      "exponential",
      learning_rate=0.1,
      total_steps=5,
      final_learning_rate=final,
    )


@pytest.mark.parametrize("name", ["cosine", "constant", "step"])
def test_a_final_rate_of_another_schedule_is_refused(name):
  with pytest.raises(ValueError, match=f"0.01 has no meaning .*{name!r}"):
    schedules.make(
      name, learning_rate=0.1, total_steps=5, final_learning_rate=0.01
    )


def test_golden():
  found = [float(schedules.sigmoid(jnp.int32(t), length=4)) for t in range(7)]
  expected = [0.0067379, 0.0600547, 0.2865048, 0.7316156, 1.0, 1.0, 1.0]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_end_points():
  assert float(schedules.sigmoid(jnp.int32(0), length=100)) == pytest.approx(
    np.exp(-5), rel=1e-6
  )
  for step in (100, 101, 10**9):
    assert float(schedules.sigmoid(jnp.int32(step), length=100)) == 1.0


def test_rises_and_is_jittable():
  ramp = jax.jit(lambda t: schedules.sigmoid(t, length=12.5))
  values = [float(ramp(jnp.int32(t))) for t in range(20)]
  assert all(a < b for a, b in zip(values[:13], values[1:14], strict=True))
  assert values[13:] == [1.0] * 7
  assert ramp(jnp.int32(3)).dtype == jnp.float32


def test_no_ramp_is_1_from_the_first_step():
  assert float(schedules.sigmoid(jnp.int32(0), length=0.0)) == 1.0


def test_a_negative_length_is_a_defect():
  with pytest.raises(AssertionError):
    schedules.sigmoid(jnp.int32(0), length=-1)


def wave(t, low=0.1, high=1.0, period=400):
  return float(schedules.cosine_wave(t, low=low, high=high, period=period))


def test_wave_golden():
  """The published schedule: 1 at first, 0.1 at epoch 200, 1 again at 400."""
  found = [wave(t) for t in (0, 50, 100, 200, 300, 400, 600)]
  expected = [1.0, 0.868198, 0.55, 0.1, 0.55, 1.0, 0.1]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_wave_ends_are_exact():
  for period in (400, 7, 0.3):
    assert wave(0, period=period) == 1.0
    assert wave(period / 2, period=period) == np.float32(0.1)


def test_wave_repeats_and_stays_between():
  times = np.linspace(0, 40, 200)
  values = [wave(t, period=20) for t in times]
  assert 0.1 <= min(values) and max(values) <= 1.0
  later = [wave(t + 20, period=20) for t in times]
  np.testing.assert_allclose(values, later, atol=1e-4)


def test_wave_of_equal_ends_is_constant():
  assert {wave(t, low=0.5, high=0.5) for t in range(0, 400, 37)} == {0.5}


def test_wave_is_jittable():
  found = jax.jit(lambda t: schedules.cosine_wave(t, low=0, high=2, period=4))
  assert found(jnp.int32(1)).dtype == jnp.float32
  np.testing.assert_allclose(found(jnp.int32(1)), 1.0, atol=1e-6)


@pytest.mark.parametrize("period", [0, -400, float("nan")])
def test_wave_needs_a_period(period):
  with pytest.raises(ValueError, match="must be above 0, such as 400 epochs"):
    wave(1, period=period)

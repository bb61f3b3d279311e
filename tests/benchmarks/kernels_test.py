import jax
import jax.numpy as jnp
import pytest

from benchmarks import kernels

# As XLA writes it for a GPU: an epoch's loop of a step of four kernels, one of
# them in a command buffer, one launched three times by a loop of its own.
TEXT = """HloModule jit_many_steps, is_scheduled=true

%fused_transpose (p: f32[4,8,8,3]) -> f32[4,3,8,8] {
  %p = f32[4,8,8,3]{3,2,1,0} parameter(0)
  ROOT %transpose.1 = f32[4,3,8,8]{3,2,1,0} transpose(%p), dimensions={0,3,1,2}
}

%command_buffer (p.1: f32[4,8,8,3]) -> f32[4,8,8,5] {
  %p.1 = f32[4,8,8,3]{3,2,1,0} parameter(0)
  ROOT %cudnn = (f32[4,8,8,5]{3,2,1,0}, u8[0]{0}) custom-call(%p.1), window={size=3x3}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
}

%inner (t: (s32[], f32[4])) -> (s32[], f32[4]) {
  %t = (s32[], f32[4]{0}) parameter(0)
  %add = f32[4]{0} add(%t, %t)
  ROOT %tuple.1 = (s32[], f32[4]{0}) tuple(%t, %add)
}

%inner_condition (t.1: (s32[], f32[4])) -> pred[] {
  ROOT %t.1 = pred[] parameter(0)
}

%body (s: (s32[], f32[4,8,8,3])) -> (s32[], f32[4,8,8,3]) {
  %s = (s32[], /*index=1*/f32[4,8,8,3]{3,2,1,0}) parameter(0)
  %fusion.1 = f32[4,3,8,8]{3,2,1,0} fusion(%s), kind=kInput, calls=%fused_transpose
  %call = f32[4,8,8,5]{3,2,1,0} call(%s), to_apply=%command_buffer
  %while.2 = (s32[], f32[4]{0}) while(%s), condition=%inner_condition, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
  %copy.1 = f32[4,8,8,3]{3,2,1,0} copy(%s)
  ROOT %tuple.2 = (s32[], f32[4,8,8,3]{3,2,1,0}) tuple(%s, %copy.1)
}

ENTRY %main (a: f32[4,8,8,3]) -> f32[4,8,8,3] {
  %a = f32[4,8,8,3]{3,2,1,0} parameter(0)
  %copy.2 = f32[4,8,8,3]{3,2,1,0} copy(%a)
  %while.1 = (s32[], f32[4,8,8,3]{3,2,1,0}) while(%copy.2), condition=%inner_condition, body=%body
  ROOT %get = f32[4,8,8,3]{3,2,1,0} get-tuple-element(%while.1), index=1
}
"""  # noqa: E501


def test_a_loop_over_steps():
  assert kernels.count(TEXT) == {
    "kernels": 6.0,
    "kinds": {"add": 3.0, "fusion": 1.0, "custom-call": 1.0, "copy": 1.0},
    "transposes": 1.0,
    "convolutions": {"b01f_o01i->b01f": 1.0},
    "around": 1,
    "graphs": 1,
  }
  assert kernels.count(TEXT, steps=2)["kernels"] == 3.0


def test_a_program_of_this_xla():
  def step(i, x):
    return jnp.sin(x @ x) + i

  def steps(x, count):
    return jax.lax.fori_loop(0, count, step, x)

  x = jnp.eye(64)
  one = jax.jit(lambda x: step(1.0, x)).lower(x).compile().as_text()
  many = jax.jit(steps).lower(x, 3).compile().as_text()
  alone, looped = kernels.count(one), kernels.count(many)
  assert alone["kernels"] >= 2 and alone["around"] == 0
  # The loop counts its rounds, too.
  assert alone["kernels"] <= looped["kernels"] <= alone["kernels"] + 3


def test_other_texts_are_refused():
  with pytest.raises(ValueError, match="no entry"):
    kernels.count("module @jit_f {}")

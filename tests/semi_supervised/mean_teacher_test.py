"""Mean Teacher: the average, its BatchNorm, and its limits."""

import jax
import numpy as np
import pytest
import semi_toys
import toys

from ltjax.semi_supervised import mean_teacher


@pytest.fixture(scope="module")
def learner():
  return toys.learner(pad=1, flip=True)


def run(learner, count, *, weight=3.0, **choices):
  stage = semi_toys.stage(learner, mean_teacher.make(**choices), weight=weight)
  return stage, *semi_toys.steps(stage, learner.init(), count)


@pytest.mark.parametrize("batch_norm", ["batch", "ema"])
def test_steps_equal_a_numpy_reference(learner, batch_norm):
  _, found, indices, arrays = run(learner, 4, decay=0.6, batch_norm=batch_norm)
  mean = jax.tree.map(lambda x: np.asarray(x, np.float64), found[0].params)
  stats = jax.tree.map(
    lambda x: np.asarray(x, np.float64), found[0].batch_stats
  )
  total = 0.0
  for t, (before, index) in enumerate(zip(found, indices), 1):
    mine, other = semi_toys.views(learner, before, index, arrays)
    p = semi_toys.softmax(semi_toys.logits(before.params, mine))
    evaluate = stats if batch_norm == "ema" else None
    q = semi_toys.softmax(semi_toys.logits(mean, other, stats=evaluate))
    total += semi_toys.squared_error(p, q)
    decay = min(0.6, 1 - 1 / (t + 1))

    def move(a, b, decay=decay):
      return decay * a + (1 - decay) * np.asarray(b, np.float64)

    if batch_norm == "ema":
      stats = jax.tree.map(move, stats, found[t].batch_stats)
    else:  # the teacher's own, of the labeled images in its view
      x = other[:8].reshape(8, -1) @ mean["backbone"]["kernel"]
      stats = {
        "mean": 0.9 * stats["mean"] + 0.1 * x.mean(0),
        "var": 0.9 * stats["var"] + 0.1 * x.var(0),
      }
    mean = jax.tree.map(move, mean, found[t].params)
  assert total > 1e-3
  np.testing.assert_allclose(found[-1].totals["consistency"], total, rtol=1e-3)
  teacher = found[-1].extra
  for ours, reference in (
    (teacher["params"], mean),
    (teacher["batch_stats"], stats),
  ):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
      ours,
      reference,
    )


def test_the_teacher_gets_no_gradient(learner):
  """The student's update against finite differences, the teacher held."""
  stage, (_, before, after), indices, arrays = run(learner, 2)
  mine, other = semi_toys.views(learner, before, indices[1], arrays)
  labels = np.asarray(arrays["labels"])[indices[1][:8]]
  q = semi_toys.softmax(semi_toys.logits(before.extra["params"], other))

  def loss(bias):
    params = before.params | {"head": before.params["head"] | {"bias": bias}}
    p = semi_toys.softmax(semi_toys.logits(params, mine))
    entropy = -np.log(p[np.arange(8), labels]).mean()
    return entropy + 3.0 * semi_toys.squared_error(p, q)

  bias = np.asarray(before.params["head"]["bias"], np.float64)
  grads = [
    (loss(bias + 1e-5 * unit) - loss(bias - 1e-5 * unit)) / 2e-5
    for unit in np.eye(toys.C)
  ]
  leaves = jax.tree.leaves(before.opt_state)
  (velocity,) = [x for x in leaves if np.shape(x) == (toys.C,)]
  velocity = 0.9 * np.asarray(velocity) + np.array(grads) + 5e-4 * bias
  np.testing.assert_allclose(
    after.params["head"]["bias"],
    bias - float(stage.schedule(1)) * velocity,
    rtol=1e-4,
    atol=1e-6,
  )


def test_ema_0_makes_the_teacher_the_student(learner):
  """Bit for bit, after every step."""
  _, found, _, _ = run(learner, 3, decay=0.0, batch_norm="ema")
  for state in found[1:]:
    toys.assert_same(state.extra["params"], state.params)
    toys.assert_same(state.extra["batch_stats"], state.batch_stats)


def test_ema_0_without_augmentation_has_no_consistency_loss():
  plain = toys.learner()
  _, found, _, _ = run(plain, 3, decay=0.0)
  assert float(found[-1].totals["consistency"]) < 1e-12


def test_the_first_teacher_is_the_mean_of_the_first_students(learner):
  _, found, _, _ = run(learner, 3, decay=0.999)
  kernels = [np.asarray(s.params["head"]["kernel"]) for s in found]
  np.testing.assert_allclose(
    found[-1].extra["params"]["head"]["kernel"],
    np.mean(kernels, 0),
    rtol=1e-5,
    atol=1e-6,
  )


def test_the_stage_leaves_the_teacher(learner):
  stage, found, _, _ = run(learner, 3)
  state = stage.finish(learner.init(), found[-1])
  teacher = found[-1].extra
  toys.assert_same(state.backbone, teacher["params"]["backbone"])
  toys.assert_same(state.batch_stats, teacher["batch_stats"])
  for head in (state.head, state.balanced_head):
    toys.assert_same(head, teacher["params"]["head"])
  assert toys.differ(state.backbone, found[-1].params["backbone"])
  # In buffers of their own, as buffers are donated.
  for a, b in zip(
    jax.tree.leaves(state.head), jax.tree.leaves(state.balanced_head)
  ):
    assert a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer()


def test_the_teacher_starts_in_buffers_of_its_own(learner):
  stage = semi_toys.stage(learner, mean_teacher.make())
  state = stage.init(learner.init())
  toys.assert_same(state.extra["params"], state.params)
  for a, b in zip(
    jax.tree.leaves(state.extra["params"]), jax.tree.leaves(state.params)
  ):
    assert a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer()

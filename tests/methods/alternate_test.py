"""Alternate sampling on FixMatch: the loop, the memory, its limits."""

import numpy as np
import pytest
import seen as seeing
import toys

from ltjax import config as configs
from ltjax import methods
from ltjax.config import rows
from ltjax.methods import alternate, registry


def config(**changes):
  usual = toys.WEAK_STRONG | {"alternate__loops": 2}
  return toys.config(method="alternate", **(usual | changes))


def test_the_stages_of_two_loops(tmp_path):
  learner, states = toys.learner(), []
  stages = methods.stages(learner, config())
  assert [stage.name for stage in stages] == [
    "loop1/weak_strong",
    "loop1/classifier",
    "loop1/memory",
    "loop2/weak_strong",
    "loop2/classifier",
  ]
  _, found = toys.execute(tmp_path, learner, toys.watched(stages, states))
  first, classified, remembered = states[:3]
  toys.assert_same(classified.backbone, first.backbone)
  assert toys.differ(classified.balanced_head, first.balanced_head)
  memory = np.asarray(remembered.memory)
  np.testing.assert_array_equal(memory[: toys.N], np.zeros((toys.N, toys.C)))
  np.testing.assert_allclose(
    memory[toys.N :][: toys.M].sum(1), np.ones(toys.M), rtol=1e-5
  )
  np.testing.assert_array_equal(
    memory[toys.N :][: toys.M].argmax(1), remembered.pseudo_labels
  )
  assert [row["kind"] for row in found].count("pseudo") == 1
  carried = stages[3].init(remembered).extra["plugin"]["refinement"]["memory"]
  np.testing.assert_array_equal(carried, memory[toys.N :][: toys.M])


def test_one_schedule_extends_over_all_loops():
  stages = methods.stages(toys.learner(), config())
  first, second = stages[0], stages[3]
  steps = first.epochs * first.steps_per_epoch
  assert float(second.schedule(0)) == pytest.approx(
    float(first.schedule(steps))
  )
  assert float(second.schedule(0)) < float(first.schedule(0))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_memory_is_a_share_of_the_guess(share):
  learner = toys.learner()
  made = alternate.remembered(learner, share)
  carried = made.init(learner.init())
  rng = np.random.default_rng(0)
  memory = rng.dirichlet(np.ones(4), toys.M).astype(np.float32)
  seen = seeing.drawn(learner, carried)
  index = np.asarray(seen.index)
  memory[index[0]] = 0.0  # not visited: the guess stays
  logits, after = made.guess(seen, {"memory": memory}, seen.logits.weak)
  q = seeing.softmax(seen.logits.weak)
  expected = (1 - share) * q + share * memory[index]
  expected[0] = q[0]
  np.testing.assert_allclose(seeing.softmax(logits), expected, atol=1e-5)
  np.testing.assert_array_equal(after["memory"], memory)


def test_titles():
  chosen = rows.apply(configs.default(), "sslt_fixmatch")
  assert registry.title(chosen) == "SSLT on FixMatch"
  assert chosen.classifier.loss == "logit_adjustment"

"""The learner: where a run starts, and how it is judged."""

import dataclasses

import jax
import numpy as np
import toys


def test_a_key_belongs_to_seed_and_name():
  learner = toys.learner()
  data = [
    tuple(jax.random.key_data(key).tolist())
    for key in (
      learner.key("init"),
      learner.key("embedding"),
      toys.learner(seed=1).key("init"),
    )
  ]
  assert len(set(data)) == 3
  again = toys.learner().key("init")
  assert tuple(jax.random.key_data(again).tolist()) == data[0]


def test_init_has_the_shapes_of_the_task():
  state = toys.learner().init()
  assert state.memory.shape == (toys.N + toys.M, toys.C)
  assert not state.memory.any()  # not seen yet
  assert state.pseudo_labels.tolist() == [-1] * toys.M
  assert state.head["kernel"].shape == (toys.D, toys.C)
  assert toys.differ(state.head, state.balanced_head)


def test_init_depends_on_the_seed_alone():
  toys.assert_same(toys.learner().init(), toys.learner(batch_size=3).init())
  other = toys.learner(seed=1).init()
  first = toys.learner().init()
  for name in ("backbone", "head", "balanced_head"):
    assert toys.differ(getattr(first, name), getattr(other, name))


def test_evaluate_names_its_row_and_uses_the_head_asked_for():
  learner = toys.learner()
  state = learner.init()
  state = state.replace(head=jax.tree.map(lambda x: -x, state.balanced_head))
  for head, params in (
    ("random", state.head),
    ("balanced", state.balanced_head),
  ):
    (row,) = learner.evaluate(state, model="M", head=head)
    assert (row["kind"], row["model"]) == ("eval", "M")
    assert (row["head"], row["split"]) == (head, "test")
    probabilities = learner.predictor.probabilities(
      state, learner.task.test_images, head=params
    )
    predicted = np.argmax(np.asarray(probabilities), -1)
    right = predicted == learner.task.test_labels
    assert row["accuracy"] == np.mean(right)


def test_validation_images_give_a_second_row():
  learner = toys.learner(validation=2)
  rows = learner.evaluate(learner.init(), model="M", head="balanced")
  assert [row["split"] for row in rows] == ["test", "validation"]
  confusion = [np.sum(row["confusion"]) for row in rows]
  assert confusion == [20, 8]


def test_pseudo_labels_are_judged_by_the_truth():
  learner = toys.learner()
  truth = learner.task.truth
  wrong = truth.copy()
  wrong[truth == 3] = 0
  state = learner.init().replace(pseudo_labels=wrong)
  (row,) = learner.evaluate_pseudo_labels(state, loop=2)
  assert (row["kind"], row["loop"]) == ("pseudo", 2)
  assert row["pseudo/accuracy"] == np.mean(truth != 3) == 36 / 40
  assert row["pseudo/accuracy/few"] == 0.0


def test_without_truth_there_is_no_row():
  learner = toys.learner()
  unknown = dataclasses.replace(
    learner.task, truth=np.full(toys.M, -1, np.int32)
  )
  learner = dataclasses.replace(learner, task=unknown)
  state = learner.init().replace(pseudo_labels=np.zeros(toys.M, np.int32))
  assert learner.evaluate_pseudo_labels(state, loop=1) == []

"""The consistency stage: loss, memory, and its limiting cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys


@pytest.fixture(scope="module")
def learner():
  return toys.learner(pad=1, flip=True)


@pytest.fixture(scope="module")
def state(learner):
  """Pseudo labels, and a memory of which some rows are not seen yet."""
  state = learner.init()
  rng = np.random.default_rng(0)
  memory = rng.dirichlet(np.ones(toys.C), toys.N + toys.M)
  memory[rng.random(len(memory)) < 0.3] = 0
  memory[5] = [1, 0, 0, 0]  # 0 log 0 occurs
  return state.replace(
    pseudo_labels=jnp.asarray(learner.task.truth),
    memory=jnp.asarray(memory, jnp.float32),
  )


def numpy_network(params, images):
  """The toy's training-mode logits, written out in NumPy, in float64."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  backbone, head = params["backbone"], params["head"]
  x = np.asarray(images, np.float64).reshape(len(images), -1)
  x = x @ backbone["kernel"]
  x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
  features = np.maximum(x * backbone["scale"] + backbone["bias"], 0)
  return features @ head["kernel"] + head["bias"]


def numpy_softmax(logits):
  exp = np.exp(logits - logits.max(-1, keepdims=True))
  return exp / exp.sum(-1, keepdims=True)


def test_golden_step(learner, state):
  """Numbers of the first step.

  Update them only if the step is meant to change
  (augmentation, initialization, order of batches, loss, optimizer): old runs
  then do not resume bit for bit, which the CHANGELOG has to say.
  """
  _, _, _, after = toys.one_step(toys.consistency_stage(learner), state)
  found = after.totals | {
    "params": toys.norm(after.params),
    "batch_stats": toys.norm(after.batch_stats),
    "memory": toys.norm(after.memory),
  }
  for name, value in GOLDEN.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


GOLDEN = {
  "loss": 1.932143,
  "accuracy": 0.375,
  "cross_entropy": 1.627121,
  "consistency": 0.305023,
  "params": 3.542389,
  "batch_stats": 2.402351,
  "memory": 4.801391,
}


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_loss_equals_a_numpy_reference(learner, state, weight):
  stage = toys.consistency_stage(learner, choices={"weight": weight})
  before, arrays, index, after = toys.one_step(stage, state)
  images = learner.transform(
    jax.random.fold_in(before.key, 0), arrays["images"][index]
  )
  p = numpy_softmax(numpy_network(before.params, images))
  labels = np.concatenate([learner.task.labels, learner.task.truth])[index]
  entropy, drift = 0.0, 0.0
  for row, i in enumerate(index):
    entropy -= np.log(p[row, labels[row]]) / len(index)
    for c in range(toys.C):
      previous = float(state.memory[i, c])
      if previous > 0:
        drift += previous * np.log(previous / p[row, c]) / len(index)
  totals = after.totals
  np.testing.assert_allclose(totals["cross_entropy"], entropy, rtol=1e-4)
  np.testing.assert_allclose(totals["consistency"], drift, rtol=1e-4)
  np.testing.assert_allclose(
    totals["loss"], entropy + weight * drift, rtol=1e-4
  )
  np.testing.assert_allclose(
    totals["accuracy"], np.mean(p.argmax(-1) == labels), rtol=1e-6
  )
  assert drift > 0.01
  # The memory of the images drawn is the prediction just made ...
  np.testing.assert_allclose(after.memory[index], p, rtol=1e-4, atol=1e-6)
  # ... and that of all others keeps every bit.
  others = np.setdiff1d(np.arange(toys.N + toys.M), index)
  np.testing.assert_array_equal(after.memory[others], state.memory[others])


def test_gradient_is_that_of_both_terms(learner, state):
  """The update against finite differences of the NumPy reference."""
  stage = toys.consistency_stage(learner, choices={"weight": 2.5})
  before, arrays, index, after = toys.one_step(stage, state)
  images = learner.transform(
    jax.random.fold_in(before.key, 0), arrays["images"][index]
  )
  labels = np.asarray(arrays["labels"])[index]
  previous = np.asarray(state.memory, np.float64)[index]

  def loss(bias):
    head = before.params["head"] | {"bias": bias}
    p = numpy_softmax(numpy_network(before.params | {"head": head}, images))
    entropy = -np.log(p[np.arange(8), labels]).mean()
    return entropy - 2.5 * (previous * np.log(p)).sum(-1).mean()

  bias = np.asarray(before.params["head"]["bias"], np.float64)
  grads = [
    (loss(bias + 1e-5 * unit) - loss(bias - 1e-5 * unit)) / 2e-5
    for unit in np.eye(toys.C)
  ]
  np.testing.assert_allclose(
    after.params["head"]["bias"],
    bias - 0.05 * (np.array(grads) + 5e-4 * bias),
    rtol=1e-4,
    atol=1e-6,
  )


def test_weight_zero_is_cross_entropy_on_everything(learner, state, tmp_path):
  """Step for step the embedding stage on D and U' with the pseudo labels."""
  name = "same"  # the same index stream, the same keys
  labels = jnp.concatenate([learner.task.labels, state.pseudo_labels])
  plain, plain_rows = toys.execute(
    tmp_path / "plain",
    learner,
    [toys.embedding_stage(learner, name, labels=labels)],
    state=state,
  )
  stage = toys.consistency_stage(learner, name, choices={"weight": 0.0})
  found, rows = toys.execute(tmp_path / "zero", learner, [stage], state=state)
  for field in ("backbone", "head", "batch_stats", "balanced_head"):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
      getattr(found, field),
      getattr(plain, field),
    )
  for row, plain_row in zip(rows, plain_rows, strict=True):
    assert row.pop("consistency") > 0  # measured, but without weight
    assert row.pop("cross_entropy") == pytest.approx(row["loss"])
    toys.assert_rows_close(row, plain_row, rtol=1e-5)


def test_a_memory_of_zeros_adds_nothing(learner, state):
  """The first epoch of a run is plain cross-entropy, whatever the weight."""
  empty = state.replace(memory=jnp.zeros_like(state.memory))
  heavy = toys.consistency_stage(learner, choices={"weight": 1e4})
  plain = toys.consistency_stage(learner, choices={"weight": 0.0})
  *_, after = toys.one_step(heavy, empty)
  *_, expected = toys.one_step(plain, empty)
  assert float(after.totals["consistency"]) == 0.0
  np.testing.assert_allclose(
    after.totals["loss"], expected.totals["loss"], rtol=1e-6
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    after.params,
    expected.params,
  )


def test_every_image_is_remembered_after_an_epoch(learner, tmp_path):
  start = learner.init()
  stage = toys.consistency_stage(learner, epochs=1)
  start = start.replace(pseudo_labels=jnp.asarray(learner.task.truth))
  state, rows = toys.execute(tmp_path, learner, [stage], state=start)
  np.testing.assert_allclose(state.memory.sum(-1), 1, rtol=1e-5)
  assert rows[0]["consistency"] == 0.0
  toys.assert_same(state.balanced_head, start.balanced_head)
  toys.assert_same(state.pseudo_labels, start.pseudo_labels)


def test_reset_to_uniform_pulls_towards_uniform(learner, state):
  """KL(uniform || p) in the first epoch, whatever the memory was."""
  stage = toys.consistency_stage(learner, choices={"memory_reset": "uniform"})
  before, arrays, index, after = toys.one_step(stage, state)
  np.testing.assert_array_equal(before.memory, np.full((80, 4), 0.25))
  images = learner.transform(
    jax.random.fold_in(before.key, 0), arrays["images"][index]
  )
  p = numpy_softmax(numpy_network(before.params, images))
  expected = np.mean(-np.log(4) - np.log(p).mean(-1))
  np.testing.assert_allclose(after.totals["consistency"], expected, rtol=1e-4)


def test_keep_starts_from_the_memory_of_the_loop_before(learner, state):
  before = toys.consistency_stage(learner).init(state)
  np.testing.assert_array_equal(before.memory, state.memory)


def test_labels_are_read_when_the_stage_begins(learner, state):
  """One algorithm serves all loops, whose pseudo labels differ."""
  one, two = (
    toys.consistency_stage(learner, name)
    for name in ("loop1/consistency", "loop2/consistency")
  )
  other = state.replace(pseudo_labels=(state.pseudo_labels + 1) % 4)
  for stage, found in ((one, state), (two, other)):
    labels = stage.prepare(found)[0]["labels"]
    np.testing.assert_array_equal(labels[: toys.N], learner.task.labels)
    np.testing.assert_array_equal(labels[toys.N :], found.pseudo_labels)
  assert not np.array_equal(one.prepare(state)[1](0), two.prepare(state)[1](0))


def drawn(stage, state, epochs=60):
  _, stream = stage.prepare(state)
  return np.concatenate([stream(epoch).ravel() for epoch in range(epochs)])


def test_random_sampling_draws_all_images_alike(learner, state):
  counts = np.bincount(drawn(toys.consistency_stage(learner), state, 3))
  np.testing.assert_array_equal(counts, np.full(80, 3))


def test_class_balanced_sampling_counts_pseudo_labels(learner, state):
  stage = toys.consistency_stage(learner, choices={"sampler": "class_balanced"})
  labels = np.concatenate([learner.task.labels, state.pseudo_labels])
  index = drawn(stage, state)
  np.testing.assert_allclose(
    np.bincount(labels[index]) / len(index), 0.25, atol=0.03
  )
  assert set(np.unique(index)) == set(range(80))


def test_labeled_images_only_is_an_option(learner, state):
  stage = toys.consistency_stage(learner, choices={"data": "labeled"})
  assert stage.steps_per_epoch == 5
  assert np.unique(drawn(stage, state)).tolist() == list(range(toys.N))
  balanced = toys.consistency_stage(
    learner, choices={"data": "labeled", "sampler": "class_balanced"}
  )
  assert drawn(balanced, state).max() < toys.N


def test_a_batch_larger_than_the_set_is_refused(learner):
  with pytest.raises(
    ValueError, match="consistency.batch_size is 81.* only 80"
  ):
    toys.consistency_stage(learner, batch_size=81)
  with pytest.raises(
    ValueError, match="consistency.batch_size is 41.* only 40"
  ):
    toys.consistency_stage(learner, batch_size=41, choices={"data": "labeled"})

"""Pseudo-Label: base, one pass of labels, final model; and its limits."""

import chex
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax import methods
from ltjax.config import rows as presets


def execute(folder, learner, **changes):
  """Returns `(states after each stage by name, rows)`."""
  seen = []
  config = toys.config(method="pseudo_label", **changes)
  stages = methods.stages(learner, config)
  stages = toys.watched(stages, seen)
  _, rows = toys.execute(folder, learner, stages)
  return dict(zip([s.name for s in stages], seen, strict=True)), rows


@pytest.mark.parametrize(
  "base, names",
  [
    ("supervised", ["embedding", "pseudo_label", "pseudo/embedding"]),
    (
      "decoupling",
      [
        *("embedding", "classifier", "pseudo_label", "pseudo/embedding"),
        "pseudo/classifier",
      ],
    ),
  ],
)
def test_its_stages(base, names):
  stages = methods.stages(
    toys.learner(), toys.config(method="pseudo_label", pseudo__base=base)
  )
  assert [stage.name for stage in stages] == names
  final = stages[names.index("pseudo/embedding")]
  assert final.steps_per_epoch == 10  # labeled and pseudo-labeled


@pytest.mark.parametrize(
  "base, titles",
  [
    ("supervised", [("CE", "balanced"), ("Pseudo-Label + CE", "balanced")]),
    (
      "decoupling",
      [
        ("CE (g')", "random"),
        ("Decoupling", "balanced"),
        ("Pseudo-Label + Decoupling, from scratch, g on D (g')", "random"),
        ("Pseudo-Label + Decoupling, from scratch, g on D", "balanced"),
      ],
    ),
  ],
)
def test_what_it_reports(base, titles, tmp_path):
  _, rows = execute(tmp_path, toys.learner(), pseudo__base=base)
  found = [(r["model"], r["head"]) for r in rows if r["kind"] == "eval"]
  assert found == titles
  assert [row["loop"] for row in rows if row["kind"] == "pseudo"] == [1]


def test_it_starts_anew(tmp_path):
  """From scratch the final model does not depend on the base's weights."""
  learner = toys.learner()
  stages = methods.stages(learner, toys.config(method="pseudo_label"))
  last = stages[-1]
  state = learner.init()
  other = state.replace(
    backbone={k: v + 1.0 for k, v in state.backbone.items()}
  )
  toys.assert_same(last.init(state), last.init(other))
  assert toys.differ(last.init(state).params["backbone"], state.backbone)
  tuned = methods.stages(
    learner, toys.config(method="pseudo_label", pseudo__start="base")
  )[-1]
  toys.assert_same(tuned.init(state).params["backbone"], state.backbone)


def test_weight_0_is_training_on_the_labeled_images(tmp_path):
  """The pseudo labels then have no influence on the gradient."""
  learner = toys.learner()
  stages = methods.stages(
    learner, toys.config(method="pseudo_label", pseudo__omega=0.0)
  )
  last, results = stages[-1], []
  for label in (0, 3):
    labels = jnp.full((toys.M,), label, jnp.int32)
    state = learner.init().replace(pseudo_labels=labels)
    *_, after = toys.one_step(last, state)
    results.append(after.params)
  toys.assert_same(*results)


def test_omega_weighs_pseudo_labeled_examples(tmp_path):
  """The gradient is affine in omega: g(D) + omega g(U)."""
  learner = toys.learner()
  state = learner.init().replace(pseudo_labels=jnp.zeros(toys.M, jnp.int32))
  moved = {}
  for omega in (0.0, 0.5, 2.0):
    last = methods.stages(
      learner,
      toys.config(
        method="pseudo_label", pseudo__omega=omega, pseudo__start="base"
      ),
    )[-1]
    *_, after = toys.one_step(last, state)
    moved[omega] = toys.host(after.params["head"])["kernel"]
  np.testing.assert_allclose(
    moved[2.0] - moved[0.0], 4 * (moved[0.5] - moved[0.0]), rtol=1e-3, atol=1e-6
  )
  assert np.abs(moved[2.0] - moved[0.0]).max() > 1e-4


def test_parts_are_a_mean_each():
  """A step whose loss is told by the losses of its labels and pseudo labels."""
  learner, losses = toys.learner(), {}
  state = learner.init().replace(pseudo_labels=jnp.zeros(toys.M, jnp.int32))
  batch = np.array([0, 39, *range(40, 46)], np.int32)  # two labels and six
  for omega, reduction in ((0.0, "parts"), (0.5, "parts"), (1.0, "examples")):
    config = toys.config(
      method="pseudo_label",
      pseudo__omega=omega,
      pseudo__reduction=reduction,
      pseudo__start="base",
    )
    last = methods.stages(learner, config)[-1]
    arrays, _ = last.prepare(state)
    after = toys.jitted(last.step)(last.init(state), batch, arrays)
    losses[omega] = float(after.totals["loss"])
  # All: (2 L(D_L) + 6 L(D_U)) / 8.
  unlabeled = (8 * losses[1.0] - 2 * losses[0.0]) / 6
  expected = losses[0.0] + 0.5 * unlabeled
  np.testing.assert_allclose(losses[0.5], expected, rtol=1e-5)


def test_counts_are_of_labels_or_of_all():
  learner = toys.learner()
  state = learner.init().replace(pseudo_labels=jnp.zeros(toys.M, jnp.int32))
  for counts, expected in (
    ("labeled", toys.LABELED),
    ("all", (toys.LABELED[0] + toys.M, *toys.LABELED[1:])),
  ):
    stages = methods.stages(
      learner, toys.config(method="pseudo_label", loss__counts=counts)
    )
    arrays, _ = stages[-1].prepare(state)
    np.testing.assert_array_equal(arrays["counts"], expected)


def test_fine_tuned_it_is_one_loop_of_sslt_without_consistency(tmp_path):
  """The same steps on the same batches, which a stage draws by its name."""
  learner, seen = toys.learner(pad=1, flip=True), []
  config = presets.apply(toys.config(), "pseudo_label_d_finetuned")
  ours = methods.stages(learner, config)
  theirs = toys.stages("sslt", learner, loops=1, consistency__weight=0.0)
  first = toys.watched(theirs[:3], seen)
  state, _ = toys.execute(tmp_path, learner, first)
  for own, other in zip(ours[:3], theirs[:3], strict=True):
    assert own.name == other.name.removeprefix("loop1/")
  for own, other in zip(ours[3:], theirs[3:], strict=True):
    assert own.steps == other.steps and own.batch_size == other.batch_size
    np.testing.assert_array_equal(
      own.schedule(np.arange(own.steps)), other.schedule(np.arange(own.steps))
    )
    expected, arrays, indices = toys.train(other, state, other.steps)
    found = own.init(state).replace(key=expected[0].key)
    read, _ = own.prepare(state)
    if "features" in arrays:  # Of other random views, but of the same images.
      assert read["features"].shape == arrays["features"].shape
      read = arrays
    toys.assert_same(read["labels"], arrays["labels"])
    step = toys.jitted(own.step)
    for index in indices:
      found = step(found, index, read)
    chex.assert_trees_all_close(
      (found.params, found.batch_stats),
      (expected[-1].params, expected[-1].batch_stats),
      rtol=1e-4,
      atol=1e-6,
    )
    state = other.finish(state, expected[-1])


@pytest.mark.parametrize(
  "field, message",
  [
    ("pseudo__base", "pseudo.base is 'x'; choose one of supervised, decoupl"),
    ("pseudo__start", "pseudo.start is 'x'; choose one of scratch, base"),
  ],
)
def test_unknown_choices_are_refused(field, message):
  with pytest.raises(ValueError, match=message):
    methods.stages(
      toys.learner(), toys.config(method="pseudo_label", **{field: "x"})
    )


def test_it_needs_unlabeled_images():
  with pytest.raises(ValueError, match="no unlabeled images"):
    methods.stages(
      toys.learner(unlabeled=(0, 0, 0, 0)),
      toys.config(method="pseudo_label"),
    )


def test_pre_training_must_reach_the_final_model():
  """From scratch it would not, and the run be called `... + SSP` in vain."""
  settings = {"pretrain__name": "rotation", "method": "pseudo_label"}
  learner = toys.learner()
  with pytest.raises(
    ValueError, match="pretrain.name is 'rotation', but .*pseudo.start=base"
  ):
    methods.stages(learner, toys.config(**settings))
  tuned = toys.config(pseudo__start="base", **settings)
  first = methods.stages(learner, tuned)[0]
  assert first.name == "pretrain"

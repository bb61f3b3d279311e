"""Alternate sampling: its stages, two heads, and its limiting cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from ltjax import methods
from ltjax.stages import pseudo_label


def test_its_stages_are_those_of_algorithm_1():
  stages = toys.stages("sslt", toys.learner(), loops=2)
  assert [(s.name, s.steps_per_epoch) for s in stages] == [
    ("embedding", 5),
    ("classifier", 5),
    ("loop1/pseudo_label", 0),
    ("loop1/consistency", 10),
    ("loop1/refit", 5),
    ("loop2/pseudo_label", 0),
    ("loop2/consistency", 10),
    ("loop2/refit", 5),
  ]


def test_its_classifiers_have_a_least_number_of_steps_each():
  """So have those of the other methods, which share the two blocks."""
  for method, names in (
    ("sslt", ("classifier", "loop1/refit", "loop2/refit")),
    ("pseudo_label", ("classifier", "pseudo/classifier")),
  ):
    stages = toys.stages(
      method,
      toys.learner(),
      pseudo__base="decoupling" if method == "pseudo_label" else "supervised",
      classifier__min_steps=16,
      refit__min_steps=21,
    )
    steps = {s.name: s.steps for s in stages}
    assert [steps[name] for name in names] == [20, *[25] * (len(names) - 1)]


def test_one_schedule_may_span_all_loops():
  """By where the optimizer's count begins: the steps are one program."""
  learner = toys.learner()
  rates, moved = {}, {}
  for over in ("loop", "run"):
    made = toys.stages(
      "sslt", learner, loops=3, consistency__schedule_over=over
    )
    made = [s for s in made if s.name.endswith("consistency")]
    rates[over] = np.concatenate([s.schedule(np.arange(s.steps)) for s in made])
    for stage in made:
      before, *_, after = toys.one_step(stage, learner.init())
      moved[over, stage.name] = np.abs(
        np.asarray(after.params["head"]["bias"] - before.params["head"]["bias"])
      )
    assert {s.step for s in made} == {made[0].step}
    assert toys.jitted(made[0].step)._cache_size() == 1
  once, whole = (toys.recipe(epochs=n).make_schedule(10) for n in (2, 6))
  np.testing.assert_array_equal(rates["loop"], np.tile(once(np.arange(20)), 3))
  np.testing.assert_array_equal(rates["run"], whole(np.arange(60)))
  # The first step of a loop has no momentum yet: it is as long as the rate.
  for loop in (1, 2, 3):
    name = f"loop{loop}/consistency"
    np.testing.assert_allclose(
      moved["run", name],
      moved["loop", name] * whole(20 * (loop - 1)) / 0.05,
      rtol=1e-3,
      atol=1e-8,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """Returns `(learner, states after each stage, rows)` of a run."""
  learner, seen = toys.learner(), []
  stages = toys.watched(toys.stages("sslt", learner), seen)
  _, rows = toys.execute(tmp_path_factory.mktemp("sslt"), learner, stages)
  return learner, dict(zip([s.name for s in stages], seen, strict=True)), rows


def test_it_reports_every_step_of_the_way(run):
  _, _, rows = run
  evaluations = [
    (row["model"], row["head"]) for row in rows if row["kind"] == "eval"
  ]
  assert evaluations == [
    ("CE (g')", "random"),
    ("Decoupling", "balanced"),
    ("SSLT loop 1 (g')", "random"),
    ("SSLT loop 1", "balanced"),
    ("SSLT loop 2 (g')", "random"),
    ("SSLT loop 2", "balanced"),
  ]
  assert [row["loop"] for row in rows if row["kind"] == "pseudo"] == [1, 2]


# What a stage may write; everything else keeps every bit.
WRITES = {
  "embedding": {"backbone", "batch_stats", "head"},
  "classifier": {"balanced_head"},
  "pseudo_label": {"pseudo_labels"},
  "consistency": {"backbone", "batch_stats", "head", "memory"},
  "refit": {"balanced_head"},
}


def test_each_stage_writes_its_own_fields_only(run):
  learner, seen, _ = run
  before = toys.host(learner.init())
  for name, after in seen.items():
    writes = WRITES[name.split("/")[-1]]
    for field in vars(after):
      changed = toys.differ(getattr(before, field), getattr(after, field))
      if field not in writes:
        assert not changed, (name, field)
      elif field != "pseudo_labels":  # may come out as they were
        assert changed, (name, field)
    before = after


def test_pseudo_labels_come_from_the_balanced_head(run):
  learner, seen, _ = run
  for loop, before in ((1, "classifier"), (2, "loop1/refit")):
    state = jax.tree.map(jnp.asarray, seen[before])
    np.testing.assert_array_equal(
      seen[f"loop{loop}/pseudo_label"].pseudo_labels,
      pseudo_label.assign(
        learner.predictor, state, learner.task.unlabeled_images
      ),
    )


def test_decoupling_is_its_initialization(run, tmp_path):
  learner, seen, rows = run
  state, expected = toys.execute(
    tmp_path, learner, toys.stages("decoupling", learner)
  )
  toys.assert_same(seen["classifier"], state)
  assert rows[: len(expected)] == expected


def test_one_loop_is_the_first_of_two(run, tmp_path):
  learner, seen, _ = run
  state, _ = toys.execute(
    tmp_path, learner, toys.stages("sslt", learner, loops=1)
  )
  toys.assert_same(seen["loop1/refit"], state)


def test_pseudo_label_and_decoupling_is_a_limiting_case(run, tmp_path):
  """One loop without weight: label once, train on D and U', refit."""
  learner, seen, _ = run
  found, _ = toys.execute(
    tmp_path / "sslt",
    learner,
    toys.stages("sslt", learner, loops=1, consistency__weight=0.0),
  )
  state = jax.tree.map(jnp.asarray, seen["loop1/pseudo_label"])
  labels = jnp.concatenate([learner.task.labels, state.pseudo_labels])
  stages = [
    toys.embedding_stage(learner, "loop1/consistency", labels=labels),
    toys.classifier_stage(learner, "loop1/refit", fresh=False),
  ]
  expected, _ = toys.execute(tmp_path / "parts", learner, stages, state=state)
  for field in ("backbone", "batch_stats", "head", "balanced_head"):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
      getattr(found, field),
      getattr(expected, field),
    )


def test_the_memory_is_kept_from_loop_to_loop(run, tmp_path):
  """With `uniform`, the first epoch of each loop starts from 1 / C instead."""
  learner, _, rows = run
  kept = [r["consistency"] for r in rows if "consistency" in r]
  stages = toys.stages("sslt", learner, consistency__memory_reset="uniform")
  _, rows = toys.execute(tmp_path, learner, stages)
  reset = [r["consistency"] for r in rows if "consistency" in r]
  assert len(kept) == len(reset) == 4  # two loops of two epochs
  assert kept[0] == 0.0 and kept[2] > 0.0
  assert reset[0] > 0.0 and reset[2] > kept[2]


def test_a_shared_head_is_one_head(tmp_path):
  learner, seen = toys.learner(), []
  stages = toys.stages("sslt", learner, shared_head=True)
  stages = toys.watched(stages, seen)
  toys.execute(tmp_path, learner, stages)
  before = None
  for stage, state in zip(stages, seen, strict=True):
    toys.assert_same(state.head, state.balanced_head)
    if stage.steps and before is not None:
      assert toys.differ(before.head, state.head)
    before = state


def test_two_heads_stay_apart(run):
  _, seen, _ = run
  for state in seen.values():
    assert toys.differ(state.head, state.balanced_head)


@pytest.mark.parametrize(
  "changes, steps",
  [
    ({"consistency__data": "labeled"}, {"consistency": 5, "refit": 5}),
    ({"refit__data": "all"}, {"consistency": 10, "refit": 10}),
    (
      {"consistency__sampler": "class_balanced", "refit__sampler": "random"},
      {"consistency": 10, "refit": 5},
    ),
  ],
)
def test_ablations_of_table_3_run(changes, steps, tmp_path):
  learner = toys.learner()
  stages = toys.stages("sslt", learner, loops=1, epochs=1, **changes)
  found = {s.name.split("/")[-1]: s.steps_per_epoch for s in stages}
  assert {name: found[name] for name in steps} == steps
  state, _ = toys.execute(tmp_path, learner, stages)
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))


@pytest.mark.parametrize("loops", [0, -1])
def test_no_loop_is_refused(loops):
  with pytest.raises(ValueError, match=f"loops is {loops}; .* 1 or more"):
    toys.stages("sslt", toys.learner(), loops=loops)


def test_no_unlabeled_images_are_refused():
  learner = toys.learner(unlabeled=(0, 0, 0, 0))
  with pytest.raises(ValueError, match="no unlabeled images"):
    toys.stages("sslt", learner)


def test_a_stage_that_does_not_fit_is_refused_before_any_runs():
  """Also the last block of the config: nothing has been trained by then."""
  with pytest.raises(ValueError, match="refit.batch_size is 41"):
    methods.stages(
      toys.learner(), toys.config(method="sslt", refit__batch_size=41)
    )


def test_statistics_may_follow_the_refit(tmp_path):
  learner, seen = toys.learner(), []
  changes = {"refit__batch_norm": "update", "refit__views": 1}
  stages = toys.stages("sslt", learner, loops=1, **changes)
  toys.execute(tmp_path, learner, toys.watched(stages, seen))
  before, after = seen[-2:]
  toys.assert_same(before.backbone, after.backbone)
  assert toys.differ(before.batch_stats, after.batch_stats)


@pytest.mark.parametrize("kind", ["tau_norm", "lws"])
def test_it_goes_on_from_any_linear_classifier(kind, tmp_path):
  learner, seen = toys.learner(), []
  stages = toys.stages("sslt", learner, loops=1, classifier__kind=kind)
  refit = stages[-1]
  toys.execute(tmp_path, learner, toys.watched(stages, seen))
  before = jax.tree.map(jnp.asarray, seen[-2])
  toys.assert_same(refit.init(before).params, before.balanced_head)


@pytest.mark.parametrize("kind", ["ncm", "knn"])
def test_what_is_not_trained_cannot_be_trained_on(kind):
  with pytest.raises(ValueError, match=f"kind is '{kind}', but SSLT .* tau_no"):
    toys.stages("sslt", toys.learner(), classifier__kind=kind)

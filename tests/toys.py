"""Toys: a network of milliseconds, a separable task, and ways to run them.

Images are 4 x 4 and of 4 classes; class `c` is bright in quadrant `c`. The
network is a real one in all that matters to the stages: an embedding with
BatchNorm, whose training and evaluation differ, and a head.
"""

import dataclasses
import functools
import json
import pathlib
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ltjax import config as configs
from ltjax import methods, models
from ltjax.data import task as tasks
from ltjax.data.splits import draw
from ltjax.data.splits import groups as grouping
from ltjax.devices import sharding
from ltjax.methods import fixmatch, posthoc, weak_strong
from ltjax.methods.learner import Learner
from ltjax.models import heads
from ltjax.optim import recipe as recipes
from ltjax.runs import run as running
from ltjax.self_supervised import (
  contrastive,
  moco,
  pretext,
  prototypes,
  rotation,
  student_teacher,
  swav,
  teacher,
)
from ltjax.stages import (
  classifier,
  consistency,
  embedding,
  fixed_heads,
  pseudo_label,
  tau,
)
from ltjax.training import inference, step

C, D, SIZE = 4, 6, 4
LABELED = (20, 10, 6, 4)  # 5 steps an epoch
UNLABELED = (18, 12, 6, 4)  # 10 steps for all
N, M = sum(LABELED), sum(UNLABELED)
BATCH = 8
# The blocks of a config which are recipes.
BLOCKS = (
  *("pretrain", "embedding", "classifier", "consistency", "refit"),
  *("pseudo", "semi", "prototypes", "student", "probe", "glmc"),
  "weak_strong",
)


def model() -> models.Model:
  """Linear, BatchNorm (momentum 0.9), ReLU, linear head."""
  head = heads.linear(D, C)

  def init(key):
    k_backbone, k_head = jax.random.split(key)
    kernel = jax.random.normal(k_backbone, (SIZE * SIZE, D)) / SIZE
    backbone = {"kernel": kernel, "scale": jnp.ones(D), "bias": jnp.zeros(D)}
    stats = {"mean": jnp.zeros(D), "var": jnp.ones(D)}
    return {"backbone": backbone, "head": head.init(k_head)}, stats

  def apply(params, batch_stats, images, train):
    p = params["backbone"]
    x = images.reshape(len(images), -1) @ p["kernel"]
    mean, var = batch_stats["mean"], batch_stats["var"]
    if train:
      mean, var = jnp.mean(x, 0), jnp.var(x, 0)
      batch_stats = {
        "mean": 0.9 * batch_stats["mean"] + 0.1 * mean,
        "var": 0.9 * batch_stats["var"] + 0.1 * var,
      }
    scale = p["scale"] * jax.lax.rsqrt(var + 1e-5)
    features = jax.nn.relu((x - mean[None]) * scale[None] + p["bias"][None])
    return features, head.apply(params["head"], features), batch_stats

  return models.Model(
    init=init,
    apply=apply,
    head_init=head.init,
    head_apply=head.apply,
    feature_dim=D,
    num_classes=C,
    image_shape=(SIZE, SIZE, 1),
    name="toy",
  )


def pictures(labels, seed=0, *, size=SIZE):
  """Returns uint8 `[N, size, size, 1]`, bright in the class's quadrant."""
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 100, (len(labels), size, size, 1))
  half = size // 2
  for image, label in zip(images, labels):
    row, column = divmod(int(label), 2)
    rows = slice(row * half, (row + 1) * half)
    image[rows, column * half : (column + 1) * half] += 120
  return images.astype(np.uint8)


def labels_of(counts):
  return np.repeat(np.arange(len(counts), dtype=np.int32), counts)


def task(
  mesh=None,
  *,
  validation=0,
  unlabeled=UNLABELED,
  pad=0,
  flip=False,
  size=SIZE,
  probe=False,
):
  """Returns the task of the toys; it is the same at each call."""
  mesh = mesh or one_device()
  counts = np.add(LABELED, unlabeled) + validation
  labels = labels_of(counts)
  images = pictures(labels, size=size)
  split = draw.build(
    labels,
    num_classes=C,
    labeled={"profile": "explicit", "counts": LABELED},
    unlabeled={"profile": "explicit", "counts": tuple(unlabeled)}
    if sum(unlabeled)
    else {"factor": 0.0},
    validation={"per_class": validation},
    probe={"images": "train"} if probe else {},
    seed=0,
  )
  test_labels = labels_of((5, 5, 5, 5))
  put = functools.partial(sharding.replicate, mesh=mesh)
  order = np.concatenate([split.labeled, split.unlabeled])
  return tasks.Task(
    images=put(images[order]),
    labels=put(labels[split.labeled]),
    truth=labels[split.unlabeled],
    test_images=put(pictures(test_labels, 1, size=size)),
    test_labels=test_labels,
    validation_images=put(images[split.validation]),
    validation_labels=labels[split.validation],
    class_names=("a", "b", "c", "d"),
    groups=grouping.by_rank(LABELED),
    split=split,
    mean=(0.4,),
    std=(0.25,),
    pad=pad,
    flip=flip,
    probe_images=put(images[split.probe]),
    probe_labels=labels[split.probe],
  )


@functools.cache
def one_device():
  return sharding.make_mesh(1)


def learner(
  *, seed=0, mesh=None, network=None, batch_size=12, **settings
) -> Learner:
  """Returns a learner; inference runs in batches with a partial last one."""
  mesh = mesh or one_device()
  the_task = task(mesh, **settings)
  network = network or model()
  train, test = the_task.transforms()
  return Learner(
    model=network,
    task=the_task,
    predictor=inference.Predictor(
      network,
      test_transform=test,
      train_transform=train,
      batch_size=batch_size,
      mesh=mesh,
    ),
    transform=train,
    seed=seed,
    mesh=mesh,
  )


RECIPE = {"epochs": 2, "batch_size": BATCH, "learning_rate": 0.05}


def recipe(**changes) -> recipes.Recipe:
  return recipes.Recipe(**(RECIPE | changes))


def config(
  *, loops=2, epochs=2, batch_size=BATCH, learning_rate=0.05, **changes
):
  """Returns a config of few steps; `block__field=value` changes a field."""
  result = configs.default()
  for block in BLOCKS:
    result[block].update(
      epochs=epochs, batch_size=batch_size, learning_rate=learning_rate
    )
  result.classifier.views = result.refit.views = 2
  result.loops = loops
  result.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in changes.items()}
  )
  return result


def nothing(state):
  del state
  return []


def classifier_maker(learner, *, choices=None, **changes):
  updating = (choices or {}).get("batch_norm") == "update"
  return classifier.Maker(
    learner.predictor,
    learner.samples,
    recipe(**changes),
    classifier.Settings(**({"views": 1 if updating else 2} | (choices or {}))),
  )


def classifier_stage(learner, name="classifier", *, fresh=True, **settings):
  maker = classifier_maker(learner, **settings)
  return maker.make(name, fresh=fresh, key=learner.key(name), report=nothing)


def embedding_stage(learner, name="embedding", **changes):
  return embedding.make(
    name,
    learner.model,
    images=learner.task.images,
    labels=changes.pop("labels", learner.task.labels),
    transform=learner.transform,
    recipe=recipe(**changes),
    seed=learner.seed,
    key=learner.key(name),
    report=nothing,
  )


def pseudo_label_stage(learner, name="pseudo_label", transform="test"):
  return pseudo_label.make(
    name,
    learner.predictor,
    images=learner.task.unlabeled_images,
    transform=transform,
    key=learner.key(name),
    report=nothing,
  )


def consistency_stage(learner, name="consistency", *, choices=None, **changes):
  choices, wanted = dict(choices or {}), recipe(**changes)
  drawing = {k: choices.pop(k) for k in ("data", "sampler") if k in choices}
  return step.make(
    name,
    consistency.algorithm(
      learner.model, transform=learner.transform, **choices
    ),
    consistency.drawn(learner.samples, wanted.batch_size, **drawing),
    wanted,
    key=learner.key(name),
    report=nothing,
  )


def lws_stage(learner, **changes):
  choices = {"choices": {"kind": "lws"}}
  return classifier_stage(learner, "lws", **choices, **changes)


def ncm_stage(learner, name="ncm", features="cl2n"):
  return fixed_heads.ncm(
    name,
    learner.predictor,
    images=learner.task.images[:N],
    labels=learner.task.labels,
    features=features,
    report=nothing,
  )


def tau_norm_stage(learner, name="tau_norm", *, report=nothing, **settings):
  chooser = tau.Chooser(
    learner.predictor,
    images=learner.task.validation_images,
    labels=learner.task.validation_labels,
    **({"tau": 1.0, "select": False} | settings),
    field="classifier",
    switch="select_tau",
  )
  return fixed_heads.tau_norm(
    name, learner.predictor, chooser=chooser, report=report
  )


def posthoc_stage(learner, *, after=(), title="", **settings):
  defaults = {"name": "logit_adjustment", "tau": 1.0, "select": False}
  settings = defaults | {"costs": ()} | settings
  return posthoc.make("posthoc", learner, settings, title=title, after=after)


def pretext_setup(learner, name, *, recipe=None, **fields):
  """Returns what pre-training is given: the labeled images, toys' recipe.

  Args:
    learner: the network and the task.
    name: of the stage.
    recipe: changes of the recipe.
    **fields: others of the setup.
  """
  given = {
    "images": learner.task.images[:N],
    "labels": learner.task.labels,
    "counts": jnp.array(LABELED, jnp.float32),
    "recipe": recipes.Recipe(**(RECIPE | (recipe or {}))),
    "seed": learner.seed,
    "key": learner.key(name),
    "report": nothing,
  }
  return pretext.Setup(**(given | fields))


def pretrain(module, learner, name, *, recipe=None, **settings):
  """Returns a stage of pre-training.

  Args:
    module: has the stage's `make` and, but for students, `Settings`.
    learner: the network and the task.
    name: of the stage.
    recipe: changes of the toys' recipe.
    **settings: fields of the stage's settings and of its `Setup`; others are
      what `make` is given.
  """

  def taken(kind):
    fields = [field.name for field in dataclasses.fields(kind)]
    return {f: settings.pop(f) for f in fields if f in settings}

  setup = taken(pretext.Setup)
  if "settings" not in settings:
    settings["settings"] = module.Settings(**taken(module.Settings))
  return module.make(
    name,
    learner.model,
    pretext_setup(learner, name, recipe=recipe, **setup),
    **settings,
  )


def rotation_stage(learner, name="rotation", *, rotations="one", **changes):
  return pretrain(
    rotation,
    learner,
    name,
    recipe=changes,
    transform=learner.transform,
    rotations=rotations,
  )


def two_views(key, images):
  """Two views of milliseconds: the image with little noise."""
  first, second = jax.random.split(key)
  x = (images.astype(jnp.float32) / 255 - 0.4) / 0.25
  return tuple(x + 0.1 * jax.random.normal(k, x.shape) for k in (first, second))


def moco_stage(learner, name="moco", *, choices=None, **changes):
  queue = changes.get("batch_size", BATCH)  # keys of the batch before
  settings = {"dim": 8, "queue": queue, "ema": 0.9, "views": two_views}
  settings |= choices or {}
  return pretrain(moco, learner, name, recipe=changes, **settings)


def boosted_views(key, images, strength):
  """As `two_views`, the second with more noise."""
  view_key, noise_key = jax.random.split(key)
  noise = jax.random.normal(noise_key, images.shape)
  first, second = two_views(view_key, images)
  return first, second + 0.05 * strength[:, None, None, None] * noise


def contrastive_stage(learner, name="contrastive", *, choices=None, **changes):
  settings = {"dim": 8, "temperature": 0.5} | (choices or {})
  boosted = settings.get("boost_ops")
  settings["views"] = boosted_views if boosted else two_views
  return pretrain(contrastive, learner, name, recipe=changes, **settings)


def of_contrast(name, **choices):
  """Returns a maker of the one stage with some settings."""
  return lambda learner, **changes: [
    contrastive_stage(learner, name, choices=choices, **changes)
  ]


def prototypes_stage(learner, name="prototypes", *, choices=None, **changes):
  settings = {"count": 10, "temperature": 0.5, "dim": 8, "views": two_views}
  settings |= choices or {}
  return pretrain(prototypes, learner, name, recipe=changes, **settings)


def student_stage(learner, name="student", *, choices=None, **changes):
  """With weights it goes on where `prototypes_stage` ended."""
  settings = {"score": "energy", "hidden": 16, "ema": 0.9} | (choices or {})
  return pretrain(
    student_teacher,
    learner,
    name,
    recipe=changes,
    settings=teacher.Settings(**settings),
    dim=8,
    views=two_views,
    inherit=settings["score"] != "uniform",
  )


def swav_stage(learner, name="swav", *, choices=None, **changes):
  """With a queue of a batch, used from the second step on."""
  queue = changes.get("batch_size", BATCH)
  settings = {"dim": 8, "hidden": 16, "prototypes": 6, "freeze": 0.2}
  settings |= {"temperature": 0.1}
  settings |= {"code_queue": queue, "queue_start": 0.0, "views": two_views}
  settings |= choices or {}
  return pretrain(swav, learner, name, recipe=changes, **settings)


# Each maps a learner to the stages to run from `learner.init()`.
STAGES = {
  "embedding": lambda learner, **changes: [embedding_stage(learner, **changes)],
  "classifier": lambda learner, **changes: [
    classifier_stage(learner, **changes)
  ],
  "refit": lambda learner, **changes: [
    classifier_stage(learner, "refit", fresh=False, **changes)
  ],
  "classifier_bn_update": lambda learner, **changes: [
    classifier_stage(learner, choices={"batch_norm": "update"}, **changes)
  ],
  "lws": lambda learner, **changes: [
    embedding_stage(learner, **changes),  # lengths of a trained head
    lws_stage(learner, **changes),
  ],
  "ncm": lambda learner, **changes: [
    ncm_stage(learner),
    pseudo_label_stage(learner),
    consistency_stage(learner, **changes),
  ],
  "tau_norm": lambda learner, **changes: [
    tau_norm_stage(learner),
    posthoc_stage(learner),
  ],
  "assignment": lambda learner, **changes: [pseudo_label_stage(learner)],
  "consistency": lambda learner, **changes: [
    pseudo_label_stage(learner),
    consistency_stage(learner, **changes),
  ],
  "rotation": lambda learner, **changes: [rotation_stage(learner, **changes)],
  "moco": lambda learner, **changes: [moco_stage(learner, **changes)],
  "byol": lambda learner, **changes: [
    student_stage(learner, "byol", choices={"score": "uniform"}, **changes)
  ],
  "prototypes": lambda learner, **changes: [
    prototypes_stage(learner, **changes)
  ],
  "student": lambda learner, **changes: [
    prototypes_stage(learner, **changes),
    student_stage(learner, choices={"teacher_batch_norm": "ema"}, **changes),
  ],
  "swav": lambda learner, **changes: [swav_stage(learner, **changes)],
  "simclr": of_contrast("simclr", online_probe=True),
  "supcon": of_contrast("supcon", kind="supcon"),
  "sdclr": of_contrast("sdclr", kind="sdclr", prune=0.5),
  "bcl": of_contrast(
    "bcl",
    kind="sdclr",
    prune=0.3,
    boost_ops=1,
    boost_decay=0.9,
    temperature=0.3,
  ),
}
WITHOUT_STEPS = ("assignment", "tau_norm")


@functools.cache
def example() -> dict:
  """Returns the names of the worked example in docs/add_a_method.md."""
  page = pathlib.Path(__file__).parents[1] / "docs" / "add_a_method.md"
  (block,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
  names = {"__name__": "smoothing"}
  exec(block, names)
  # Which registers its method; but for tests that ask for it, it is not there.
  methods.METHODS.pop("smoothing")
  return names


# These solve a convex problem on features of a frozen backbone, and take no
# step: tests/methods/frozen_test.py has whole runs of them.
SOLVED = ("linear", "linear_pool", "label_propagation")
METHODS = (*(n for n in methods.METHODS if n not in SOLVED), "smoothing")
# Those whose stages come again in each of `config.loops`.
LOOPED = ("sslt",)
# Those that only put stages of `STAGES` together.
COMPOSED = ("decoupling", "pseudo_label", "supervised")
# An embedding that is worth a probe, and a probe as long as other stages.
PROBED = {"pretrain__name": "rotation", "probe__protocols": "knn,custom"}
# Mixtures that are mostly one image, as some thirty steps learn them.
MIXED = {
  "glmc__beta": 0.1,
  "glmc__consistency": 0.1,
  "glmc__learning_rate": 0.2,
  "glmc__epochs": 6,
}
# One strong view of few images, and guesses that soon count.
WEAK_STRONG_ONLY = {
  "weak_strong__unlabeled_ratio": 2,
  "weak_strong__epoch_steps": 0,
  "weak_strong__learning_rate": 0.2,
}
WEAK_STRONG = WEAK_STRONG_ONLY | {"fixmatch__threshold": 0.7}
# Their own blocks are of the length of papers' runs.
PLUG_INS = {"darp": {"darp__every": 3}, "simpro": {"simpro__every": 3}}
CASES = (*STAGES, *METHODS)
# Those that have steps which no other case has.
WITH_OWN_STEPS = tuple(
  case for case in CASES if case not in (*WITHOUT_STEPS, *COMPOSED)
)


def stages(case, learner, *, loops=2, **changes):
  """Returns the stages of a case: one stage, or a whole method."""
  if case in STAGES:
    return STAGES[case](learner, **changes)
  if case == "probe":
    changes = PROBED | changes
  if case == "glmc":
    changes = MIXED | changes
  method = methods.METHODS.get(case)
  if method and weak_strong.WEAK_STRONG in method.blocks:
    both = fixmatch.FIXMATCH in method.blocks
    usual = WEAK_STRONG if both else WEAK_STRONG_ONLY
    changes = usual | PLUG_INS.get(case, {}) | changes
  settings = config(method=case, loops=loops, **changes)
  if case == "smoothing":
    return list(example()["stages"](learner, settings))
  return methods.stages(learner, settings)


def execute(workdir, learner, stages, *, state=None, **settings):
  """Runs stages in a folder; returns the final state and the metrics' rows."""
  run = running.Run(workdir, mesh=learner.mesh, **settings)
  state = run.execute(stages, learner.init() if state is None else state)
  return state, rows(workdir)


@functools.cache
def jitted(step):
  """Returns a step compiled once for the states of `train`."""
  return jax.jit(step, out_shardings=sharding.replicated(one_device()))


class Killed(BaseException):
  """Stands for SIGKILL: nothing catches it, nothing is saved after it."""


def die():
  raise Killed


class Killer:
  """A progress display that ends the run at a tick, before it is saved."""

  def __init__(self, tick, action=die):
    self._ticks_left, self._action = tick, action

  def update(self, *unused):
    self._ticks_left -= 1
    if self._ticks_left == 0:
      self._action()

  def stage(self, *unused, resumed_at):
    pass

  def skip(self, images):
    pass

  def message(self, text):
    pass


def train(stage, state, steps):
  """Takes the first steps of a stage.

  Returns the states before and after each step, the arrays that the stage reads
  and the indices of all its batches.
  """
  states = [sharding.place(stage.init(state), one_device())]
  arrays, stream = stage.prepare(state)
  step = jitted(stage.step)
  indices = np.concatenate([stream(epoch) for epoch in range(stage.epochs)])
  for index in indices[:steps]:
    states.append(step(states[-1], index, arrays))
  return states, arrays, indices


def one_step(stage, state):
  """Returns (state before the first step, its arrays, batch, state after)."""
  (before, after), arrays, indices = train(stage, state, 1)
  return before, arrays, indices[0], after


def rows(workdir):
  """Returns the rows of `metrics.jsonl`, without what the clock says."""
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  result = [json.loads(line) for line in lines]
  for row in result:
    row.pop("images_per_second", None)
  return result


def host(tree):
  """Returns a copy on the host; keys become their data."""

  def copy(x):
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
      x = jax.random.key_data(x)
    return np.array(x)

  return jax.tree.map(copy, tree)


def assert_same(a, b):
  """Asserts that two trees are equal bit for bit."""
  a, b = host(a), host(b)
  chex.assert_trees_all_equal_structs(a, b)
  chex.assert_trees_all_equal_shapes_and_dtypes(a, b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.tobytes() == y.tobytes(), (x, y)


def differ(a, b):
  """Whether any array of two trees differs."""
  pairs = zip(jax.tree.leaves(host(a)), jax.tree.leaves(host(b)), strict=True)
  return any(not np.array_equal(x, y) for x, y in pairs)


def norm(tree):
  """Returns the Euclidean norm of all numbers of a tree."""
  return float(np.sqrt(sum(np.sum(x**2) for x in jax.tree.leaves(host(tree)))))


def assert_rows_close(a, b, rtol=1e-4, atol=1e-5):
  """Asserts that metrics rows agree, numbers up to a tolerance."""
  if isinstance(a, dict):
    assert a.keys() == b.keys()
    for name in a:
      assert_rows_close(a[name], b[name], rtol, atol)
  elif isinstance(a, list):
    assert len(a) == len(b)
    for x, y in zip(a, b):
      assert_rows_close(x, y, rtol, atol)
  elif isinstance(a, float):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
  else:
    assert a == b


def watched(stages, seen):
  """Returns stages that append a host copy of the state at their end."""

  def watch(stage):
    def report(state):
      seen.append(host(state))
      return stage.report(state)

    return dataclasses.replace(stage, report=report)

  return [watch(stage) for stage in stages]

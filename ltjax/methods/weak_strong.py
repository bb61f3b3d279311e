"""What methods of weak and strong views share: their block and their one stage.

A method is a `weak_strong.Plugin` made from the learner and its own settings,
see `ltjax.semi_supervised.weak_strong`; this is the rest of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
from typing import Any

from ltjax.augment import policies
from ltjax.devices import sharding
from ltjax.methods import changes, registry
from ltjax.methods.learner import Learner
from ltjax.optim import recipe as recipes
from ltjax.semi_supervised import weak_strong
from ltjax.settings.fields import setting
from ltjax.training import draw, step
from ltjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Settings:
  """How images are drawn, seen and averaged over; of FixMatch if not said."""

  unlabeled_ratio: int = setting(
    7, "mu, unlabeled images to a labeled one", least=1, size=True
  )
  epoch_steps: int = setting(
    1024, "steps of an epoch; 0: one pass over the pool", least=0, size=True
  )
  strong: str = setting(
    "randaugment", "the strong views", choices=policies.NAMES
  )
  strong_views: int = setting(1, "of each unlabeled image", least=1)
  ema: float = setting(
    0.999,
    "what the tested average keeps of itself in a step",
    least=0,
    below=1,
    size=True,
  )
  batch_norm: str = setting(
    "joint",
    "all views at once, or labeled images apart",
    choices=weak_strong.BATCH_NORMS,
  )


# FixMatch's 2^20 steps.
WEAK_STRONG = registry.Block(
  "weak_strong",
  Settings,
  recipes.Recipe(
    epochs=1024,
    batch_size=64,
    learning_rate=0.03,
    schedule="cosine_7_16",
    nesterov=True,
    decayed="kernels",
  ),
)
Make = Callable[[Learner, Any], weak_strong.Plugin]


def algorithm(
  learner: Learner, config: Any, plugin: weak_strong.Plugin
) -> step.Algorithm:
  """Returns the algorithm of a plug-in, see `weak_strong.algorithm`.

  Args:
    learner: the network and the task.
    config: uses the block `weak_strong`.
    plugin: the loss and what it carries.
  """
  block = config.weak_strong
  return weak_strong.algorithm(
    learner.model,
    plugin,
    weak=learner.transform,
    strong=learner.strong(block.strong),
    num_labeled=block.batch_size,
    pool_start=learner.task.num_labeled,
    strong_views=block.strong_views,
    decay=block.ema,
    batch_norm=block.batch_norm,
  )


def stage(
  name: str,
  learner: Learner,
  config: Any,
  minimized: step.Algorithm,
  *,
  pseudo_labels: bool = False,
  **choices: Any,
) -> Stage:
  """Returns a stage of weak and strong views.

  Args:
    name: of the stage.
    learner: the network and the task.
    config: uses the blocks `weak_strong` and `sampler`, of the labeled images.
    minimized: as of `algorithm`.
    pseudo_labels: whether images of the pool that have one count as labeled.
    **choices: of `step.make`; `report` is that of the method by default.

  Raises:
    ValueError: if a setting does not fit, or there are no unlabeled images.
  """
  block = config.weak_strong
  recipe = recipes.of("weak_strong", block)
  sharding.check_batch(recipe.batch_size, learner.mesh, "weak_strong")
  choices.setdefault(
    "report", learner.report(registry.title(config), head="balanced")
  )
  data = draw.pairs(
    learner.samples,
    recipe.batch_size,
    ratio=block.unlabeled_ratio,
    field="weak_strong",
    sampler=config.sampler,
    steps=block.epoch_steps,
    pseudo_labels=pseudo_labels,
  )
  key = learner.key(name)
  return step.make(name, minimized, data, recipe, key=key, **choices)


def stages(learner: Learner, config: Any, *, make: Make) -> Iterator[Stage]:
  """Yields the one stage of a plug-in.

  Args:
    learner: the network and the task.
    config: as of `stage`, and what `make` uses.
    make: `(learner, config) -> plugin`.
  """
  minimized = algorithm(learner, config, make(learner, config))
  yield stage("weak_strong", learner, config, minimized)


def balanced(learner: Learner) -> dict[str, Any]:
  """Returns the fields of a plug-in whose second head is trained and tested.

  It is `balanced_head` among the parameters.

  Args:
    learner: the network.
  """
  return {
    "heads": lambda: {
      "balanced_head": learner.model.head_init(learner.key("balanced_head"))
    },
    "test": lambda params, batch_stats, carried: params["balanced_head"],
  }


def row(method: str, **settings: Any) -> tuple[registry.Change, ...]:
  """Returns the changes of a row: the method and settings of `weak_strong`."""
  return (
    changes.method(method),
    lambda config: config.weak_strong.update(settings),
  )


def method(
  name: str,
  *,
  title: str | Callable[[Any], str],
  paper: str,
  make: Make,
  blocks: Mapping[registry.Block, Any],
  rows: Mapping[str, tuple[registry.Change, ...]],
) -> registry.Method:
  """Returns the method of a plug-in.

  Args:
    name, paper, rows: as of `registry.Method`.
    title: of its model, or a function of the config.
    make: `(learner, config) -> plugin`.
    blocks: what it reads beside `weak_strong`.
  """
  return registry.Method(
    name,
    title=title if callable(title) else lambda config: title,
    paper=paper,
    stages=functools.partial(stages, make=make),
    blocks={WEAK_STRONG: {}, **blocks},
    needs_unlabeled=True,
    rows=rows,
  )

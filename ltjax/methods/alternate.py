"""Alternate sampling with FixMatch in its second stage: SSLT's loop, today.

Each loop takes the three stages of Liu et al.:

2. f and g' learn from labels and the pool at random, by FixMatch instead of
   pseudo labels given once, on one learning-rate schedule over all loops;
3. g learns from the labels on frozen f, by logit adjustment;
1. f and g leave what they think of each image of the pool in the memory, a soft
   teacher of the next loop: `q = (1 - m) softmax(z_w) + m memory`.

With one loop it is FixMatch with a second classifier.

Source: Liu et al., Algorithm 1; Sohn et al. (2020), "FixMatch". The combination
is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.methods import (
  blocks,
  changes,
  decoupling,
  fixmatch,
  registry,
  titles,
  weak_strong,
)
from ltjax.methods.learner import Learner
from ltjax.semi_supervised import weak_strong as views
from ltjax.settings.fields import setting
from ltjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Settings:
  """The block `alternate`; `weak_strong.epochs` are those of a loop."""

  loops: int = setting(3, "of the three stages", least=1, size=True)
  memory: float = setting(
    0.5, "m, what the memory has of a guess", least=0, most=1
  )


ALTERNATE = registry.Block("alternate", Settings)


def remembered(learner: Learner, share: float) -> fixmatch.Refinement:
  """Blends guesses with the memory, where it has something to say.

  Args:
    learner: the network and the task.
    share: m, of the memory.
  """
  labeled = learner.task.num_labeled

  def init(state):
    pool = len(state.pseudo_labels)
    return {"memory": state.memory[labeled:][:pool] + 0.0}

  def guess(seen: views.Seen, carried, logits):
    row = carried["memory"][seen.index]
    blended = (1.0 - share) * jax.nn.softmax(logits) + share * row
    visited = jnp.sum(row, -1, keepdims=True) > 0
    return jnp.where(visited, jnp.log(blended + 1e-12), logits), carried

  return fixmatch.Refinement(guess, init)


def stages(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the stages of all loops.

  Args:
    learner: the network and the task.
    config: uses the blocks `alternate`, `fixmatch`, `weak_strong`, `loss`,
      `sampler` and `classifier`.
  """
  block, title = config.alternate, registry.title(config)
  refined = remembered(learner, block.memory)
  shared = weak_strong.algorithm(
    learner, config, fixmatch.make(learner, config, refined)
  )
  labeled = learner.task.num_labeled

  def remember(state, trained):
    del trained
    found = learner.predictor.probabilities(
      state, learner.task.unlabeled_images, head=state.balanced_head
    )
    found = jnp.asarray(found, jnp.float32)
    pool = slice(labeled, labeled + len(found))
    return state.replace(
      memory=state.memory.at[pool].set(found),
      pseudo_labels=jnp.argmax(found, -1).astype(jnp.int32),
    )

  for loop in range(1, block.loops + 1):
    yield weak_strong.stage(
      f"loop{loop}/weak_strong",
      learner,
      config,
      shared,
      report=learner.report(f"{title} loop {loop} (g')", head="random"),
      part=loop - 1,
      parts=block.loops,
    )
    yield decoupling.balanced_head(
      learner,
      config,
      name=f"loop{loop}/classifier",
      title=f"{title} loop {loop}",
    )
    if loop < block.loops:
      yield Stage(
        name=f"loop{loop}/memory",
        finish=remember,
        report=learner.report_pseudo_labels(loop),
      )


def _adjusted(config: Any) -> None:
  """Stage 3 by logit adjustment, on images drawn at random."""
  config.classifier.update(loss="logit_adjustment", sampler="random")


METHOD = registry.Method(
  "alternate",
  title=lambda config: titles.called(
    f"SSLT on {fixmatch.named(config)}", config
  ),
  paper="Liu et al., Algorithm 1, on FixMatch",
  stages=stages,
  blocks={
    ALTERNATE: {},
    weak_strong.WEAK_STRONG: {},
    fixmatch.FIXMATCH: {},
    blocks.LOSS: {},
    blocks.SAMPLER: {},
    blocks.CLASSIFIER: {},
  },
  needs_unlabeled=True,
  rows={
    "sslt_fixmatch": (changes.method("alternate"), _adjusted),
    "sslt_fixmatch_la": (
      changes.method("alternate"),
      _adjusted,
      lambda config: config.loss.update(name="logit_adjustment"),
    ),
  },
)

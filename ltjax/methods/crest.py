"""CReST and CReST+: generations, each with more pseudo labels of rare classes.

Of the images that a generation takes for the class of rank l, with `n_l`
labels, the most confident `(n_{C+1-l} / n_1)^(1 / alpha)` get a pseudo label:
all of the rarest class, few of the most frequent one. The next generation, a
new network, has them as labels. CReST+ aligns guesses with `pi^t`, brought to
sum 1, where pi is the labels' distribution and t falls from generation to
generation.

Source: Wei et al. (2021), "CReST: a class-rebalancing self-training framework
for imbalanced semi-supervised learning", Sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.devices import sharding
from ltjax.losses import adjustment
from ltjax.methods import (
  blocks,
  changes,
  fixmatch,
  registry,
  titles,
  weak_strong,
)
from ltjax.methods.learner import Learner
from ltjax.optim import ema
from ltjax.semi_supervised import weak_strong as views
from ltjax.settings.fields import setting
from ltjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Settings:
  """The block `crest`."""

  generations: int = setting(6, "of networks", least=1, size=True)
  alpha: float = setting(3.0, "the larger, the more pseudo labels", above=0)
  align: bool = setting(False, "whether guesses are aligned (CReST+)")
  last_power: float = setting(
    0.5,
    "t of the last generation; 1 of the first",
    least=0,
    most=1,
    when={"align": (True,)},
  )


CREST = registry.Block("crest", Settings)


def select(
  probabilities: np.ndarray, counts: np.ndarray, *, alpha: float
) -> np.ndarray:
  """Returns pseudo labels of the most confident, -1 of others, int32 `[M]`.

  Args:
    probabilities: of the pool, `[M, C]`.
    counts: labeled images of each class, `[C]`.
    alpha: above 0.
  """
  order = np.argsort(-counts, kind="stable")  # classes by rank
  rate = np.empty(len(counts))
  rate[order] = (counts[order][::-1] / counts.max()) ** (1 / alpha)
  guess, sure = probabilities.argmax(1), probabilities.max(1)
  labels = np.full(len(guess), -1, np.int32)
  for k, share in enumerate(rate):
    found = np.flatnonzero(guess == k)
    best = found[np.argsort(-sure[found], kind="stable")]
    labels[best[: int(share * len(found) + 1e-9)]] = k
  return labels


def _aligned(learner: Learner, power: float) -> fixmatch.Refinement:
  """Aligns guesses with `pi^t`; t is carried, so generations share a step."""
  even = jnp.full(learner.task.num_classes, 1.0 / learner.task.num_classes)

  def guess(seen: views.Seen, carried, logits):
    shown = jnp.mean(jax.nn.softmax(logits), 0)
    mean = ema.update(carried["mean"], shown, decay=0.999)
    target = jax.nn.log_softmax(
      carried["power"] * jnp.log(adjustment.prior(seen.counts))
    )
    found = logits + (target - jnp.log(mean))[None]
    return found, carried | {"mean": mean}

  return fixmatch.Refinement(
    guess, lambda state: {"mean": even + 0.0, "power": jnp.float32(power)}
  )


def stages(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the generations, and between them what is pseudo-labeled.

  Args:
    learner: the network and the task.
    config: uses the blocks `crest`, `fixmatch`, `weak_strong` and `loss`.

  Raises:
    ValueError: if there is pre-training, which new networks would not have.
  """
  if config.pretrain.name != "none":
    raise ValueError(
      f"pretrain.name is {config.pretrain.name!r}, but each generation of CReST"
      " is a new network, without it; set --config.pretrain.name=none."
    )
  block, title = config.crest, registry.title(config)
  counts = np.asarray(learner.task.split.labeled_counts)

  def plugin(power: float) -> views.Plugin:
    refined = _aligned(learner, power) if block.align else fixmatch.NONE
    return fixmatch.make(learner, config, refined)

  shared = weak_strong.algorithm(learner, config, plugin(1.0))

  def begin(state, power):
    new = learner.init()
    start = state.replace(
      backbone=new.backbone, batch_stats=new.batch_stats, head=new.head
    )
    params, stats, extra = shared.init(start)
    return params, stats, extra | {"plugin": plugin(power).init(start)}

  def label(state, trained):
    del trained
    found = learner.predictor.probabilities(
      state, learner.task.unlabeled_images, head=state.balanced_head
    )
    labels = select(np.asarray(found), counts, alpha=block.alpha)
    return state.replace(pseudo_labels=sharding.replicate(labels, learner.mesh))

  last = block.generations
  for generation in range(1, last + 1):
    passed = (generation - 1) / max(last - 1, 1)
    power = 1.0 - passed * (1.0 - block.last_power)
    yield weak_strong.stage(
      f"generation{generation}/weak_strong",
      learner,
      config,
      dataclasses.replace(shared, init=functools.partial(begin, power=power))
      if generation > 1
      else shared,
      pseudo_labels=True,
      report=learner.report(
        f"{title} generation {generation}", head="balanced"
      ),
    )
    if generation < last:
      yield Stage(
        name=f"generation{generation}/pseudo_label",
        finish=label,
        report=learner.report_pseudo_labels(generation),
      )


METHOD = registry.Method(
  "crest",
  title=lambda config: titles.called(
    f"{fixmatch.named(config)} + CReST{'+' if config.crest.align else ''}",
    config,
  ),
  paper="Wei et al. (2021)",
  stages=stages,
  blocks={
    CREST: {},
    weak_strong.WEAK_STRONG: {},
    fixmatch.FIXMATCH: {},
    blocks.LOSS: {},
  },
  needs_unlabeled=True,
  rows={
    "crest": (changes.method("crest"),),
    "crest_plus": (
      changes.method("crest"),
      lambda config: config.crest.update(align=True),
    ),
  },
)

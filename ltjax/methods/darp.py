"""DARP: guesses that have the class distribution of the pool.

The last guess on each image of the pool is kept. Every few steps all of them
are moved, as little as possible, to where they have given numbers of the
classes (`ltjax.semi_supervised.darp`), and from there FixMatch goes on.

Source: Kim et al. (2020), "Distribution aligning refinery of pseudo-label for
imbalanced semi-supervised learning", Algorithm 1.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.methods import (
  fixmatch,
  registry,
)
from ltjax.methods.learner import Learner
from ltjax.semi_supervised import darp
from ltjax.semi_supervised import weak_strong as views
from ltjax.settings import fields
from ltjax.settings.fields import setting


@dataclasses.dataclass(frozen=True)
class Settings:
  """The block `darp`."""

  every: int = setting(10, "steps between two refinements", least=1)
  begin: float = setting(
    0.4, "share of the steps before the first", least=0, most=1
  )
  alpha: float = setting(
    2.0, "guesses kept of a class, as a multiple of its number", above=0
  )
  target: str = setting(
    "labeled",
    "the pool's class distribution: that of the labels, or given",
    choices=("labeled", "uniform", "given"),
  )
  shares: tuple[float, ...] = setting(
    (), "of the classes in the pool, of sum 1", when={"target": ("given",)}
  )
  solver: str = setting(
    "exact", "of the problem", choices=darp.VARIANTS, author_code="author_code"
  )


DARP = registry.Block("darp", Settings)


def shares(settings: Settings, labeled: Any) -> np.ndarray:
  """Returns the pool's class distribution, float64 `[C]` of sum 1.

  Args:
    settings: the block.
    labeled: labeled images of each class, `[C]`.

  Raises:
    ValueError: if given shares are not C numbers of 0 or more and of sum 1.
  """
  counts = np.asarray(labeled, np.float64)
  if settings.target == "labeled":
    return counts / counts.sum()
  if settings.target == "uniform":
    return np.full(len(counts), 1 / len(counts))
  given = np.asarray(settings.shares, np.float64)
  if given.shape != counts.shape:
    raise ValueError(
      f"darp.shares holds {given.size} numbers, and there are"
      f" {len(counts)} classes; give each its share of the pool."
    )
  if not (np.all(given >= 0) and abs(given.sum() - 1) < 1e-3):
    raise ValueError(
      f"darp.shares are of sum {given.sum():g}, the least {given.min():g};"
      " shares are 0 or more, of sum 1."
    )
  return given / given.sum()


def refinement(learner: Learner, settings: Settings) -> fixmatch.Refinement:
  """Returns what refines guesses, of the images of the pool `[M, C]`.

  Args:
    learner: the network and the task.
    settings: the block.
  """
  share = shares(settings, learner.task.split.labeled_counts)

  def init(state):
    shape = (len(state.pseudo_labels), learner.task.num_classes)
    even = jnp.full(shape, 1.0 / shape[1], jnp.float32)
    return {"guesses": even, "refined": even + 0.0}

  def solved(guesses):
    target = jnp.asarray(share * len(guesses), jnp.float32)
    kept = darp.keep_confident(guesses, target, alpha=settings.alpha)
    return darp.refine(kept, target, variant=settings.solver)[0]

  def guess(seen: views.Seen, carried, logits):
    guesses = carried["guesses"].at[seen.index].set(jax.nn.softmax(logits))
    step = seen.state.step
    begin = round(settings.begin * seen.batch.steps)
    due = (step >= begin) & ((step - begin) % settings.every == 0)
    refined = jax.lax.cond(
      due, solved, lambda guesses: carried["refined"], guesses
    )
    found = jnp.log(refined[seen.index] + 1e-12)
    carried = {"guesses": guesses, "refined": refined}
    return jnp.where(step >= begin, found, logits), carried

  return fixmatch.Refinement(guess, init)


def make(learner: Learner, config: Any) -> views.Plugin:
  """Returns the plug-in.

  Args:
    learner: the network and the task.
    config: uses the blocks `darp`, `fixmatch` and `loss`.
  """
  settings = fields.of(Settings, config.darp)
  return fixmatch.make(learner, config, refinement(learner, settings))


METHOD = fixmatch.extended(
  "darp", "DARP", DARP, make, paper="Kim et al. (2020)"
)

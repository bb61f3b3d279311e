"""FixMatch and its family: one loss, threshold rules and two logit offsets.

A guess `q` on the weak view of an unlabeled image is the label of its strong
views, as far as a rule says that it counts:

    L = objective(x, y) + weight mean_u w_u H(q_u, softmax(z_s + b)),
    q = softmax((z_w + a) / T), or for T = 0 its most probable class.

`a = teacher log p + log (t / m)` and `b = strong log p`, where p is the prior
of the labels or m, the mean prediction on the pool, and t what guesses are
aligned with. Logit adjustment of the labeled branch is `loss.name`, that of
tests is `posthoc`.

Source: Sohn et al. (2020), "FixMatch", Equations 3 and 4; see the rows.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax.losses import adjustment
from ltjax.methods import blocks, changes, registry, titles, weak_strong
from ltjax.methods.learner import Learner
from ltjax.optim import ema
from ltjax.semi_supervised import thresholds
from ltjax.semi_supervised import weak_strong as views
from ltjax.settings import fields
from ltjax.settings.fields import setting

NAMES = {
  "fixed": "FixMatch",
  "relative": "AdaMatch",
  "curriculum": "FlexMatch",
  "self_adaptive": "FreeMatch",
  "soft": "SoftMatch",
}
ALIGNS = ("none", "labeled", "uniform", "batch")
PRIORS = ("labeled", "pool")


@dataclasses.dataclass(frozen=True)
class Settings:
  """How guesses are made; the defaults are FixMatch."""

  rule: str = setting("fixed", "which guesses count", choices=tuple(NAMES))
  threshold: float = setting(
    0.95,
    "of the confidence of a guess",
    least=0,
    most=1,
    when={"rule": ("fixed", "relative", "curriculum")},
  )
  temperature: float = setting(0.0, "T of a guess; 0: its class", least=0)
  weight: float = setting(1.0, "of the unlabeled loss", least=0)
  align: str = setting(
    "none", "t, what guesses are to be on average", choices=ALIGNS
  )
  teacher: float = setting(0.0, "strength of log p in a guess")
  strong: float = setting(0.0, "strength of log p in the loss of strong views")
  prior: str = setting("labeled", "p", choices=PRIORS)
  momentum: float = setting(
    0.999, "of m, the mean prediction on the pool", least=0, below=1
  )
  fairness: float = setting(
    0.0,
    "weight of an even use of classes",
    least=0,
    when={"rule": ("self_adaptive",)},
  )


FIXMATCH = registry.Block("fixmatch", Settings)


class Refinement(NamedTuple):
  """What changes guesses before they are weighed, and what it carries.

  Attributes:
    guess: `(seen, carried, logits [U, C]) -> (logits [U, C], carried)`.
    init: `model_state -> carried`.
  """

  guess: Callable[[views.Seen, Any, jax.Array], tuple[jax.Array, Any]] = (
    lambda seen, carried, logits: (logits, carried)
  )
  init: Callable[[Any], Any] = lambda state: {}


def fair(
  logits: jax.Array, weights: jax.Array, *, mean: jax.Array, usage: jax.Array
) -> jax.Array:
  """Returns `sum_k norm(m / h)_k log norm(s / g)_k`, fp32 `[]`.

  s is the mean prediction on the strong views that count, g how often they are
  of each class.

  Args:
    logits: of the strong views, `[K, U, C]`.
    weights: `[U]`, of the weak views.
    mean, usage: m and h, averages over the steps of the weak views'
      predictions and of their classes, `[C]`.

  Source: Wang et al. (2023), "FreeMatch", Equations 9 to 11.
  """
  probs, counted = jax.nn.softmax(logits), weights[None, :, None]
  total = jnp.maximum(jnp.sum(counted) * logits.shape[0], 1.0)
  strong = jnp.sum(counted * probs, (0, 1)) / total
  used = jnp.sum(counted * views.hard(logits), (0, 1)) / total

  def spread(mean, usage):
    ratio = mean / jnp.maximum(usage, 1e-6)
    return ratio / jnp.maximum(jnp.sum(ratio), 1e-6)  # of no image, zeros

  return jnp.sum(spread(mean, usage) * jnp.log(spread(strong, used) + 1e-12))


NONE = Refinement()


def make(
  learner: Learner, config: Any, refinement: Refinement = NONE
) -> views.Plugin:
  """Returns the plug-in.

  Args:
    learner: the network and the task.
    config: uses the blocks `fixmatch` and `loss`.
    refinement: of guesses.

  Raises:
    ValueError: if a setting does not fit.
  """
  settings = fields.of(Settings, config.fixmatch)
  objective, task = learner.objective(config), learner.task
  rule = thresholds.RULES[settings.rule](settings.threshold)
  classes = task.num_classes

  def init(state):
    even = jnp.full(classes, 1.0 / classes, jnp.float32)
    pool = rule.init(classes, len(state.pseudo_labels))
    return {
      "mean": even,
      "usage": even,
      "rule": pool,
      "refinement": refinement.init(state),
    }

  def loss(seen: views.Seen):
    weak, before = jax.lax.stop_gradient(seen.logits.weak), seen.carried
    labeled = jax.lax.stop_gradient(jax.nn.softmax(seen.logits.labeled[0]))
    probs = jax.nn.softmax(weak)
    now = {"mean": jnp.mean(probs, 0), "usage": jnp.mean(views.hard(weak), 0)}
    now = ema.update(
      {name: before[name] for name in now}, now, decay=settings.momentum
    )
    prior = adjustment.prior(seen.counts)
    target, mean = {
      "none": (now["mean"], now["mean"]),
      "labeled": (prior, now["mean"]),
      "uniform": (jnp.ones(classes), now["mean"]),
      "batch": (jnp.mean(labeled, 0), jnp.mean(probs, 0)),
    }[settings.align]
    shift = jnp.log(prior if settings.prior == "labeled" else now["mean"])
    teacher = settings.teacher * shift + jnp.log(target) - jnp.log(mean)
    guess, refined = jax.lax.stop_gradient(
      refinement.guess(seen, before["refinement"], weak + teacher[None])
    )
    weights, carried = rule.weigh(
      before["rule"],
      thresholds.Guesses(
        jax.nn.softmax(guess), seen.index, labeled, now["mean"]
      ),
    )
    strong = seen.logits.strong + (settings.strong * shift)[None, None]
    supervised = objective(
      seen.logits.labeled[0],
      seen.labels,
      counts=seen.counts,
      epoch=seen.batch.epoch,
      epochs=seen.batch.epochs,
    )
    consistency = views.agreement(
      strong, views.sharpened(guess, settings.temperature), weights
    )
    total = supervised + settings.weight * consistency
    if settings.fairness:
      total += settings.fairness * fair(seen.logits.strong, weights, **now)
    metrics = views.measured(supervised, consistency, weights)
    return total, metrics, now | {"rule": carried, "refinement": refined}

  return views.Plugin(loss, init=init)


def named(config: Any) -> str:
  """Returns the name of the base, its loss aside."""
  block = config.fixmatch
  name = NAMES[block.rule]
  if block.rule == "fixed" and block.temperature:
    name = "UDA"
  if block.prior == "pool" and block.teacher < 0 < block.strong:
    name = "DebiasPL" if name == "FixMatch" else f"{name} + DebiasPL"
  elif block.teacher or block.strong:
    name += f" + adjusted guesses ({block.teacher:g}, {block.strong:g})"
  if block.align in ("labeled", "uniform"):
    name += f" + DA ({block.align})"
  return name


def row(**settings: Any) -> tuple[registry.Change, ...]:
  """Returns the changes of a row: the method and settings of its block."""
  return (
    changes.method("fixmatch"),
    lambda config: config.fixmatch.update(settings),
  )


def _adjusted(config: Any) -> None:
  config.loss.name = "logit_adjustment"


def extended(
  name: str, kind: str, block: registry.Block, make: Any, **choices: Any
) -> registry.Method:
  """Returns the method of a plug-in that builds on FixMatch.

  Args:
    name: of the method and of its row.
    kind: what its title adds to the base's.
    block: its settings.
    make: `(learner, config) -> plugin`.
    **choices: `paper`, and settings of `weak_strong` that its row has.
  """
  return weak_strong.method(
    name,
    title=lambda config: titles.called(f"{named(config)} + {kind}", config),
    paper=choices.pop("paper"),
    make=make,
    blocks={block: {}, FIXMATCH: {}, blocks.LOSS: {}, blocks.SAMPLER: {}},
    rows={name: weak_strong.row(name, **choices)},
  )


METHOD = weak_strong.method(
  "fixmatch",
  title=lambda config: titles.called(named(config), config),
  paper="Sohn et al. (2020)",
  make=make,
  blocks={FIXMATCH: {}, blocks.LOSS: {}, blocks.SAMPLER: {}},
  rows={
    "fixmatch": row(),
    "uda": row(threshold=0.8, temperature=0.4),
    "flexmatch": row(rule="curriculum"),
    "freematch": row(rule="self_adaptive", fairness=0.01),
    "softmatch": row(rule="soft"),
    "adamatch": row(rule="relative", threshold=0.9, align="batch"),
    "fixmatch_da": row(align="labeled"),
    "fixmatch_la": (*row(), _adjusted),
    "debiaspl": row(teacher=-0.5, strong=0.5, prior="pool"),
  },
)

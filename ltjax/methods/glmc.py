"""GLMC: two mixtures of a pair of images that agree, and two heads.

Each image is mixed with a partner, by MixUp (globally) and by CutMix (locally).
Both mixtures have one label, and their projections predict each other. The loss
moves from a plain head `g'` to a class-weighted one, `g`, which is tested.

Source: Du et al. (2023), "Global and local mixture consistency cumulative
learning for long-tailed visual recognitions", Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.augment import mixing
from ltjax.losses import classification, consistency
from ltjax.losses import weights as weighting
from ltjax.methods import blocks, changes, decoupling, registry
from ltjax.methods.learner import Learner
from ltjax.models import heads
from ltjax.optim import recipe as recipes
from ltjax.settings import fields
from ltjax.settings.fields import setting
from ltjax.training import draw, step
from ltjax.training import state as states
from ltjax.training.stage import Stage

_TWO = tuple(f"{a},{b}" for a in mixing.NAMES for b in mixing.NAMES)
_CUT = {"views": tuple(v for v in (*mixing.NAMES, *_TWO) if "cutmix" in v)}
_MIXED = {"views": tuple(v for v in (*mixing.NAMES, *_TWO) if "mix" in v)}


@dataclasses.dataclass(frozen=True)
class Settings:
  """The block `glmc`, beside its recipe; the defaults are the paper's."""

  views: str = setting(
    "mixup,cutmix", "one or two", choices=(*mixing.NAMES, *_TWO)
  )
  beta: float = setting(
    0.5,
    "lambda ~ Beta(beta, beta), one a batch",
    above=0,
    when=_MIXED,
    author_code=1.0,
  )
  cutmix_labels: str = setting(
    "published",
    "or by the real area of the box",
    choices=mixing.LABELS,
    when=_CUT,
  )
  cutmix_side: str = setting(
    "down",
    "how its sides are rounded",
    choices=mixing.SIDES,
    when=_CUT,
    author_code="up",
  )
  crops: int = setting(
    1,
    "2: each view is augmented apart",
    choices=(1, 2),
    when={"views": _TWO},
    author_code=2,
  )
  consistency: float = setting(
    10.0, "gamma, weight of the views' agreement", least=0
  )
  dim: int = setting(
    128, "of the projector and the predictor", least=1, size=True
  )
  cumulative: bool = setting(True, "class-balanced learning by a second head")
  label_power: float = setting(
    1.0,
    "k: the weight of a class is n^-k",
    least=0,
    when={"cumulative": (True,)},
    author_code=1.2,
  )
  first_epoch: int = setting(
    1,
    "T of the first in alpha = 1 - (T / epochs)^2",
    choices=(0, 1),
    when={"cumulative": (True,)},
    author_code=0,
  )
  reduction: str = setting(
    "mean",
    "of the views' cross-entropies",
    choices=("mean", "sum"),
    author_code="sum",
  )
  finetune: bool = setting(False, "`g` once more, by the block `classifier`")

  def __post_init__(self):
    if self.consistency and self.views.count(",") != 1:
      raise ValueError(
        f"glmc.consistency is {self.consistency}, but glmc.views is"
        f" {self.views!r}, and it takes two to agree; set glmc.consistency to"
        " 0, or the views to mixup,cutmix."
      )


def algorithm(learner: Learner, settings: Settings) -> step.Algorithm:
  """Returns the loss `alpha L_c + (1 - alpha) L_cb + gamma L_sim`, Equation 11.

  With lambda the share of i in its mixture with j, H the cross-entropy of a
  head and w class weights, means over the batch and means or sums over the
  views:
  `L_c = lambda H(g', i) + (1 - lambda) H(g', j)`,
  `L_cb = lambda w_i H(g, i) + (1 - lambda) w_j H(g, j)`,
  `L_sim = -cos(q(p_1), sg(p_2)) - cos(q(p_2), sg(p_1))`.
  If not cumulative, alpha = 1 and `g` becomes a copy of `g'`.

  Args:
    learner: the network, and how images are augmented.
    settings: of the loss.
  """
  model, names = learner.model, settings.views.split(",")
  project = heads.linear(model.feature_dim, settings.dim)
  predict = heads.linear(settings.dim, settings.dim)
  rules = {"labels": settings.cutmix_labels, "side": settings.cutmix_side}

  def init(state):
    params, stats, extra = step.network(state)
    params["balanced_head"] = states.copy(state.balanced_head)
    params["project"] = project.init(learner.key("glmc/project"))
    params["predict"] = predict.init(learner.key("glmc/predict"))
    return params, stats, extra

  def loss(params, state, batch):
    k_ratio, *keys = jax.random.split(
      batch.key, 1 + settings.crops + len(names)
    )
    crops = [learner.transform(k, batch.images) for k in keys[: settings.crops]]
    ratio = mixing.draw_ratio(k_ratio, beta=settings.beta)
    labels, stats = jnp.split(batch.labels, 2), state.batch_stats

    def entropy(logits, share, k):
      weights = weighting.power(batch.arrays["counts"], exponent=k)
      of_image, of_partner = (
        weighting.of_labels(weights, y)
        * classification.cross_entropy(logits, y)
        for y in labels
      )
      return jnp.mean(mixing.mixup(of_image, of_partner, share))

    plain, balanced, points = [], [], []
    for i, name in enumerate(names):
      images, partners = jnp.split(crops[i % settings.crops], 2)
      images, share = mixing.mix(
        name, keys[settings.crops + i], images, partners, ratio, **rules
      )
      features, logits, stats = model.apply(params, stats, images, True)
      plain.append(entropy(logits, share, 0.0))
      logits = model.head_apply(params["balanced_head"], features)
      balanced.append(entropy(logits, share, settings.label_power))
      points.append(project.apply(params["project"], features))

    alpha = 1.0 - ((batch.epoch + settings.first_epoch) / batch.epochs) ** 2
    alpha = alpha if settings.cumulative else 1.0
    over = jnp.mean if settings.reduction == "mean" else jnp.sum
    distances = [  # 2 - 2 cos
      consistency.normalized_distance(
        predict.apply(params["predict"], p), target
      )
      for p, target in zip(points, points[::-1])
    ]
    metrics = {
      "plain": over(jnp.stack(plain)),
      "balanced": over(jnp.stack(balanced)),
      "consistency": jnp.sum(jnp.mean(jnp.stack(distances), 1) / 2 - 1),
    }
    total = alpha * metrics["plain"] + (1.0 - alpha) * metrics["balanced"]
    total += settings.consistency * metrics["consistency"]
    return total, step.Outcome(stats, metrics)

  def keep(state, trained):
    head = trained.params["balanced_head" if settings.cumulative else "head"]
    kept = step.keep_network(state, trained)
    return dataclasses.replace(kept, balanced_head=states.copy(head))

  metrics = ("plain", "balanced", "consistency")
  return step.Algorithm(
    loss, metrics, init=init, keep=keep, layer_decay=model.layer_decay
  )


def stages(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields GLMC's stage and, to choice, that of MaxNorm or balanced softmax.

  Args:
    learner: the network and the task.
    config: uses the blocks `glmc`, `sampler` (of the partners) and, with
      `glmc.finetune`, `classifier`.
  """
  settings = fields.of(Settings, config.glmc)
  recipe = recipes.of("glmc", config.glmc)
  title = title_of(config)
  yield step.make(
    "glmc",
    algorithm(learner, settings),
    draw.partners(
      learner.samples, recipe.batch_size, field="glmc", sampler=config.sampler
    ),
    recipe,
    key=learner.key("glmc"),
    report=learner.report(title.removesuffix(", fine-tuned"), head="balanced"),
  )
  if settings.finetune:
    yield decoupling.balanced_head(learner, config, title=title, fresh=False)


def title_of(config: Any) -> str:
  """Returns the name of the model; of mixtures alone if none must agree."""
  block = config.glmc
  name = "GLMC" if block.consistency else f"CE on {block.views}"
  return f"{name}, fine-tuned" if block.finetune else name


def _row(**settings: Any) -> tuple[registry.Change, ...]:
  return changes.method("glmc"), lambda config: config.glmc.update(settings)


def _second(**settings: Any) -> tuple[registry.Change, ...]:
  """GLMC, and then its head fitted again on images drawn at random."""
  settings["sampler"] = "random"
  return (
    *_row(finetune=True),
    lambda config: config.classifier.update(settings),
  )


GLMC = registry.Block(
  "glmc",
  Settings,
  recipes.Recipe(epochs=200, learning_rate=0.01, weight_decay=5e-3),
  {"batch_size": 64},
)
_PLAIN = {"consistency": 0.0, "cumulative": False}
METHOD = registry.Method(
  "glmc",
  title=title_of,
  paper="Du et al. (2023)",
  stages=stages,
  blocks={
    GLMC: {},
    blocks.SAMPLER: {},
    blocks.CLASSIFIER: {"glmc.finetune": (True,)},
  },
  rows={
    "glmc": _row(),
    # The recipe of Alshammari et al. (2022), as GLMC's is unpublished.
    "glmc_max_norm": _second(
      loss="class_balanced",
      max_norm=0.1,
      epochs=10,
      learning_rate=0.01,
      weight_decay=0.1,
    ),
    "glmc_bs": _second(loss="logit_adjustment"),
    # Table 5.
    "glmc_cumulative": _row(views="plain", consistency=0.0),
    "glmc_mixture": _row(cumulative=False),
    "glmc_gamma0": _row(consistency=0.0),
    "ce_mixup": _row(views="mixup", **_PLAIN),
    "ce_cutmix": _row(views="cutmix", **_PLAIN),
  },
)

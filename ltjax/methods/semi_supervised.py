"""Semi-supervised baselines: Pi-model, temporal ensembling, Mean Teacher, VAT.

Each is one stage from the state it is given, a fresh network or one that was
pre-trained, with any loss and any sampler on the labeled images: Mean Teacher
with `config.loss.name = "ldam"` is "Mean Teacher + L" of Liu et al.

The settings that Liu et al. used for it, and those of the VAT and Mean Teacher
runs that Yang & Xu mention, are unpublished. Ours are the defaults of
`config.semi`; `semi.weight` has one for each method.

Source: Liu et al., Section 4.1; Laine & Aila (2017); Tarvainen & Valpola
(2017); Miyato et al. (2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import dataclasses
import functools
from typing import Any

from ltjax.devices import sharding
from ltjax.methods import blocks, changes, registry, titles
from ltjax.methods.learner import Learner
from ltjax.optim import recipe as recipes
from ltjax.semi_supervised import mean_teacher as teachers
from ltjax.semi_supervised import pi_model as pi_models
from ltjax.semi_supervised import regularizer as regularizers
from ltjax.semi_supervised import stage
from ltjax.semi_supervised import temporal_ensembling as ensembles
from ltjax.semi_supervised import vat as vats
from ltjax.settings.fields import setting
from ltjax.training import draw, step
from ltjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Settings:
  """What the four can be told."""

  weight: float | None = setting(
    None, "of the consistency term; None: the method's own", least=0
  )
  # USB's length, the shape of Laine & Aila.
  rampup: float = setting(
    0.4, "share of the stage over which the weight rises", least=0, most=1
  )
  unlabeled_ratio: int = setting(
    1, "unlabeled images to a labeled one, in a batch", least=1
  )
  # As its authors'.
  ema: float = setting(
    0.999,
    "what the teacher keeps of itself in a step",
    least=0,
    below=1,
    when={"method": ("mean_teacher",)},
  )
  teacher_batch_norm: str = setting(
    "batch",
    "its statistics: of its batch, or an ema of the student's",
    choices=("batch", "ema"),
    when={"method": ("mean_teacher",)},
  )
  # As its authors'.
  alpha: float = setting(
    0.6,
    "what the average over epochs keeps of itself",
    least=0,
    below=1,
    when={"method": ("temporal_ensembling",)},
  )
  # As USB's.
  epsilon: float = setting(
    6.0, "length of the worst step", above=0, when={"method": ("vat",)}
  )
  xi: float = setting(
    0.1,
    "step of the finite difference; 1 for a bf16 model",
    above=0,
    when={"method": ("vat",)},
  )
  iterations: int = setting(
    1, "of the power method", least=1, when={"method": ("vat",)}
  )


SEMI = registry.Block("semi", Settings, recipes.Recipe(epochs=200))


def stages(
  learner: Learner,
  config: Any,
  *,
  weight: float,
  make: Callable[[Any], regularizers.Regularizer],
) -> Iterator[Stage]:
  """Yields the one stage; Mean Teacher leaves the teacher to be tested.

  Args:
    learner: the network and the task.
    config: uses the blocks `semi`, `loss`, `sampler` and `model`.
    weight: of the consistency term, where the config leaves it to the method.
    make: `config.semi -> regularizer`.

  Raises:
    ValueError: if a setting does not fit.
  """
  if config.loss.counts != "labeled":
    raise ValueError(
      f"loss.counts is {config.loss.counts!r}, but {config.method} has no"
      " pseudo labels to count; set --config.loss.counts=labeled."
    )
  settings, title = config.semi, registry.title(config)
  sharding.check_batch(settings.batch_size, learner.mesh, "semi")
  recipe = recipes.of("semi", settings)
  yield step.make(
    "semi",
    stage.algorithm(
      learner.model,
      make(settings),
      objective=learner.objective(config),
      transform=learner.transform,
      num_labeled=recipe.batch_size,
      weight=weight if settings.weight is None else settings.weight,
      rampup=settings.rampup,
    ),
    draw.pairs(
      learner.samples,
      recipe.batch_size,
      ratio=settings.unlabeled_ratio,
      field="semi",
      sampler=config.sampler,
    ),
    recipe,
    key=learner.key("semi"),
    report=learner.report(title, head="balanced"),
  )


def _method(name: str, title: str, paper: str, **choices: Any):
  """Returns a method, whose rows are `ce_NAME` and those given."""
  rows = choices.pop("rows", {})
  ce = changes.method("supervised")
  return registry.Method(
    name,
    title=lambda config: f"{title} + {titles.supervised(config)}",
    paper=paper,
    stages=functools.partial(stages, **choices),
    blocks={SEMI: {}, blocks.LOSS: {}, blocks.SAMPLER: {}},
    needs_unlabeled=True,
    # Yang & Xu, Appendix E.1.
    rows={f"ce_{name}": (ce, changes.method(name)), **rows},
  )


def _l(name: str) -> tuple[registry.Change, ...]:
  return changes.ldam, changes.drw, changes.method(name)


# Weights of 10 and 50 as in the configs of USB (Wang et al., 2022) for
# CIFAR-10; 1 as in the paper on VAT; 30, between the other squared errors, is
# ours.
METHODS = (
  _method(
    "mean_teacher",
    "Mean Teacher",
    "Tarvainen & Valpola (2017)",
    weight=50.0,
    make=lambda block: teachers.make(
      decay=block.ema, batch_norm=block.teacher_batch_norm
    ),
    rows={"mean_teacher_l": _l("mean_teacher")},
  ),
  _method(
    "pi_model",
    "Pi-model",
    "Laine & Aila (2017)",
    weight=10.0,
    make=lambda block: pi_models.make(),
  ),
  _method(
    "temporal_ensembling",
    "Temporal ensembling",
    "Laine & Aila (2017)",
    weight=30.0,
    make=lambda block: ensembles.make(alpha=block.alpha),
  ),
  _method(
    "vat",
    "VAT",
    "Miyato et al. (2018)",
    weight=1.0,
    make=lambda block: vats.make(
      epsilon=block.epsilon, xi=block.xi, iterations=block.iterations
    ),
    rows={"vat_l": _l("vat")},
  ),
)

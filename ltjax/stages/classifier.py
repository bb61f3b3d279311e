"""Classifier fitting on a frozen embedding: Stage 3 of SSLT, cRT and LWS.

A head is fitted to the features of `f` by class-balanced sampling, or by a loss
that adjusts for the class counts. BatchNorm statistics are frozen too, so that
features are computed only once (see `features`), or are updated by the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ltjax.losses import objective
from ltjax.models import rescaling
from ltjax.optim import recipe as recipes
from ltjax.settings.fields import setting
from ltjax.stages import features as feature_sources
from ltjax.stages import head_rules
from ltjax.training import class_probabilities, draw, inference, sampling, step
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

DATA = ("labeled", "all")
# `power` is left out: its exponent is a setting of its own.
SAMPLERS = tuple(n for n in class_probabilities.NAMES if n != "power")
# As blocks of a config's `loss`.
LOSSES = {
  "cross_entropy": {"name": "cross_entropy"},
  "logit_adjustment": {"name": "logit_adjustment"},
  "class_balanced": {"name": "cross_entropy", "weights": "effective_number"},
}
_TRAINED = {"kind": ("crt", "lws")}


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a classifier is fitted on frozen features.

  Attributes:
    field: the config block, for errors.
    kind: `crt` or `lws`, see `head_rules`.
    data: the `labeled` images, or `all` with pseudo labels (an ablation of
      Table 3).

  Raises:
    ValueError: if settings do not fit together.

  Source: Liu et al., Section 3.4, Stage 3; Kang et al. (2020); for the losses
    Ren et al. (2020), "Balanced meta-softmax", which does to randomly drawn
    images what re-sampling does, and Cui et al. (2019), beta 0.9999; for the
    bound Alshammari et al. (2022), "Long-tailed recognition via weight
    balancing".
  """

  field: str = "classifier"
  kind: str = "crt"
  data: str = "labeled"
  min_steps: int = setting(
    0,
    "steps at least, by more epochs where these have fewer",
    least=0,
    size=True,
  )
  views: int = setting(
    10,
    "augmented views cached per image; 0: the plain image",
    least=0,
    size=True,
  )
  # With `update` parameters are frozen, but BatchNorm is in training mode.
  # Nothing can be cached then: each draw is augmented anew.
  batch_norm: str = setting(
    "frozen",
    "whether BatchNorm's statistics move on, with `views` of 1",
    choices=("frozen", "update"),
  )
  sampler: str = setting(
    "class_balanced",
    "how images are drawn",
    choices=SAMPLERS,
    when=_TRAINED,
  )
  loss: str = setting(
    "cross_entropy",
    "others than the first balance themselves, with the sampler random",
    choices=tuple(LOSSES),
    when=_TRAINED,
  )
  max_norm: float = setting(
    0.0,
    "bound of lengths, from a trained head's shortest to its longest; 0: none",
    least=0,
    most=1,
    when={"kind": ("crt",)},
  )

  def __post_init__(self):
    if self.batch_norm == "update" and self.views != 1:
      raise ValueError(
        f"{self.field}.views is {self.views}, but with {self.field}.batch_norm"
        "=update nothing is cached: each draw is a new view of the image. Set"
        f" --config.{self.field}.views=1, or --config.{self.field}.batch_norm="
        "frozen."
      )
    if self.max_norm and self.kind != "crt":
      raise ValueError(
        f"{self.field}.max_norm is {self.max_norm}, but {self.field}.kind="
        f"{self.kind} trains no vectors to bound; set it to 0, or the kind to"
        " crt."
      )
    if self.loss != "cross_entropy" and self.sampler != "random":
      raise ValueError(
        f"{self.field}.loss is {self.loss!r}, which adjusts for the class"
        f" counts, but {self.field}.sampler is {self.sampler!r}, which has done"
        f" so already; set --config.{self.field}.sampler=random, or the loss to"
        " cross_entropy."
      )


def of(field: str, block: Mapping[str, Any]) -> Settings:
  """Returns the settings that a block of a config holds.

  `field` is `classifier` or `refit`; fields of `block` that are not those of
  `Settings` are left alone. What does not fit together is a ValueError.
  """
  names = [entry.name for entry in dataclasses.fields(Settings)]
  return Settings(field, **{n: block[n] for n in names if n in block})


class Maker:
  """Makes classifier stages around one compiled step.

  Args:
    predictor: runs the network; its model gives the head.
    samples: the images.
    recipe: epochs, batch size and SGD settings. An epoch is as many draws as
      there are images, whatever the number of views.
    settings: loss, sampler and the like.

  Raises:
    ValueError: if the rule does not fit the head, or a batch is larger than the
      set.

  Source: Liu et al., Section 3.4, Stage 3, Equation 5; Kang et al. (2020).
  """

  def __init__(
    self,
    predictor: inference.Predictor,
    samples: draw.Samples,
    recipe: recipes.Recipe,
    settings: Settings,
  ):
    self._predictor = predictor
    self._samples = samples
    self._settings = settings
    self._frozen = settings.batch_norm == "frozen"
    drawn = samples.images if settings.data == "all" else samples.labels
    self._num_samples = len(drawn)
    self._steps = sampling.steps_per_epoch(
      self._num_samples, recipe.batch_size, settings.field
    )
    self._recipe = recipe.lasting(settings.min_steps, self._steps)
    self._rule = head_rules.make(
      settings.kind, predictor.model, field=settings.field
    )
    self._loss = self._make_loss()
    self._bounded = {}
    if settings.max_norm:
      head = jax.eval_shape(predictor.model.head_init, jax.random.key(0))
      rescaling.check_linear(head, f"{settings.field}.max_norm")
      self._bounded["constrain"] = lambda params, state: rescaling.max_norm(
        params, bound=state.extra["bound"]
      )

  def _make_loss(self) -> Callable[..., tuple[jax.Array, step.Outcome]]:
    rule, predictor = self._rule, self._predictor
    minimize = objective.make(
      LOSSES[self._settings.loss],
      head="linear",
      head_scale=1.0,
      num_classes=self._samples.num_classes,
    )
    features = feature_sources.from_cache
    if not self._frozen:
      features = feature_sources.in_training_mode(
        predictor.model, predictor.transform
      )

    def loss(params: Any, state: TrainState, batch: step.Batch):
      embedded, batch_stats = features(state, batch.index, batch.arrays)
      logits = rule.logits(params, batch.arrays["frozen"], embedded)
      value = minimize(
        logits,
        batch.labels,
        counts=batch.arrays["counts"],
        epoch=batch.epoch,
        epochs=batch.epochs,
      )
      accuracy = jnp.mean(jnp.argmax(logits, -1) == batch.labels)
      return value, step.Outcome(batch_stats, {"accuracy": accuracy})

    return loss

  def make(
    self,
    name: str,
    *,
    fresh: bool,
    key: jax.Array,
    report: Callable[[ModelState], list[dict[str, Any]]],
  ) -> Stage:
    """Returns a stage that fits `g`.

    Args:
      name: the stage's name, such as `loop1/refit`.
      fresh: start from a new head, which has no lengths to be bounded by;
        otherwise go on from `g`.
      key: the stage's random key, for the new head and the views.
      report: rows to write when the stage is over.
    """
    head_key, views_key, step_key = jax.random.split(key, 3)
    rule, head_init = self._rule, self._predictor.model.head_init
    share, field = self._settings.max_norm, self._settings.field
    if share and fresh:
      raise ValueError(
        f"{field}.max_norm is {share}, which bounds a trained head by its own"
        " lengths, but here the head starts anew; set it to 0."
      )

    def init(state: ModelState):
      stats = {} if self._frozen else state.batch_stats
      params = rule.init(state, head_key, fresh)
      if not share:
        return params, stats, {}
      return params, stats, {"bound": rescaling.norm_bound(params, share=share)}

    def keep(state: ModelState, trained: TrainState) -> ModelState:
      stats = state.batch_stats if self._frozen else trained.batch_stats
      head = rule.head(trained.params, rule.frozen(state))
      return state.replace(  # type: ignore[attr-defined]
        balanced_head=head, batch_stats=stats
      )

    def shapes(state: ModelState) -> ModelState:
      if not fresh:
        return state
      return state.replace(  # type: ignore[attr-defined]
        balanced_head=jax.eval_shape(head_init, head_key)
      )

    return step.make(
      name,
      step.Algorithm(
        self._loss,
        ("accuracy",),
        init=init,
        keep=keep,
        shapes=shapes,
        **self._bounded,
      ),
      self._data(views_key),
      self._recipe,
      key=step_key,
      report=report,
    )

  def _data(self, views_key: jax.Array) -> step.Data:
    """Draws rows of a cache of features or, where they change, images."""
    samples, views = self._samples, self._settings.views
    num, batch_size = self._num_samples, self._recipe.batch_size
    images = samples.images[:num]

    def prepare(state: ModelState, name: str, epochs: int):
      labels = jnp.concatenate([samples.labels, state.pseudo_labels])[:num]
      arrays = {
        "labels": labels,
        "counts": samples.counts(labels),
        "frozen": self._rule.frozen(state),
      }
      stream = samples.sampler(
        {**draw.RANDOM, "name": self._settings.sampler},
        labels,
        batch_size,
        name=name,
        epochs=epochs,
      )
      if not self._frozen:
        network = {"backbone": state.backbone, "head": state.head}
        return arrays | {"images": images} | network, stream
      arrays["features"] = feature_sources.cached(
        self._predictor, state, images, views=views, key=views_key
      )
      arrays["labels"] = jnp.tile(labels, max(views, 1))
      return arrays, feature_sources.rows(
        stream, num_images=num, views=views, seed=samples.seed, stage=name
      )

    return step.Data(self._steps, batch_size, prepare)

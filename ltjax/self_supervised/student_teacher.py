"""A student that follows its own average: BYOL, and the second stage of FASSL.

The *student* sees one view of an image and predicts, by a small network of its
own, what the *teacher* makes of another view. The teacher is a slow moving
average of the student without that predictor and gets no gradient. That it is
slow, and the predictor, keep images from being mapped to one point.

FASSL weights each image by how unlike it is to the prototypes of its first
stage. With the score `uniform` all weights are 1: from scratch that is BYOL,
after the first stage of FASSL the ablation of its weights. The loss is the mean
over both directions (BYOL has their sum), and each view is normalised by its
own batch, as in the code of BYOL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ltjax import models
from ltjax.losses import consistency
from ltjax.models import projections
from ltjax.self_supervised import encoder, pretext, teacher
from ltjax.training import step
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState, TrainState

Views = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def task(
  network: encoder.Encoder,
  predictor: projections.Projection,
  settings: teacher.Settings,
  *,
  views: Views,
  key: jax.Array,
) -> step.Algorithm:
  """Returns the pretext task of a student that follows a teacher.

  `mean over i and both directions of w_i (2 - 2 cos(q(z_S(x_i)), z_T(x'_i)))`,
  with w_i made of `z_T(x'_i)`, a constant.

  Its params are those of the encoder and `predictor`. Its extra holds what
  `teacher` does; with weights the `prototypes`, which stay as they are, and
  with `score_from="frozen"` the `frozen` encoder's params and stats.

  Args:
    network: `f` and a projection, of student and teacher.
    predictor: from the student's embeddings to those of the teacher.
    settings, views: as of `make`.
    key: draws the predictor.

  Source: Lin et al. (2023), Equations 3 and 4; Grill et al. (2020), Equation 2.
  """
  frozen_scores = settings.weighted and settings.score_from == "frozen"

  def init(state: ModelState) -> tuple[dict[str, Any], Any, Any]:
    params, stats = network.init(state)
    extra = teacher.start(settings, params, stats)
    if settings.weighted:
      if "prototypes" not in state.pretrained:
        raise ValueError(
          f"student.score is {settings.score!r}, but no earlier stage left"
          " prototypes; set --config.student.score=uniform."
        )
      extra["prototypes"] = state.pretrained["prototypes"]
    if frozen_scores:
      extra["frozen"] = {"params": params, "stats": stats}
    first, first_stats = predictor.init(key)
    return (
      params | {"predictor": first},
      stats | {"predictor": first_stats},
      extra,
    )

  def weigh(
    view: jax.Array, target: jax.Array, state: TrainState, head: Any
  ) -> jax.Array:
    """Weights `[B]` of images by what the teacher makes of them."""
    if not settings.weighted:
      return jnp.ones(len(target))
    if frozen_scores:
      frozen = state.extra["frozen"]
      _, target, _ = network.apply(
        frozen["params"], frozen["stats"], view, head, False
      )
    return teacher.of(settings, target, state.extra["prototypes"])

  def loss(
    params: Any, state: TrainState, batch: step.Batch
  ) -> tuple[jax.Array, step.Outcome]:
    pair, stats = views(batch.key, batch.images), state.batch_stats
    features, predictions = [], []
    for view in pair:
      seen, embeddings, encoded = network.apply(
        params, stats, view, batch.arrays["head"], True
      )
      prediction, predicted = predictor.apply(
        params["predictor"], stats["predictor"], embeddings, True
      )
      stats = encoded | {"predictor": predicted}
      features.append(seen)
      predictions.append(prediction)
    # Each view's prediction is matched with the other view's target.
    others = pair[::-1]
    targets = [
      teacher.embed(
        settings,
        network,
        state.extra,
        state.batch_stats,
        view,
        batch.arrays["head"],
      )
      for view in others
    ]
    weights = jnp.stack(
      [
        weigh(view, target, state, batch.arrays["head"])
        for view, target in zip(others, targets)
      ]
    )
    distances = jnp.stack(
      [
        consistency.normalized_distance(prediction, target)
        for prediction, target in zip(predictions, targets)
      ]
    )
    metrics = teacher.watch(weights, batch.labels, batch.arrays["counts"])
    metrics["alignment"] = jnp.mean(distances)
    outcome = step.Outcome(stats, metrics, features=features[0])
    return jnp.mean(weights * distances), outcome

  def follow(
    params: Any, state: TrainState, batch: step.Batch, outcome: step.Outcome
  ) -> Any:
    return teacher.follow(
      settings,
      state.extra,
      params,
      outcome.batch_stats,
      step=state.step,
      total_steps=batch.steps,
    )

  def left(state: ModelState, params: Any, stats: Any) -> ModelState:
    kept = {k: v for k, v in state.pretrained.items() if k == "prototypes"}
    return encoder.left(state, params, stats, **kept)

  return step.Algorithm(
    init=init,
    loss=loss,
    keep=lambda state, trained: left(
      state, trained.params, trained.batch_stats
    ),
    follow=follow,
    metrics=("alignment", *teacher.METRICS),
    shapes=lambda state: left(state, *jax.eval_shape(init, state)[:2]),
  )


def make(
  name: str,
  model: models.Model,
  setup: pretext.Setup,
  *,
  settings: teacher.Settings,
  views: Views,
  inherit: bool,
  dim: int = 128,
  hidden: int = 0,
) -> Stage:
  """Returns the stage that trains a student with the average of itself.

  It leaves the student's `f`, its projection, and the prototypes as they were.
  Its rows have the loss; `alignment`, the mean distance without weights;
  `effective_sample_size`, as a share of the batch; and, where labels are known,
  the `weight_correlation` of weight with 1 / count of the class: below 0, the
  weights favour frequent classes.

  Args:
    name, model, setup: the stage's name, the network, and the images.
    views: makes two random views of each image, see `ltjax.augment.views`.
    inherit: whether to go on with the projection and the prototypes that the
      stage before left; otherwise the projection is fresh, and that of BYOL.
    dim: D, of the embeddings.
    hidden: width of the projection's hidden layer; 0: as wide as the features.
    settings: of the student and its teacher.

  Raises:
    ValueError: if there are no prototypes to weigh images by, the images are
      not square, or the batch is larger than the set.
  """
  if settings.weighted and not inherit:
    raise ValueError(
      f"student.score is {settings.score!r}, which needs the prototypes of"
      " FASSL's first stage, but this stage begins from scratch; set"
      " pretrain.name to 'fassl', or --config.student.score=uniform."
    )
  encoder.check_square("fassl" if inherit else "byol", model.image_shape)
  projection_key, predictor_key, step_key = jax.random.split(setup.key, 3)
  shape = {"hidden": hidden, "dim": dim, "key": projection_key}
  if inherit:
    network = encoder.heir(model, **shape)
  else:
    network = encoder.fresh(model, last_norm=False, **shape)
  return pretext.make(
    name,
    task(
      network,
      projections.batch_norm_mlp(
        dim, hidden=settings.hidden, dim=dim, last_norm=False
      ),
      settings,
      views=views,
      key=predictor_key,
    ),
    setup,
    feature_dim=model.feature_dim,
    key=step_key,
  )

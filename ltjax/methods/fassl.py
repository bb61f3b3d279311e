"""Frequency-aware self-supervised learning (FASSL): prototypes, then a student.

Without labels nobody knows which images are of the tail. FASSL learns
prototypes by a contrastive loss, which sees the head most, so that most of them
lie there; an image far from most prototypes is then taken for a rare one, and
counts more when a student learns to predict its teacher.

The paper's weight depends on the sum of the prototypes, whose sign and rotation
its own loss leaves open, so that it may as well favour the head: the rows of
the last stage have `weight_correlation`, and the other scores are there to
compare.

Source: Lin et al. (2023), "Frequency-aware self-supervised long-tailed
learning", Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from ltjax.evaluation import prototypes as evaluation
from ltjax.losses import density_weights
from ltjax.methods import pretext_tasks, registry
from ltjax.methods import views as random_views
from ltjax.methods.learner import Learner
from ltjax.models import projections
from ltjax.optim import recipe as recipes
from ltjax.self_supervised import prototypes, student_teacher, teacher
from ltjax.settings import fields
from ltjax.settings.fields import setting
from ltjax.training.stage import Stage
from ltjax.training.state import ModelState

FASSL = {"pretrain.name": ("fassl",)}


@dataclasses.dataclass(frozen=True)
class Prototypes(prototypes.Settings):
  """The first stage, frequency-aware prototypes, and what it starts from."""

  start: str = setting(
    "sdclr",
    "what the block `pretrain` trains before",
    choices=("none", *pretext_tasks.NAMES),
  )


PROTOTYPES = registry.Block(
  "prototypes", Prototypes, recipes.Recipe(epochs=200), when=FASSL
)
STUDENT = registry.Block(
  "student",
  teacher.Settings,
  recipes.Recipe(epochs=500),
  when={"pretrain.name": ("byol", "fassl")},
)


def stages(learner: Learner, config: Any) -> Iterator[Stage]:
  """Yields the stages `pretrain`, `prototypes` and `student`.

  Args:
    learner: the network and the task.
    config: uses the blocks `pretrain`, `prototypes` and `student`.

  Raises:
    ValueError: if a setting of these does not fit.
  """
  block, first, second = config.pretrain, config.prototypes, config.student
  shape = {"dim": block.dim, "hidden": block.hidden}
  views = random_views.two(learner, config)

  # theta_T <- initialized from SDCLR.
  if first.start != "none":
    yield pretext_tasks.make(learner, config)

  # theta_T and P by the contrastive loss on h = P z, Equations 1 and 2.
  yield prototypes.make(
    "prototypes",
    learner.model,
    pretext_tasks.setup_of(
      learner,
      config,
      name="prototypes",
      report=lambda state: report(learner, config, state),
    ),
    settings=fields.of(prototypes.Settings, first),
    views=views,
    **shape,
  )

  # theta_S by the re-balanced loss, theta_T by EMA, Equations 3 and 4.
  yield student_teacher.make(
    "student",
    learner.model,
    pretext_tasks.setup_of(learner, config, name="student"),
    views=views,
    inherit=True,
    settings=fields.of(teacher.Settings, second),
    **shape,
  )


def report(
  learner: Learner, config: Any, state: ModelState
) -> list[dict[str, Any]]:
  """Returns a row on the classes that the prototypes are near.

  It also has, for both scores, the correlation of an image's weight with
  1 / count of its class: above 0 the weights favour the tail.

  Args:
    learner: the network and the task.
    config: gives the shape of the projection.
    state: holds projection and prototypes.

  Source: Lin et al. (2023), Tables 4 and 5.
  """
  task, block = learner.task, config.pretrain
  images, labels = task.images[: task.num_labeled], np.asarray(task.labels)
  if block.data == "all":
    images, labels = task.images, np.concatenate([labels, task.truth])
  kept = state.pretrained
  projection = projections.batch_norm_mlp(
    learner.model.feature_dim,
    hidden=block.hidden or learner.model.feature_dim,
    dim=block.dim,
    last_norm="second_norm" in kept["projection"],
  )
  embeddings, _ = projection.apply(
    kept["projection"],
    kept["projection_stats"],
    learner.predictor.features(state, images),
    False,
  )
  (row,) = evaluation.rows(
    embeddings,
    kept["prototypes"],
    labels,
    groups=task.groups,
    num_classes=task.num_classes,
    key=learner.key("prototypes/controls"),
  )
  known = labels >= 0
  counts = np.bincount(labels[known], minlength=task.num_classes)
  rarity = np.where(known, 1.0 / counts[np.maximum(labels, 0)], 0.0)
  for score in ("paper", "energy"):
    scores = density_weights.scores(
      embeddings,
      kept["prototypes"],
      score=score,
      normalize=config.student.normalize_prototypes,
    )
    weights = density_weights.weights(
      scores,
      clip=config.student.clip,
      temperature=config.student.weight_temperature,
      standardize=config.student.standardize,
    )
    correlation = density_weights.correlation(
      weights, jnp.asarray(rarity, jnp.float32), jnp.asarray(known)
    )
    row[f"weight_correlation/{score}"] = float(correlation)
  return [row]

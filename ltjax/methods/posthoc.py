"""Post-hoc correction: the last step of any method, without training.

The final head `g` is corrected for the class sizes it was trained with:

- *Logit adjustment*: `argmax_c z_c - tau log pi_c`, `pi_c` the share of class
  `c` in the labeled images.
- *Threshold moving*: the probability of each class is multiplied by the cost of
  missing it, `p_c sum_k cost[c, k]`, and brought to sum 1. With costs of
  `pi^-tau`, which is the default, it is logit adjustment.
- *Tau-normalization*: `w_c / |w_c|^tau`, without bias.

The first two shift logits, which fits any head; the last is for linear heads.
A method that balances already, such as cRT, is corrected twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from ltjax.devices import sharding
from ltjax.methods import registry
from ltjax.methods.learner import Learner
from ltjax.models import rescaling
from ltjax.settings.fields import setting
from ltjax.stages import tau as taus
from ltjax.training.stage import Stage, shapes_after
from ltjax.training.state import ModelState, TrainState

TITLES = {
  "logit_adjustment": "post-hoc logit adjustment",
  "threshold_moving": "threshold moving",
  "tau_norm": "tau-normalization",
}
NAMES = ("none", *TITLES)


@dataclasses.dataclass(frozen=True)
class Settings:
  """A correction of the final head, after any method."""

  name: str = setting("none", "of the correction", choices=NAMES)
  tau: float = setting(
    1.0,
    "strength",
    least=0,
    most=taus.GRID[-1],
    when={"name": tuple(TITLES), "select": (False,), "costs": ((),)},
  )
  select: bool = setting(
    False, "tau on the validation images", when={"name": tuple(TITLES)}
  )
  costs: tuple[float, ...] = setting(
    (), "of missing a class", when={"name": ("threshold_moving",)}
  )


POSTHOC = registry.Block("posthoc", Settings)


def shares(counts: Sequence[int], *, what: str) -> np.ndarray:
  """Returns `pi`, each class's share of the labeled images.

  Args:
    counts: `[C]` labeled images.
    what: what needs them, for the error.

  Returns:
    float64 `[C]`, above 0, of sum 1.

  Raises:
    ValueError: if a class has no labeled image.
  """
  sizes = np.asarray(counts, np.float64)
  if not np.all(sizes > 0):
    raise ValueError(
      f"{what} divides by class sizes, and class {int(np.argmin(sizes))} has no"
      " labeled image; give every class one, or set --config.posthoc.name=none."
    )
  return sizes / sizes.sum()


def cost_of_missing(costs: Sequence[float], *, num_classes: int) -> np.ndarray:
  """Returns what it costs to miss each class.

  Args:
    costs: `C` numbers, or the `C * C` of a matrix row by row, whose entry
      `[c, k]` is the cost of calling an image of class `c` one of class `k`.
    num_classes: `C`.

  Returns:
    float64 `[C]`: the numbers, or the sums of the rows.

  Raises:
    ValueError: for another length, negative costs, a cost of being right, or a
      class that costs nothing and so would never be predicted.

  Source: Zhou & Liu (2006), "Training cost-sensitive neural networks with
    methods addressing the class imbalance problem", Section 2.3.
  """
  given = np.asarray(costs, np.float64)
  if given.shape not in ((num_classes,), (num_classes**2,)):
    raise ValueError(
      f"posthoc.costs holds {given.size} numbers of shape {given.shape};"
      f" {num_classes} classes need {num_classes} (a cost a class) or"
      f" {num_classes**2} (a matrix, row by row)."
    )
  if not np.all(np.isfinite(given) & (given >= 0)):
    raise ValueError("posthoc.costs must be finite and 0 or more.")
  if given.size == num_classes**2:
    matrix = given.reshape(num_classes, num_classes)
    if np.any(np.diag(matrix)):
      raise ValueError(
        "posthoc.costs must be 0 on the diagonal of the matrix: being right"
        " costs nothing."
      )
    given = matrix.sum(axis=1)
  if not np.all(given > 0):
    raise ValueError(
      f"posthoc.costs: missing class {int(np.argmin(given))} costs nothing, so"
      " it would never be predicted; give it a cost above 0."
    )
  return given


def make(
  name: str,
  learner: Learner,
  settings: Mapping[str, Any],
  *,
  title: str = "",
  after: Sequence[Stage] = (),
) -> Stage:
  """Returns the stage that corrects the head of a finished method.

  Args:
    name: the stage's name.
    learner: the network and the task.
    settings: `name`, one of `NAMES` but `none`; `tau`, 0 to 2; `select`, to
      choose tau on validation images; `costs` of threshold moving, empty for
      `pi^-tau`, see `cost_of_missing`.
    title: the name of the method's model; the rows call this one
      `TITLE + post-hoc logit adjustment`.
    after: the method's stages, which tell the structure of its head.

  Raises:
    ValueError: if a setting, the class counts or the head does not fit.

  Source: Menon et al. (2021), Equation 9; Zhou & Liu (2006); Kang et al.
  (2020).
  """
  chosen = settings["name"]
  task = learner.task
  chooser = taus.Chooser(
    learner.predictor,
    images=task.validation_images,
    labels=task.validation_labels,
    tau=settings["tau"],
    select=settings["select"],
    field="posthoc",
    switch="select",
  )
  change = _change(chosen, learner, settings)
  if chosen == "tau_norm":
    shapes = shapes_after(after, jax.eval_shape(learner.init))
    rescaling.check_linear(shapes.balanced_head, f"posthoc.name={chosen}")
  kind = TITLES[chosen]
  model = f"{title} + {kind}" if title else kind.capitalize()

  def finish(state: ModelState, trained: TrainState | None) -> ModelState:
    assert trained is None

    def head_of(tau: float) -> Any:
      return change(state.balanced_head, tau)

    head = head_of(chooser.choose(state, head_of))
    return state.replace(balanced_head=head)  # type: ignore[attr-defined]

  def after_it(state: ModelState) -> ModelState:
    head = jax.eval_shape(lambda g: change(g, 1.0), state.balanced_head)
    return state.replace(balanced_head=head)  # type: ignore[attr-defined]

  return Stage(
    name=name,
    finish=finish,
    report=lambda state: [
      *chooser.rows(),
      *learner.report(model, head="balanced")(state),
    ],
    shapes=after_it,
  )


def _change(
  chosen: str, learner: Learner, settings: Mapping[str, Any]
) -> Callable[[Any, float], Any]:
  """Returns `(head, tau) -> head`."""
  costs = settings["costs"]
  if len(costs) and chosen != "threshold_moving":
    raise ValueError(
      f"posthoc.costs belongs to threshold_moving; {chosen} has no costs."
    )
  if chosen == "tau_norm":
    return lambda head, tau: rescaling.tau_normalize(head, tau=tau)
  if len(costs):
    if settings["select"]:
      raise ValueError(
        "posthoc.select chooses tau, but posthoc.costs leaves no tau to choose;"
        " set one of the two."
      )
    missed = cost_of_missing(costs, num_classes=learner.task.num_classes)
    return _shift(lambda tau: np.log(missed), learner)
  pi = shares(learner.task.split.labeled_counts, what=f"posthoc.name={chosen}")
  return _shift(lambda tau: -tau * np.log(pi), learner)


def _shift(
  amounts: Callable[[float], np.ndarray], learner: Learner
) -> Callable[[Any, float], Any]:
  return lambda head, tau: rescaling.shift(
    head, sharding.replicate(amounts(tau).astype(np.float32), learner.mesh)
  )

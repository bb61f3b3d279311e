"""What a step minimizes: a loss, class weights, and how a batch is averaged.

Margins, priors and class weights follow from the class counts inside the step:
those of the labeled images, or of labeled and pseudo-labeled ones together.
Deferred re-weighting (DRW) begins with weights of 1, and changes to the class
weights late, at a low learning rate, where they do the embedding no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ltjax.losses import classification, table
from ltjax.losses import settings as loss_settings
from ltjax.losses import weights as weighting


@dataclasses.dataclass(frozen=True)
class Objective:
  """A loss of a batch: `objective(logits, labels, ...) -> scalar`.

  Attributes:
    settings: which loss, weights and reduction.
    head_scale: the scale of the cosine head; LDAM's margins are in its units.
    num_classes: C.
  """

  settings: loss_settings.Settings
  head_scale: float
  num_classes: int

  def __call__(
    self,
    logits: jax.Array,
    labels: jax.Array,
    *,
    counts: jax.Array,
    epoch: jax.Array | int,
    epochs: int,
    example_weights: jax.Array | None = None,
  ) -> jax.Array:
    """Returns the loss of a batch, fp32 `[]`.

    Args:
      logits: `[B, C]`, any float dtype.
      labels: Integer `[B]` in [0, C). Where the example's weight is 0 the label
        is not read, and may be any number.
      counts: `[C]`, float, images a class.
      epoch: `[]` integer, from 0; may be traced.
      epochs: epochs of the stage.
      example_weights: `[B]`, float, 0 or more: the weight of pseudo-labeled
        examples, or a mask of 0 and 1. None for 1. The `mean` divides by B all
        the same, the `weighted_mean` by the sum of all weights.
    """
    chex.assert_shape(logits, (None, self.num_classes))
    chex.assert_shape(counts, (self.num_classes,))
    if example_weights is None:
      example_weights = jnp.ones(labels.shape, jnp.float32)
    chex.assert_equal_shape([labels, example_weights])
    # A label of an example that does not count would make it NaN all the same.
    labels = jnp.where(example_weights > 0, labels, 0)
    weights = weighting.of_labels(
      self.class_weights(counts, epoch=epoch, epochs=epochs), labels
    )
    if self.settings.weighted_focal:
      losses = classification.cross_entropy(logits, labels)
      losses = classification.modulate(
        weights * losses, gamma=self.settings.gamma
      )
      return weighting.mean(losses, example_weights)
    losses = self.losses(logits, labels, counts=counts)
    reduce = getattr(weighting, self.settings.reduction)
    return reduce(losses, weights * example_weights)

  def losses(
    self, logits: jax.Array, labels: jax.Array, *, counts: jax.Array
  ) -> jax.Array:
    """Returns the loss of each example, fp32 `[B]`, without class weights.

    Args:
      logits, labels, counts: as of `__call__`.
    """
    row = table.LOSSES[self.settings.name]
    given = table.Given(self.settings, counts, self.head_scale)
    return row.function(logits, labels, given)

  def class_weights(
    self, counts: jax.Array, *, epoch: jax.Array | int, epochs: int
  ) -> jax.Array:
    """Returns the weights of the classes in an epoch, fp32 `[C]` of sum C.

    They begin in epoch `round(defer * epochs)`, and at the latest in the last;
    before, all are 1.

    Args:
      counts, epoch, epochs: as of `__call__`.
    """
    chosen = self.settings
    ones = jnp.ones((self.num_classes,), jnp.float32)
    if chosen.weights == "none":
      return ones
    weights = table.WEIGHTS[chosen.weights].function(counts, chosen)
    begin = min(round(chosen.defer * epochs), epochs - 1)
    return jnp.where(jnp.asarray(epoch) >= begin, weights, ones)

  def check_counts(
    self,
    counts: np.ndarray | jax.Array,
    *,
    class_names: Sequence[str] = (),
  ) -> None:
    """Checks class counts `[C]` on the host, before training.

    A ValueError if they are not C numbers of 0 or more, or a class has no
    images and the loss or its weights need its count.
    """
    loss_settings.check_counts(
      self.settings,
      np.asarray(counts),
      num_classes=self.num_classes,
      class_names=class_names,
    )


def make(
  settings: loss_settings.Settings
  | Mapping[str, Any]
  | ml_collections.ConfigDict,
  *,
  head: str,
  head_scale: float,
  num_classes: int,
  class_names: Sequence[str] = (),
) -> Objective:
  """Returns the objective that `config.loss` describes.

  Args:
    settings: the block of the config, or its settings.
    head, head_scale: `linear` or `cosine`, and the scale of the cosine head.
    num_classes: C.
    class_names: C names, which a file of class weights has.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if a setting is unknown, out of range, without effect, or does
      not fit the head or the number of classes.

  Example:
    >>> loss = objective.make({"name": "focal", "gamma": 2.0}, head="linear",
    ...   head_scale=1.0, num_classes=2)
    >>> loss(jnp.zeros((1, 2)), jnp.array([1]), counts=jnp.array([9.0, 1.0]),
    ...   epoch=0, epochs=1)
    Array(0.17, dtype=float32)
  """
  if not isinstance(settings, loss_settings.Settings):
    settings = loss_settings.of(settings)
  settings = loss_settings.named(settings, class_names)
  loss_settings.check(settings, head=head, num_classes=num_classes)
  return Objective(settings, float(head_scale), num_classes)

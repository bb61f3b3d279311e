"""Changes to a config, of which the rows of the papers' tables are made.

What the papers leave open is stated where it is chosen. LDAM-DRW brings its
own schedule and head (Cao et al., 2019), also into the tables of Liu et al.,
who ran "all comparison methods with the hyper-parameters in their papers".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ltjax.data.splits import groups as grouping
from ltjax.data.splits import profiles

Change = Callable[[Any], None]


def method(name: str) -> Change:
  """Chooses the method."""

  def change(config):
    config.method = name

  return change


def ldam_schedule(config: Any) -> None:
  """Sets the schedule of Cao et al.: warm-up, x 0.01 at 160 and 180 of 200.

  It is also that of Yang & Xu, in all rows.

  Args:
    config: the blocks that train the whole network are changed.
  """
  for name in ("pretrain", "embedding", "pseudo", "semi"):
    block = config[name]
    block.schedule = "step"
    block.milestones = (0.8, 0.9)
    block.factor = 0.01
    block.weight_decay = 2e-4
    block.warmup_epochs = round(block.epochs * 5 / 200)
    if config.variant == "author_code":
      block.warmup_every = "epoch"


def focal(config: Any) -> None:
  """Focal loss with the gamma of Yang & Xu."""
  config.loss.name = "focal"
  config.loss.gamma = 1.0


def balanced(config: Any) -> None:
  """Class weights by effective number of samples, from the start (CB)."""
  config.loss.weights = "effective_number"
  config.loss.reduction = "weighted_mean"
  if config.loss.name == "focal":
    # The authors' code focuses by the weighted loss, and takes a plain mean.
    config.loss.weighted_focal = config.variant == "author_code"
    config.loss.reduction = "mean"


def drw(config: Any) -> None:
  """The class weights of the last fifth of the epochs only (DRW)."""
  balanced(config)
  config.loss.defer = 0.8


def drs(config: Any) -> None:
  """Re-sampling in the last fifth of the epochs (DRS)."""
  config.sampler.name = "effective_number"
  config.sampler.defer = 0.8


def ldam(config: Any) -> None:
  """LDAM on a cosine head of scale 30, with its own schedule."""
  ldam_schedule(config)
  config.loss.name = "ldam"
  config.loss.reduction = "weighted_mean"
  config.model.head = "cosine"
  config.model.head_scale = 30.0


def ssp(config: Any) -> None:
  """Rotation prediction first, as Yang & Xu on CIFAR."""
  config.pretrain.name = "rotation"


def moco(config: Any) -> None:
  """Momentum contrast first, as Yang & Xu on large images."""
  config.pretrain.name = "moco"


def pseudo(base: str, *, start: str = "scratch", data: str = "all") -> Change:
  """Self-training: label the pool once, then train on everything.

  Args:
    base: the supervised model, `supervised` or `decoupling`.
    start: train a new network from `scratch`, or go on from the `base`.
    data: of the second classifier of `decoupling`.
  """

  def change(config):
    config.method = "pseudo_label"
    config.pseudo.base = base
    config.pseudo.start = start
    # Margins and weights by labels and pseudo labels, as the authors' code.
    config.loss.counts = "all"
    if base == "decoupling":
      config.refit.data = data
    if config.variant == "author_code":
      config.pseudo.batch_size = 256

  return change


def classifier(kind: str) -> Change:
  """Decoupling with a kind of second classifier."""

  def change(config):
    config.method = "decoupling"
    config.classifier.kind = kind

  return change


def post(name: str) -> Change:
  """A correction of the trained head."""

  def change(config):
    config.posthoc.name = name

  return change


def loss(**settings: Any) -> Change:
  """Settings of the loss."""
  return lambda config: config.loss.update(settings)


def sample(name: str) -> Change:
  """Chooses the sampler."""

  def change(config):
    config.sampler.name = name

  return change


def sslt(**settings: Any) -> Change:
  """Alternate sampling with choices of Table 3."""

  def change(config):
    config.method = "sslt"
    for name, value in settings.items():
      block, field = name.split("__")
      config[block][field] = value

  return change


def pretrained(name: str, **settings: Any) -> Change:
  """Self-supervised pre-training, then probes: a row of the tables of FASSL."""

  def change(config):
    config.method = "probe"
    config.pretrain.name = name
    config.pretrain.update(settings)

  return change


def bcl(config: Any) -> None:
  """The decay of Zhou et al., whose paper has none: as others, or coded."""
  if config.variant == "author_code":
    config.pretrain.weight_decay = 5e-4


def byol(config: Any) -> None:
  """Grill et al.: the teacher slows down to a halt."""
  pretrained("byol")(config)
  config.student.ema_schedule = "cosine"


def swav(config: Any) -> None:
  """Caron et al., with harder codes than for ImageNet.

  As soft as those (epsilon 0.05) the loss never left log K on digits.
  """
  pretrained("swav", temperature=0.1, epsilon=0.01, freeze=0.1)(config)


def lars(rate: float, *, weight_decay: float) -> Change:
  """LARS in pre-training, its learning rate in proportion to the batch.

  Args:
    rate: learning rate of a batch of 256.
    weight_decay: of kernels; biases and BatchNorm have none.
  """

  def change(config):
    block = config.pretrain
    block.optimizer = "lars"
    block.learning_rate = rate * block.batch_size / 256
    block.weight_decay = weight_decay

  return change


def fassl(score: str, **prototypes: Any) -> Change:
  """FASSL, whose three stages the blocks describe."""

  def change(config):
    pretrained("fassl")(config)
    config.student.score = score
    config.prototypes.update(prototypes)

  return change


def sdclr_protocol(
  config: Any, *, num_classes: int, split: int, per_class: int = 0
) -> None:
  """Sets the data of Jiang et al. (2021): a permuted tail, probes on the pool.

  Args:
    config: a row has been applied to it; its block `data` is changed, and where
      it probes `probe`.
    num_classes: C.
    split: 0, 1, ...: which classes are frequent, and which images are drawn.
    per_class: images of each class for the probe; 0 for all.
  """
  config.data.seed = split
  config.data.groups = grouping.thirds(num_classes)
  config.data.labeled.class_order = profiles.class_order(num_classes, split)
  config.data.unlabeled.factor = 0.0
  if config.method == "probe":
    config.data.probe.images = "train"
    config.data.probe.per_class = per_class
    config.probe.protocols = "knn,sdclr_fewshot,sdclr_full"


def sdclr_recipe(config: Any) -> None:
  """Sets the optimizer of Jiang et al. (2021) in the self-supervised blocks.

  The stages of FASSL go on from a trained network and begin slower; its paper
  gives no recipe.

  Args:
    config: its blocks `pretrain`, `prototypes` and `student` are changed.
  """
  rates = {"pretrain": 0.5, "prototypes": 0.1, "student": 0.1}
  for name, rate in rates.items():
    block = config[name]
    block.learning_rate = rate
    block.weight_decay = 1e-4
    block.batch_size = 512
    block.warmup_epochs = 10
  config.pretrain.crop_scale = (0.1, 1.0)
  config.pretrain.interpolation = "cubic"

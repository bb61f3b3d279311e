"""Long-tailed semi-supervised learning on CIFAR-10, WRN-28-2: FixMatch and on.

    python -m ltjax.main --config=configs/cifar10_lt_ssl.py:row=simpro \
      --workdir=runs/simpro

Arguments, as in `:row=acr,n1=500,m1=4000,pool=reversed`:
  row: of a method that learns from a pool: `fixmatch`, `uda`, `flexmatch`,
    `freematch`, `softmatch`, `adamatch`, `fixmatch_la`, `debiaspl`, `acr`,
    `simpro`, `cdmad`, `abc`, `darp`, `daso`, `ce_mean_teacher`, ...; or `ce`.
  n1, m1: labeled and unlabeled images of the first class: 1500 and 3000, or 500
    and 4000 in the literature.
  gamma: imbalance of the labels, 50, 100 or 150.
  gamma_u: of the pool; 0 for gamma.
  pool: its class distribution: consistent, reversed, middle, head_tail, or
    uniform (m1 images of each class).
  mu: unlabeled images to a labeled one; 7 is FixMatch's, USB and most codes of
    long-tailed methods take 1 or 2.
  steps: training steps, in epochs of 500; 250,000 in the literature.
  scale: `full`, or `cpu`: ResNet-8 at 16 x 16 pixels, batches of 32, 3,000
    steps, an average that keeps 0.99.
  order: `shuffled`, or `file`: the first images of each class, as ACR, DARP,
    ABC and CDMAD draw them.
  variant: `paper` or `author_code`.

The first counts fall exponentially; labeled and unlabeled images are disjoint.
ACR, CCL and SeMi put the labeled images into the pool as well, which this does
not. Reported is the average of the weights after the last step.

At full size nothing is measured yet. At CPU size, 3 seeds, a consistent pool:
CE 35.4, FixMatch 38.4, FixMatch + LA 48.9, ABC 48.6 %; ACR, SimPro and CDMAD
fall below FixMatch there. All rows: experiments/ssl_lt_table/results_cpu.md.
"""

from ltjax import config as configs
from ltjax.config import rows

POOLS = {
  "consistent": "same",
  "uniform": "uniform",
  "reversed": "reversed",
  "middle": "middle",
  "head_tail": "head_tail",
}


def get_config(arg=None):
  arg = configs.parse_arg(
    arg,
    row="fixmatch",
    n1=1500,
    m1=3000,
    gamma=100.0,
    gamma_u=0.0,
    pool="consistent",
    mu=2,
    steps=250_000,
    scale="full",
    order="shuffled",
    variant="paper",
  )
  if arg.pool not in POOLS:
    raise ValueError(f"pool is {arg.pool!r}; choose one of {', '.join(POOLS)}.")
  config = configs.default(arg.variant)
  data, block = config.data, config.weak_strong
  data.source = "cifar10"
  data.order = arg.order
  data.groups = (3, 3, 4)
  data.pad_mode = "reflect"
  data.labeled.max_count = arg.n1
  data.labeled.rho = arg.gamma
  data.unlabeled.profile = POOLS[arg.pool]
  data.unlabeled.max_count = arg.m1
  if arg.pool != "uniform":
    data.unlabeled.rho = arg.gamma_u or arg.gamma
  config.model.name = "wrn28_2"
  block.epoch_steps = 500
  block.epochs = max(arg.steps // 500, 1)
  block.unlabeled_ratio = arg.mu
  if arg.scale == "cpu":
    data.image_size = 16
    data.pad = 2
    config.model.name = "resnet8"
    block.batch_size = 32
    block.epochs = min(block.epochs, 6)
    block.ema = 0.99
    config.semi.batch_size = 32
    config.semi.epochs = 14
    config.embedding.batch_size = 32
    config.embedding.epochs = 26
  elif arg.scale != "full":
    raise ValueError(f"scale is {arg.scale!r}; choose full or cpu.")
  rows.apply(config, arg.row)
  if arg.scale == "cpu" and config.method == "mean_teacher":
    config.semi.ema = 0.99
  if not rows.needs_unlabeled(config):
    data.unlabeled.update(profile="same", factor=0.0)
    data.unlabeled.max_count = data.unlabeled.rho = None
  return config

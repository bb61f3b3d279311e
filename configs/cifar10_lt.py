"""Class-imbalanced learning on CIFAR-10, ResNet-32: the tables of Yang & Xu.

    python -m ltjax.main --config=configs/cifar10_lt.py:row=ldam_drw \
      --workdir=runs/lt

Arguments, as in `:row=ldam_drw_du,rho=50,rho_u=100`:
  row: a row of their Tables 1 and 2, see `ltjax/config/rows.py`: `ce`, `cb_ce`,
    `focal`, `ldam_drw`, `ldam_drw_ssp`, `ce_du`, `ldam_drw_du`, ...
  rho: imbalance ratio, 100, 50 or 10 in the paper.
  rho_u: imbalance ratio of the unlabeled set; 0 for that of the labeled one.
  max_count: labeled images of the first class, 5000 in the paper.
  relevance: share of the unlabeled images that are of the task's classes; the
    others are CIFAR-100's.
  pool: an external unlabeled pool, `pickle:PATH` of a Tiny Images selection.
  variant: `paper` or `author_code`.

The whole training set is labeled by its profile, as in Table 2 and the
supervised rows of Table 1. The rows with unlabeled images (`..._du`) take five
times as many from Tiny Images in the paper, which is withdrawn: name your
`pool`, or let both parts come from CIFAR-10 with `max_count=833`, which is
another protocol (714 where the unlabeled images are twice as imbalanced as the
labeled ones, at any rho).

Schedule of Cao et al. (2019): 200 epochs, batch 128, learning rate 0.1 with a
warm-up of 5 epochs, x 0.01 at epochs 160 and 180, weight decay 2e-4.

Not yet measured at full size: no accuracy or time is claimed here. The paper
reports errors of 29.64 % (CE), 22.97 % (LDAM-DRW), 22.17 % (with SSP) and 15.33
% (with unlabeled images) at rho 100.
"""

from ltjax import config as configs
from ltjax.config import rows


def get_config(arg=None):
  arg = configs.parse_arg(
    arg,
    row="ldam_drw",
    rho=100.0,
    rho_u=0.0,
    max_count=5000,
    relevance=1.0,
    pool="",
    variant="paper",
  )
  config = configs.default(arg.variant)
  config.data.source = "cifar10"
  config.data.groups = (3, 3, 4)
  config.data.labeled.max_count = arg.max_count
  config.data.labeled.rho = arg.rho
  config.data.unlabeled.factor = 0.0
  config.model.name = "resnet32"
  rows.ldam_schedule(config)
  rows.apply(config, arg.row)
  if rows.needs_unlabeled(config):
    config.data.unlabeled.factor = 5.0
    config.data.unlabeled.profile = "rescaled"
    config.data.unlabeled.rho = arg.rho_u or arg.rho
    config.data.unlabeled.source = arg.pool or "train"
    config.data.unlabeled.relevance = arg.relevance
    if arg.relevance < 1:
      config.data.unlabeled.irrelevant = "cifar100"
  return config

"""Class-imbalanced learning on CIFAR-100, ResNet-32: Table 2 of Yang & Xu.

    python -m ltjax.main --config=configs/cifar100_lt.py:row=ldam_drw_ssp \
      --workdir=runs/lt100

Arguments:
  row: a row of their Table 2, see `ltjax/config/rows.py`: `ce`, `cb_ce`,
    `focal`, `ldam_drw`, `ldam_drw_ssp`, ...
  rho: imbalance ratio, 100, 50 or 10 in the paper.
  variant: `paper` or `author_code`.

The schedule is that of configs/cifar10_lt.py. Not yet measured at full size: no
accuracy or time is claimed here. The paper reports errors of 61.68 % (CE),
57.96 % (LDAM-DRW) and 56.57 % (with SSP) at rho 100.
"""

from ltjax import config as configs
from ltjax.config import rows


def get_config(arg=None):
  arg = configs.parse_arg(arg, row="ldam_drw", rho=100.0, variant="paper")
  config = configs.default(arg.variant)
  config.data.source = "cifar100"
  config.data.labeled.max_count = 500
  config.data.labeled.rho = arg.rho
  config.data.unlabeled.factor = 0.0
  config.model.name = "resnet32"
  rows.ldam_schedule(config)
  return rows.apply(config, arg.row)

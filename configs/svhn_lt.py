"""Class-imbalanced learning on SVHN, ResNet-32: Table 1 (b) of Yang & Xu.

    python -m ltjax.main --config=configs/svhn_lt.py:row=ldam_drw_du \
      --workdir=runs/svhn

Arguments, as in `:row=ldam_drw_du,rho=50,rho_u=100`:
  row: a row of their Table 1, see `ltjax/config/rows.py`: `ce`, `ce_du`,
    `ldam_drw`, `ldam_drw_du`, ...
  rho: imbalance ratio, 100, 50 or 10 in the paper.
  rho_u: imbalance ratio of the unlabeled set; 0 for that of the labeled one.
  variant: `paper`, or `author_code`, which orders the classes 1, 2, ..., 9, 0
    (so that 1 is the first class, not 0) and mirrors the digits in training.

1000 labeled images in the first class, as in the authors' code (the paper does
not say); five times as many unlabeled ones from SVHN's extra set. Put
train_32x32.mat, test_32x32.mat and extra_32x32.mat where docs/data.md says.

Not yet measured: no accuracy or time is claimed here. The paper reports errors
of 19.98 % (CE), 14.65 % (with unlabeled images) and 16.66 % (LDAM-DRW) at rho
100.
"""

from ltjax import config as configs
from ltjax.config import rows


def get_config(arg=None):
  arg = configs.parse_arg(
    arg, row="ldam_drw", rho=100.0, rho_u=0.0, variant="paper"
  )
  config = configs.default(arg.variant)
  config.data.source = "svhn"
  config.data.groups = (3, 3, 4)
  config.data.labeled.max_count = 1000
  config.data.labeled.rho = arg.rho
  config.data.unlabeled.factor = 0.0
  config.model.name = "resnet32"
  rows.ldam_schedule(config)
  rows.apply(config, arg.row)
  if rows.needs_unlabeled(config):
    config.data.unlabeled.factor = 5.0
    config.data.unlabeled.profile = "rescaled"
    config.data.unlabeled.rho = arg.rho_u or arg.rho
    config.data.unlabeled.source = "svhn_extra"
  if arg.variant == "author_code":
    config.data.flip = "on"
    config.data.labeled.class_order = (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)
  return config

"""Self-supervised learning on CIFAR-100-LT, ResNet-18: the tables of FASSL.

    python -m ltjax.main --config=configs/cifar100_fassl.py:row=fassl \
      --workdir=runs/fassl100

Arguments, as in `:row=sdclr,split=1`: those of configs/cifar10_fassl.py.

The data are those of SDCLR: 450 images in the first class of a permuted order,
4 in the last, 9,754 in all, without labels; 50 of each class are held out for
validation; a linear probe is fitted to the labels of 400 of each class, and to
4 a class of the long-tailed set. Lengths and rates are those of
configs/cifar10_fassl.py.

Not yet measured at full size: no accuracy or time is claimed here. The paper
reports, as the mean of the three groups, 49.76 % (SimCLR), 54.94 % (SDCLR) and
55.27 % (FASSL), and in its few-shot setting 22.51 %, 25.39 % and 27.11 %.
"""

from ltjax import config as configs
from ltjax.config import rows


def get_config(arg=None):
  arg = configs.parse_arg(arg, row="fassl", split=0, rho=100.0, variant="paper")
  config = configs.default(arg.variant)
  config.data.source = "cifar100"
  config.data.labeled.max_count = 450
  config.data.labeled.rho = arg.rho
  config.data.validation.per_class = 50
  rows.fassl_on_cifar(
    config, arg.row, num_classes=100, split=arg.split, per_class=400
  )
  return config

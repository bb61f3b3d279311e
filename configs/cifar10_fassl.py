"""Self-supervised learning on CIFAR-10-LT, ResNet-18: the tables of FASSL.

    python -m ltjax.main --config=configs/cifar10_fassl.py:row=fassl \
      --workdir=runs/fassl

Arguments, as in `:row=sdclr,split=1`:
  row: a row of Tables 1 and 2, see `ltjax/config/rows.py`: `simclr`, `swav`,
    `byol`, `bcl_i`, `sdclr`, `fassl`, `probe_supervised`, `ldam_drw_ssp`;
    beyond the paper `fassl_uniform`, `fassl_energy`, `fassl_features`, `bcl_d`,
    `moco`, ...
  split: 0, 1, ...: which classes are frequent, and which images are drawn.
  rho: imbalance ratio, 100 in the paper.

The data are those of SDCLR: 4500 images in the first class of a permuted order,
45 in the last, 11,165 in all, without labels; 500 of each class are held out
for validation; a linear probe is then fitted to the labels of the other 45,000,
and to 45 a class of the long-tailed set (1 %). With the authors' index files at
hand, name them in data.labeled.index_file and data.validation.index_file.

2000 epochs of pre-training (SDCLR for FASSL), batches of 512, learning rate
0.5, temperature 0.2. The paper does not say how long its two stages take, nor
at which rate: here 200 epochs for the prototypes and 500 for the student, from
0.1.

Not yet measured at full size: no accuracy or time is claimed here. The paper
reports, as the mean of the three groups, 75.37 % (SimCLR), 80.49 % (SDCLR) and
80.69 % (FASSL), and in its few-shot setting 62.98 %, 67.23 % and 68.54 %.
"""

from ltjax import config as configs
from ltjax.config import rows


def get_config(arg=None):
  arg = configs.parse_arg(arg, row="fassl", split=0, rho=100.0, variant="paper")
  config = configs.default(arg.variant)
  config.data.source = "cifar10"
  config.data.labeled.max_count = 4500
  config.data.labeled.rho = arg.rho
  config.data.validation.per_class = 500
  rows.fassl_on_cifar(config, arg.row, num_classes=10, split=arg.split)
  return config

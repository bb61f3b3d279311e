"""SSLT and its rivals on Fashion-MNIST at 14 x 14 pixels: minutes on a CPU.

    python -m ltjax.main --config=configs/fashion_mnist_14_sslt.py:row=sslt \
      --workdir=runs/f14

Arguments, as in `:row=pseudo_label_l,rho=1000`:
  row: a row of the paper's tables, see `ltjax/config/rows.py`.
  rho: imbalance ratio.
  variant: `paper` or `author_code`.

250 labeled images in the first class (rho of them where rho is larger, so that
the last class has one), five times as many unlabeled ones, all from the
training set; images halved to 14 x 14; ResNet-8; batches of 64; 60 epochs, then
4 loops of 8 + 10, and 32 epochs where a rival trains on everything once. The
test set is whole.

Measured, 3 seeds, test accuracy (few-shot) in % at rho 100: Decoupling 68.4
(54.2), Pseudo-Label + D from scratch 71.6 (61.7), SSLT 70.8 (62.6). An SSLT run
took 2.3 to 2.8 minutes on one core of a 2-core CPU machine that was busy with
other work (JAX 0.10.2). All rows: experiments/sslt_table1/results_cpu.md.
"""

import math

from ltjax import config as configs
from ltjax.config import rows


def get_config(arg=None):
  arg = configs.parse_arg(arg, row="sslt", rho=100.0, variant="paper")
  config = configs.default(arg.variant)
  config.data.source = "fashion_mnist"
  config.data.image_size = 14
  config.data.pad = 2
  config.data.groups = (3, 3, 4)
  config.data.labeled.max_count = max(250, math.ceil(arg.rho))
  config.data.labeled.rho = arg.rho
  config.model.name = "resnet8"
  config.pretrain.epochs = 60
  config.embedding.epochs = 60
  config.loops = 4
  config.consistency.epochs = 8
  config.pseudo.epochs = 32
  config.semi.epochs = 32
  for block in (
    *("pretrain", "embedding", "classifier", "consistency", "refit"),
    *("pseudo", "semi"),
  ):
    config[block].batch_size = 64
  rows.apply(config, arg.row)
  if config.method == "mean_teacher":
    # A run has some 1,500 steps: of these an average with 0.999 would still
    # hold what came before the learning rate fell and the class weights began.
    config.semi.ema = 0.99
  return config

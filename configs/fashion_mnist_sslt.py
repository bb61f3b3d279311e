"""SSLT on Fashion-MNIST, long-tailed, at the size of a small CPU.

    python -m ltjax.main --config=configs/fashion_mnist_sslt.py \
      --workdir=runs/fashion

500 labeled images in the first class and 5 in the last (rho 100), five times as
many unlabeled ones, all from the training set; ResNet-8; 60 epochs, then 4
loops of 8 + 10. The test set is whole. `:rho=50` changes the imbalance.

Measured, 3 seeds, test accuracy (few-shot) in %: CE 64.3 (33.6), Decoupling
73.8 (60.3), SSLT after the last loop 76.8 (68.1). A run took 10.9 to 26.4
minutes on one core of a 2-core CPU machine that was busy with other work (JAX
0.10.2). All runs: experiments/sslt_small/results.md.
"""

from ltjax import config as configs


def get_config(arg=None):
  arg = configs.parse_arg(arg, rho=100.0, variant="paper")
  config = configs.default(arg.variant)
  config.data.source = "fashion_mnist"
  config.data.groups = (3, 3, 4)
  config.data.labeled.max_count = 500
  config.data.labeled.rho = arg.rho
  config.model.name = "resnet8"
  config.embedding.epochs = 60
  config.loops = 4
  config.consistency.epochs = 8
  return config

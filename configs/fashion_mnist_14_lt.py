"""The tables of Yang & Xu on Fashion-MNIST at 14 x 14 pixels: minutes on a CPU.

    python -m ltjax.main \
      --config=configs/fashion_mnist_14_lt.py:row=ldam_drw --workdir=runs/f14lt

Arguments, as in `:row=ldam_drw_du,rho=50,rho_u=100`:
  row: a row of their Tables 1 and 2, see `ltjax/config/rows.py`: `ce`, `cb_ce`,
    `focal`, `ldam_drw`, `ldam_drw_ssp`, `ce_du`, `ldam_drw_du`, ...
  rho: imbalance ratio.
  rho_u: imbalance ratio of the unlabeled set; 0 for that of the labeled one.
  relevance: share of the unlabeled images that are of the task's classes; the
    others are CIFAR-10's, grey and as small.
  variant: `paper` or `author_code`.

250 labeled images in the first class; where a row uses unlabeled images, five
times as many, from the rest of the training set; images halved to 14 x 14;
ResNet-8; batches of 64; 60 epochs on the labeled images, 32 on everything. The
test set is whole. The shape of the schedule is that of configs/cifar10_lt.py.

Measured, 3 seeds, test error in % at rho 100: CE 43.3, CB-CE 35.7, LDAM-DRW
37.0, LDAM-DRW + SSP 35.6. A run took 0.5 to 1.1 minutes on one core of a 2-core
CPU machine that was busy with other work (JAX 0.10.2). All rows:
experiments/yang_xu_table2/results_cpu.md.
"""

from ltjax import config as configs
from ltjax.config import rows


def get_config(arg=None):
  arg = configs.parse_arg(
    arg,
    row="ldam_drw",
    rho=100.0,
    rho_u=0.0,
    relevance=1.0,
    variant="paper",
  )
  config = configs.default(arg.variant)
  config.data.source = "fashion_mnist"
  config.data.image_size = 14
  config.data.pad = 2
  config.data.groups = (3, 3, 4)
  config.data.labeled.max_count = 250
  config.data.labeled.rho = arg.rho
  config.data.unlabeled.factor = 0.0
  config.model.name = "resnet8"
  config.pretrain.epochs = 60
  config.embedding.epochs = 60
  config.pseudo.epochs = 32
  config.semi.epochs = 32
  for block in ("pretrain", "embedding", "classifier", "refit"):
    config[block].batch_size = 64
  for block in ("pseudo", "semi"):
    config[block].batch_size = 64
  config.glmc.epochs = 60
  config.glmc.batch_size = 64
  config.glmc.learning_rate = 0.1
  config.glmc.weight_decay = 5e-4
  rows.ldam_schedule(config)
  rows.apply(config, arg.row)
  # A run has some 1,500 steps (pre-training 500): of these an average with
  # 0.999 would still hold what came before the learning rate fell.
  if config.method == "mean_teacher":
    config.semi.ema = 0.99
  if config.pretrain.name == "moco":
    config.pretrain.ema = 0.99
    config.pretrain.queue = 128  # of 600 images: few are their own negatives
  if rows.needs_unlabeled(config):
    config.data.unlabeled.factor = 5.0
    config.data.unlabeled.profile = "rescaled"
    config.data.unlabeled.rho = arg.rho_u or arg.rho
    config.data.unlabeled.relevance = arg.relevance
    if arg.relevance < 1:
      config.data.unlabeled.irrelevant = "cifar10"
  return config

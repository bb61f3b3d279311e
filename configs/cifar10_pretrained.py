"""CIFAR-10 with few labels, on features of a pretrained network."""

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
  presets.apply(config, arg.row)
  if not presets.needs_unlabeled(config):
    config.data.unlabeled.factor = 0.0
  return config

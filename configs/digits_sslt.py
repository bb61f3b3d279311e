from ltjax import config as configs


def get_config(arg=None):
  arg = configs.parse_arg(arg, variant="paper")
  config = configs.sslt(arg.variant)
  config.data.source = "digits"
  config.data.pad = 1
  config.data.labeled.max_count = 20
  config.data.labeled.rho = 10.0
  config.data.groups = (3, 3, 4)
  config.model.name = "resnet8"
  for block, epochs in (
    ("embedding", 40),
    ("classifier", 10),
    ("consistency", 8),
    ("refit", 10),
  ):
    config[block].epochs = epochs
    config[block].batch_size = 32
  config.loops = 3
  return config

from ltjax import config as configs


def get_config(arg=None):
  arg = configs.parse_arg(arg, rho=100.0, variant="paper")
  config = configs.sslt(arg.variant)
  config.data.source = "cifar10"
  config.data.groups = (3, 3, 4)
  config.data.labeled.max_count = 500
  config.data.labeled.rho = arg.rho
  config.model.name = "resnet8"
  config.embedding.epochs = 60
  config.loops = 4
  config.consistency.epochs = 8
  return config

"""The toys as a config file for two processes: short, saved after each step."""

import toy_config


def get_config(arg=None):
  config = toy_config.get_config(arg)
  config.embedding.epochs = config.consistency.epochs = 1
  return config

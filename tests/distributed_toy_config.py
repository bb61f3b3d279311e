"""The toys as a config file for two processes: one stage, with a memory."""

import toy_config


def get_config(arg=None):
  config = toy_config.get_config(arg)
  config.method = "temporal_ensembling"
  return config

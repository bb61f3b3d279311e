"""Configs: what a run does, in blocks of settings."""

from ltjax.config.defaults import VARIANTS, default, parse_arg

__all__ = ["VARIANTS", "default", "parse_arg"]

"""Configs: what a run does, in blocks of settings."""

from ltjax.config.defaults import VARIANTS, parse_arg, sslt

__all__ = ["VARIANTS", "parse_arg", "sslt"]

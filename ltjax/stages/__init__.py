"""Stages: one file each, a pure step and what it reads and leaves behind."""

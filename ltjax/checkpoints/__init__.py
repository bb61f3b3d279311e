"""Checkpoints of a run: saved, checked, restored on other devices."""

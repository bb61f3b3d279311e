"""Schedules, optimizers and moving averages of parameters."""

"""Convolutions as a CPU likes them; an accelerator has XLA's own."""

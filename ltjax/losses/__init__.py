"""Losses: per example, un-reduced, in fp32.

A loss here takes arrays and returns one number per example `[B]`; the caller
weighs, masks and averages. Each is documented with its formula and its source.
Examples take `import jax.numpy as jnp` and the module's own import for granted.
"""

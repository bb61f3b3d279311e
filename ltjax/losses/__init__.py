"""Losses: per example, un-reduced, in fp32.

A loss here takes arrays, logits of any float dtype, and returns fp32 `[B]`, 0
or more: the caller weighs, masks and averages. Labels outside [0, C) give NaN
rather than the loss of another class. Examples take `import jax.numpy as jnp`
and the module's own import for granted.
"""

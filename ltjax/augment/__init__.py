"""Augmentation on the device, one random key per image.

Images stay uint8 in device memory and are changed inside the training step.
What is drawn for an image depends on its own key alone: of a batch, image i
uses the i-th of `jax.random.split(key, B)`. The dtype stays.
"""

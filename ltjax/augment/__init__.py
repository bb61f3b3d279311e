"""Augmentation on the device, one random key per image.

Images stay uint8 in device memory and are cropped, flipped, rescaled and
recoloured inside the training step. What is drawn for an image depends on the
key of that image alone, not on its place or companions.
"""

"""Backbones, from an image to its features, and the weights of others."""

"""Pretext tasks: an embedding without labels."""

"""The same network and loop in PyTorch, to compare with."""

"""Benchmarks: how fast, how large, and how it grows.

`python -m benchmarks.command` is the command. What it times are the library's
own stages, not copies of them; what it compares them with is a bare jitted loop
and, where PyTorch is installed, loops of the same network in PyTorch. Whatever
is compared takes turns of a few seconds each, so that a busy machine slows all
alike, and a ratio is taken turn by turn.
"""

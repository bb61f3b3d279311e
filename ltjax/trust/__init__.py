"""How far to trust a trained model, and decisions to take with it.

Everything here works on what is at hand after training: probabilities and
labels, `[T, C]` and `[T]` on the host, in float64.
"""

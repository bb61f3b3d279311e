"""Measuring a recogniser whose classes are of very different sizes.

Overall accuracy on a long-tailed problem hides the tail, so every number also
comes per class and per group of classes (many, medium and few labeled images).
Metrics are computed on the host in float64 and returned as JSON values, with
`None` where a value does not exist, never NaN.
"""

"""Measuring a recogniser whose classes are of very different sizes.

Overall accuracy on a long-tailed problem hides the tail, so every number here
also comes per class and per group of classes (many, medium and few labeled
images). Metrics are computed on the host in float64 and returned as plain
Python values: they go into JSON as they are, with `None` where a value does not
exist, never NaN.

  * `groups.py`: which classes are many-, medium- and few-shot.
  * `metrics.py`: classification metrics, and the quality of pseudo-labels.
"""

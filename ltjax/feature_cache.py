"""A cache of features: each image set passes an embedding once.

Several judges of one frozen embedding look at the same test images. What they
differ in is behind the features.
"""

from __future__ import annotations

import jax

from ltjax import inference
from ltjax.data import host_images
from ltjax.state import ModelState


class FeatureCache:
  """Features of image sets by the embedding that was asked last.

  Args:
    predictor: runs the network in evaluation mode.
  """

  def __init__(self, predictor: inference.Predictor):
    self._predictor = predictor
    self._embedding: list[jax.Array] = []
    self._found: list[tuple[object, jax.Array]] = []

  def features(
    self, state: ModelState, images: jax.Array | host_images.HostImages
  ) -> jax.Array:
    """Returns the embeddings `f(x)` of all images, kept until `f` changes.

    Sets and embeddings are told by what they are, not by their values: another
    copy is another one.

    Args:
      state: the network's parameters and statistics.
      images: uint8 `[N, H, W, C]`.

    Returns:
      float32 `[N, D]`.
    """
    embedding = jax.tree.leaves((state.backbone, state.batch_stats))
    if [id(x) for x in embedding] != [id(x) for x in self._embedding]:
      self._embedding, self._found = embedding, []
    for known, features in self._found:
      if known is images:
        return features
    features = self._predictor.features(state, images)
    self._found.append((images, features))
    return features

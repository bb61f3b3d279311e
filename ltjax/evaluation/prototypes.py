"""What prototypes stand for: the classes of the images nearest to them.

That many prototypes are near head classes shows little: so is any point of the
latent space. Only what they show beyond three numbers was learned:

* the *base rate*, what an image drawn at random would show;
* `random`: directions drawn uniformly, which know nothing of the data;
* `matched`: directions drawn from the Gaussian with the mean and the covariance
  of the features, which know where the data lies, but not that it has clusters.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ltjax.evaluation import checks
from ltjax.models import projections

# Similarities that a chunk of features may hold: 64 MiB.
_CELLS = 2**24
_LARGEST_CHUNK = 4096
_DRAWS = 10


def nearest(features: jax.Array, prototypes: jax.Array) -> np.ndarray:
  """Returns the image nearest to each prototype, by cosine, int32 `[K]`.

  Of images equally near, the first.

  Args:
    features: `[N, D]` floats, N at least 1, and finite, else a ValueError.
    prototypes: `[K, D]` floats, of any length above 0.

  Source: FASSL (2023), section 4.5.
  """
  features, prototypes = jnp.asarray(features), jnp.asarray(prototypes)
  chex.assert_rank([features, prototypes], 2)
  chex.assert_equal_shape_suffix([features, prototypes], 1)
  num = len(features)
  if num == 0:
    raise ValueError("there are no images, of which one could be the nearest")
  for name, values in (("features", features), ("prototypes", prototypes)):
    if not bool(jnp.isfinite(values).all()):
      raise ValueError(f"the {name} are not finite: the network has diverged")
  chunk = min(_LARGEST_CHUNK, max(1, _CELLS // len(prototypes)), num)
  best = np.full(len(prototypes), -np.inf, np.float32)
  found = np.zeros(len(prototypes), np.int32)
  for first in range(0, num, chunk):
    # The last chunk begins earlier and is as long as the others.
    start = min(first, num - chunk)
    part = features[start : start + chunk]
    value, row = map(np.asarray, _nearest(part, prototypes))
    better = value > best
    best = np.where(better, value, best)
    found = np.where(better, start + row, found).astype(np.int32)
  return found


def distribution(
  labels: np.ndarray,
  nearest: np.ndarray,
  groups: checks.Groups,
) -> dict[str, float | None]:
  """Returns the share of prototypes nearest to an image of each group.

  It is a fraction of those of known class; None if there are none.

  Args:
    labels: integers `[N]`, of the images; -1 where unknown.
    nearest: integers `[K]`, an image for each prototype.
    groups: class indices by group name, see `splits.groups`.

  Source: FASSL (2023), tables 4 and 5.
  """
  classes = np.asarray(labels)[np.asarray(nearest)]
  classes = classes[classes >= 0]
  return {
    name: float(np.isin(classes, list(ids)).mean()) if len(classes) else None
    for name, ids in groups.items()
  }


def base_rate(
  labels: np.ndarray, groups: checks.Groups
) -> dict[str, float | None]:
  """Returns the share of images of each group, as `distribution` does."""
  return distribution(labels, np.arange(len(labels)), groups)


def random_directions(key: jax.Array, count: int, dimension: int) -> jax.Array:
  """Draws directions that know nothing of the data: fp32 `[K, D]`, Gaussian.

  Args:
    key: of the draw.
    count, dimension: K and D.
  """
  return jax.random.normal(key, (count, dimension), jnp.float32)


def matched_directions(
  key: jax.Array, count: int, features: jax.Array
) -> jax.Array:
  """Draws directions, fp32 `[K, D]`, from the Gaussian fitted to features.

  Args:
    key: of the draw.
    count: K.
    features: `[N, D]`, whose mean and covariance (over N) the Gaussian has.
  """
  features = jnp.asarray(features, jnp.float32)
  mean = jnp.mean(features, axis=0, keepdims=True)
  centred = features - mean
  covariance = jnp.matmul(
    centred.T, centred, precision=jax.lax.Precision.HIGHEST
  ) / len(features)
  # Its root also where it is singular: fewer images than dimensions.
  values, vectors = jnp.linalg.eigh(covariance)
  root = vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None, :]
  noise = random_directions(key, count, features.shape[1])
  return mean + noise @ root.T


def rows(
  features: jax.Array,
  prototypes: jax.Array,
  labels: np.ndarray,
  *,
  groups: checks.Groups,
  num_classes: int,
  key: jax.Array,
) -> list[dict[str, Any]]:
  """Returns a row on prototypes, for the metrics of a run.

  Args:
    features: `[N, D]`, the embeddings of all training images in the space of
      the prototypes, in evaluation mode and not augmented.
    prototypes: `[K, D]`.
    labels: integers `[N]`, for this row alone; -1 where unknown.
    groups: class indices by group name.
    num_classes: `C`.
    key: of the controls.

  Returns:
    One row of JSON values:

    * `kind`: "prototypes".
    * `count`: K; `images`: N; `distinct`: how many different images are nearest
      to a prototype; `known`: how many of the prototypes are nearest to an
      image of known class.
    * `shares`: by group, see `distribution`; `base_rate`: of the images of
      known class; `random`, `matched`: the same for ten times K such
      directions.
    * `nearest`: `[K]` images; `classes`: `[K]` theirs, -1 where unknown.

  Raises:
    ValueError: See `nearest`; or labels or groups out of range.
  """
  labels = checks.labels(labels, "labels", len(features), num_classes, low=-1)
  checks.groups(groups, num_classes)
  found = nearest(features, prototypes)
  count, dimension = prototypes.shape
  one, other = jax.random.split(key)
  controls = {
    "random": random_directions(one, _DRAWS * count, dimension),
    "matched": matched_directions(other, _DRAWS * count, features),
  }
  classes = labels[found]
  return [
    {
      "kind": "prototypes",
      "count": count,
      "images": len(features),
      "distinct": len(np.unique(found)),
      "known": int((classes >= 0).sum()),
      "shares": distribution(labels, found, groups),
      "base_rate": base_rate(labels, groups),
      **{
        name: distribution(labels, nearest(features, directions), groups)
        for name, directions in controls.items()
      },
      "nearest": found.tolist(),
      "classes": classes.tolist(),
    }
  ]


@jax.jit
def _nearest(features, prototypes):
  """The greatest cosine of each prototype, and the first row that has it."""
  # As precise as fp32 is: a shorter product would exchange neighbours.
  cosines = jnp.matmul(
    projections.unit(features),
    projections.unit(prototypes).T,
    precision=jax.lax.Precision.HIGHEST,
  )
  return jnp.max(cosines, axis=0), jnp.argmax(cosines, axis=0)

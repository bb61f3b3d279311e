"""Virtual adversarial training: be smooth in the direction where it is hardest.

Around each image the divergence `D(r) = KL(p(x) || p(x + r))` is a quadratic
form, whose worst direction is found by power iteration: the product of its
matrix with a unit vector `d` is the gradient of D at `xi d` (up to a factor).

xi must be large enough to be seen. Over a whole image, the 1e-6 of the paper is
below the last bit of a pixel in fp32, and the gradient is rounding error: on a
ResNet-8 and images of 32 x 32 the direction has nothing to do with that of xi =
0.01, while that of 0.1 has a cosine of 0.99 with it. In bf16 1 is better.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ltjax.losses import consistency
from ltjax.semi_supervised import regularizer


def normalize(x: jax.Array) -> jax.Array:
  """Returns images fp32 `[B, H, W, C]` of Euclidean norm 1; zeros stay."""
  x = x.astype(jnp.float32)
  # First by the largest number, so that squares do not underflow.
  largest = jnp.max(jnp.abs(x), axis=(1, 2, 3), keepdims=True)
  x = x / jnp.where(largest > 0, largest, 1.0)
  norm = jnp.sqrt(jnp.sum(x * x, axis=(1, 2, 3), keepdims=True))
  return x / jnp.where(norm > 0, norm, 1.0)


def worst_direction(
  predict,
  view: jax.Array,
  logits: jax.Array,
  *,
  key,
  xi: float,
  iterations: int,
) -> jax.Array:
  """Returns the unit vectors that change the predictions most, or zeros.

  Args:
    predict: `view [B, H, W, C] -> logits [B, C]`.
    view: float `[B, H, W, C]`.
    logits: `[B, C]`, those of `view`.
    key: for the random directions that the power iteration starts from.
    xi: step of the finite differences, in the units of `view`.
    iterations: of the power method, 1 or more.

  Source: Miyato et al. (2018), "Virtual adversarial training", Section 3.3.
  """
  target = jax.nn.softmax(logits)

  def divergence(r):
    moved = (view.astype(jnp.float32) + r).astype(view.dtype)
    return jnp.sum(consistency.kl_divergence(target, predict(moved)))

  direction = normalize(jax.random.normal(key, view.shape))
  for _ in range(iterations):
    direction = normalize(jax.grad(divergence)(xi * direction))
  return direction


def make(
  *, epsilon: float = 6.0, xi: float = 0.1, iterations: int = 1
) -> regularizer.Regularizer:
  """Returns the regularizer of virtual adversarial training.

  `KL(p(x) || p(x + epsilon d))`, where d is the worst direction. p(x) and d are
  constants; BatchNorm is in training mode, its running statistics stay.

  Args:
    epsilon: Euclidean length of the move, in the units of normalised images.
    xi: step of the finite differences in the same units.
    iterations: of the power method.

  Source: Miyato et al. (2018), Equations 5 to 8. epsilon as in USB (Wang et
    al., 2022); for xi see above.
  """

  def penalty(forward, params, state, views):
    fixed, view, logits = jax.lax.stop_gradient(
      (params, views.view, views.logits)
    )

    def predict(params, view):
      return forward(params, state.batch_stats, view)[0]

    direction = worst_direction(
      lambda view: predict(fixed, view),
      view,
      logits,
      key=views.key,
      xi=xi,
      iterations=iterations,
    )
    moved = view.astype(jnp.float32) + epsilon * direction
    moved = jax.lax.stop_gradient(moved.astype(view.dtype))
    return consistency.kl_divergence(
      jax.nn.softmax(logits), predict(params, moved)
    ), {}

  return regularizer.Regularizer(penalty)

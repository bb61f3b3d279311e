"""What a classifier stage trains on frozen features, and the head it gives.

- *Re-training* (cRT): a whole head, fresh or going on from `g`.
- *Learnable weight scaling* (LWS): one number a class, 1 at first, that
  multiplies the logit of `g'`; directions stay, lengths are learned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax import models
from ltjax.models import rescaling
from ltjax.training.state import ModelState

NAMES = ("crt", "lws")


class Rule(NamedTuple):
  """How to fit a classifier.

  Attributes:
    init: `(model_state, key, fresh) -> params`, what the optimizer moves.
    frozen: `model_state -> head`, what the logits need besides; `{}` for
      nothing.
    logits: `(params, frozen, features [B, D]) -> logits [B, C]`.
    head: `(params, frozen) -> head`, the outcome, an ordinary head.
  """

  init: Callable[[ModelState, jax.Array, bool], Any]
  frozen: Callable[[ModelState], Any]
  logits: Callable[[Any, Any, jax.Array], jax.Array]
  head: Callable[[Any, Any], Any]


def make(name: str, model: models.Model, *, field: str) -> Rule:
  """Returns the rule called `name`.

  Args:
    name, model: `crt` or `lws`, and the network, whose head has lengths to
      learn, else a ValueError.
    field: the config block, for errors.

  Source: Kang et al. (2020), Sections 4.1 (cRT) and 4.4 (LWS).
  """
  if name == "crt":
    return Rule(
      init=lambda state, key, fresh: (
        model.head_init(key) if fresh else state.balanced_head
      ),
      frozen=lambda state: {},
      logits=lambda params, frozen, features: model.head_apply(
        params, features
      ),
      head=lambda params, frozen: params,
    )
  assert name == "lws", name
  rescaling.check_linear(
    jax.eval_shape(model.head_init, jax.random.key(0)), f"{field}.kind={name}"
  )
  return Rule(
    init=lambda state, key, fresh: {
      "scale": jnp.ones((model.num_classes,), jnp.float32)
    },
    frozen=lambda state: state.head,
    logits=lambda params, frozen, features: model.head_apply(
      rescaling.scale(frozen, params["scale"]), features
    ),
    head=lambda params, frozen: rescaling.scale(frozen, params["scale"]),
  )

"""Learning rates that fall from the head to the stem of a backbone.

What is nearest to the images was learned from many more of them, and should
move least. With n blocks, counted from 0, and a decay d, the learning rate of
block i is that of the stage times `d^(n - i)`, of the stem times `d^(n + 1)`;
the head and what lies behind the blocks, such as a last norm, keep it.

Source: Clark et al. (2020), "ELECTRA", Appendix A; Bao et al. (2022), "BEiT",
  Appendix, whose numbering of layers this is.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import optax

# Backbones name their blocks so. What brings a stage of a ConvNeXt to its size
# moves with the stage's first block.
_BLOCK = re.compile(r"(?:blocks_|stage(\d+)_(?=block|conv|norm)\D*)(\d*)")
_BEHIND = re.compile(r"norm|pool|last_.*")


def rates(params: Any, decay: float) -> Any:
  """Returns the factor of each parameter's learning rate, as a tree of floats.

  Args:
    params: a dictionary; the entry `backbone` has its layers by name, and all
      other entries have the factor 1.
    decay: d, in (0, 1].
  """
  layers = params.get("backbone", {})
  blocks = sorted({place for place in map(_place, layers) if place})

  def below(name: str) -> int:
    place = _place(name)
    if place:
      return len(blocks) - blocks.index(place)
    return 0 if _BEHIND.fullmatch(name) else len(blocks) + 1

  def factor(path: Any, leaf: Any) -> float:
    inside = len(path) > 1 and path[0].key == "backbone"
    return decay ** below(path[1].key) if inside else 1.0

  return jax.tree_util.tree_map_with_path(factor, params)


def decayed(
  optimizer: optax.GradientTransformation, decay: float
) -> optax.GradientTransformation:
  """Returns an optimizer whose learning rate falls towards the stem.

  Args:
    optimizer: of the whole network; its weight decay falls along.
    decay: as of `rates`; with 1 it is the optimizer itself.
  """
  if decay == 1:
    return optimizer
  scale = optax.stateless(
    lambda updates, params: jax.tree.map(
      lambda update, rate: update * rate, updates, rates(updates, decay)
    )
  )
  return optax.chain(optimizer, scale)


def _place(name: str) -> tuple[int, int] | None:
  """Returns stage and number of a block; None of other layers."""
  found = _BLOCK.fullmatch(name)
  return found and (int(found[1] or 0), int(found[2] or 1))

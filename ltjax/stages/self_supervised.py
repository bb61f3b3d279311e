"""What self-supervised stages share: images in, an embedding out, no labels.

Whatever a stage needed beside `f` (a head of its own, a queue) is dropped, and
both heads of the model stay as they were: fresh, where the stage is the first.
"""

from __future__ import annotations

from ltjax.state import ModelState, TrainState


def left(state: ModelState, trained: TrainState) -> ModelState:
  """Returns the model state with a trained `f` and nothing else.

  Args:
    state: the state before the stage.
    trained: its `params` hold the `backbone` beside what else was trained; its
      `batch_stats` are those of `f`.
  """
  return state.replace(  # type: ignore[attr-defined]
    backbone=trained.params["backbone"], batch_stats=trained.batch_stats
  )


def check_square(pretraining: str, image_shape: tuple[int, int, int]) -> None:
  """Checks that images can be turned, or cut into squares, and fit again.

  Args:
    pretraining: the choice of `pretrain.name`, for the error.
    image_shape: `(H, W, C)` of the network's input.

  Raises:
    ValueError: if height and width differ.
  """
  height, width, _ = image_shape
  if height != width:
    raise ValueError(
      f"pretrain.name is {pretraining!r}, which needs square images, but these"
      f" have {height} x {width} pixels; make them square (data.image_size does"
      " so for a folder) or set pretrain.name to 'none'."
    )

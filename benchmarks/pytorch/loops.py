"""Training loops in PyTorch: as the field writes them, and as fast as they get.

`field` is the usual one: a `DataLoader` with worker processes, images through
PIL one at a time, float32, the default layout. `best` has everything on the
device: bytes, shuffling, augmentation of whole batches; it tries layouts, the
precision that was asked for, and `torch.compile`, and keeps what is fastest. A
compilation that takes too long is given up, and what ran without it kept.
Both fit the same network to as many random images as ltjax does, by SGD with
momentum, weight decay and a cosine schedule, and read the loss once an epoch.

PyTorch is no dependency: it is imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import os
import signal
import time
from typing import Any

import numpy as np

from benchmarks.pytorch import images as torch_images
from benchmarks.pytorch import networks as torch_networks

NUM_CLASSES = 10
NAMES = ("field", "best")
Loop = tuple[Callable[[], float], dict[str, Any]]
Say = Callable[[dict[str, Any]], None]


class TooLong(BaseException):
  """Something took longer than it may; no handler of errors swallows it."""


def make(
  name: str,
  *,
  compile_seconds: float = 60.0,
  say: Say = lambda row: None,
  **settings: Any,
) -> Loop:
  """Returns a loop by name.

  Args:
    name: one of `NAMES`.
    compile_seconds: as for `best`.
    say: takes what was tried, as it comes.
    **settings: `model`, `batch_size`, `image`, `dtype`, `steps`.

  Returns:
    `turn`, which trains an epoch and returns its seconds; and how it does so.
  """
  if name == "field":
    return field(**settings)
  return best(**settings, compile_seconds=compile_seconds, say=say)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
  """Raises TooLong if what is done in the context takes longer.

  Args:
    seconds: how long it may take. Python looks at its clock between two of its
      own instructions only, as a compiler written in it has many.
  """

  def stop(signum: int, frame: object) -> None:
    del signum, frame
    raise TooLong

  before = signal.signal(signal.SIGALRM, stop)
  signal.setitimer(signal.ITIMER_REAL, seconds)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def field(
  *, model: str, batch_size: int, image: int, dtype: str, steps: int
) -> Loop:
  """Builds the loop as the field runs it, in float32 whatever was asked for.

  Args:
    model: name of the network.
    batch_size: images in a step.
    image: pixels of a side.
    dtype: not used.
    steps: steps in an epoch.
  """
  del dtype
  torch = torch_networks.library()

  device = _device(torch)
  pixels, labels = _arrays(batch_size * steps, image)
  workers = min(8, len(os.sched_getaffinity(0)))
  loader = torch.utils.data.DataLoader(
    torch_images.dataset(torch, pixels, labels),
    batch_size=batch_size,
    shuffle=True,
    drop_last=True,
    num_workers=workers,
    persistent_workers=True,
    pin_memory=device.type == "cuda",
    multiprocessing_context="fork",
  )
  network = _network(model, image).to(device).train()
  optimizer, schedule = _optimizer(torch, network, steps, fused=None)

  def turn() -> float:
    began = time.perf_counter()
    total = torch.zeros((), device=device)
    for images, targets in loader:
      images = images.to(device, non_blocking=True)
      targets = targets.to(device, non_blocking=True)
      optimizer.zero_grad(set_to_none=True)
      loss = torch.nn.functional.cross_entropy(network(images), targets)
      loss.backward()
      optimizer.step()
      schedule.step()
      total += loss.detach()
    total.item()
    return time.perf_counter() - began

  how = {"device": str(device), "workers": workers, "precision": "float32"}
  return turn, how | {"layout": "contiguous", "compiled": ""}


def best(
  *,
  model: str,
  batch_size: int,
  image: int,
  dtype: str,
  steps: int,
  compile_seconds: float = 60.0,
  say: Say = lambda row: None,
) -> Loop:
  """Builds the fastest loop that is found.

  Candidates are timed for an epoch: first layouts and precisions, then
  `torch.compile` of the best precision. With `bfloat16` asked for, float32 is a
  candidate too; with `float32`, the lower precision is not. When a compilation
  takes too long, no other is tried.

  Args:
    model: name of the network.
    batch_size: images in a step.
    image: pixels of a side.
    dtype: `float32` or `bfloat16`.
    steps: steps in an epoch.
    compile_seconds: the most that the first epoch of a compiled loop may take.
    say: takes what was tried, as it comes.
  """
  torch = torch_networks.library()

  device = _device(torch)
  torch.backends.cudnn.benchmark = True
  torch.set_float32_matmul_precision("high")
  settings = {"model": model, "batch_size": batch_size, "image": image}
  tried: list[dict[str, Any]] = []
  # The loop that is kept; others are dropped with their memory.
  kept: tuple[float, Callable[[], float], dict[str, Any]] | None = None

  def attempt(**how: Any) -> bool:
    nonlocal kept
    patience = within(compile_seconds) if how["compiled"] else None
    found: dict[str, Any] = {}
    try:
      with patience or contextlib.nullcontext():
        turn = _on_device(torch, device, steps=steps, **settings, **how)
        turn()
      found["images_per_second"] = batch_size * steps / min(turn(), turn())
      if kept is None or found["images_per_second"] > kept[0]:
        kept = found["images_per_second"], turn, how
    except TooLong:
      found["error"] = f"compilation took more than {compile_seconds:g} s"
    except Exception as error:  # Whatever torch.compile may meet.
      lines = str(error).strip().splitlines() or [""]
      found["error"] = f"{type(error).__name__}: {lines[0]}"
    tried.append(how | found)
    say(tried[-1])
    return "took more" not in found.get("error", "")

  layouts = ("contiguous", "channels_last")
  for precision in dict.fromkeys((dtype, "float32")):
    for layout in layouts:
      attempt(layout=layout, precision=precision, compiled="")
  if kept is None:
    raise RuntimeError(f"No loop of PyTorch ran: {tried}")
  precision = kept[2]["precision"]
  modes = ("default", "reduce-overhead")[: 2 if device.type == "cuda" else 1]
  all(
    attempt(layout=layout, precision=precision, compiled=mode)
    for mode in modes
    for layout in layouts
  )
  return kept[1], {"device": str(device), **kept[2], "tried": tried}


def _on_device(
  torch: Any,
  device: Any,
  *,
  model: str,
  batch_size: int,
  image: int,
  steps: int,
  layout: str,
  precision: str,
  compiled: str,
) -> Callable[[], float]:
  order = {"channels_last": torch.channels_last}.get(
    layout, torch.contiguous_format
  )
  pixels, labels = _arrays(batch_size * steps, image)
  pixels = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(device)
  labels = torch.from_numpy(labels).to(device)
  network = _network(model, image).to(device).to(memory_format=order).train()
  optimizer, schedule = _optimizer(torch, network, steps, fused=True)

  def loss_of(images: Any, targets: Any) -> Any:
    images = torch_images.augment(torch, images).contiguous(memory_format=order)
    with torch.autocast(
      device.type, torch.bfloat16, enabled=precision == "bfloat16"
    ):
      logits = network(images)
    return torch.nn.functional.cross_entropy(logits.float(), targets)

  call = loss_of
  if compiled:
    call = torch.compile(loss_of, mode=compiled)

  def turn() -> float:
    began = time.perf_counter()
    total = torch.zeros((), device=device)
    for index in torch.randperm(len(labels), device=device).split(batch_size):
      if compiled == "reduce-overhead":
        torch.compiler.cudagraph_mark_step_begin()
      optimizer.zero_grad(set_to_none=True)
      loss = call(pixels[index], labels[index])
      loss.backward()
      optimizer.step()
      schedule.step()
      total += loss.detach()
    total.item()
    return time.perf_counter() - began

  return turn


def _optimizer(
  torch: Any, network: Any, steps: int, *, fused: bool | None
) -> tuple[Any, Any]:
  optimizer = torch.optim.SGD(
    network.parameters(),
    lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    fused=fused,
  )
  schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
    optimizer, T_max=100 * steps
  )
  return optimizer, schedule


def _device(torch: Any) -> Any:
  return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _network(model: str, image: int) -> Any:
  return torch_networks.build(
    model, num_classes=NUM_CLASSES, image_shape=(image, image, 3)
  )


def _arrays(count: int, image: int) -> tuple[np.ndarray, np.ndarray]:
  shape = (count, image, image, 3)
  pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  return pixels, np.arange(count) % NUM_CLASSES

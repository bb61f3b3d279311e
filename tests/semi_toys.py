"""Semi-supervised stages of the toys, and their network in NumPy."""

import jax
import numpy as np
import toys

from ltjax.losses import objective
from ltjax.semi_supervised import stage as semi_supervised
from ltjax.training import draw, step

N, B = toys.N, toys.BATCH


def stage(
  learner,
  regularizer,
  *,
  name="semi",
  weight=3.0,
  rampup=0.0,
  unlabeled_ratio=1,
  loss=None,
  sampler="random",
  **changes,
):
  """Returns a stage; cross-entropy, random sampling and no ramp by default."""

  recipe = toys.recipe(**changes)
  settings = {"name": sampler, "defer": 0.0, "exponent": 1.0, "beta": 0.9}
  return step.make(
    name,
    semi_supervised.algorithm(
      learner.model,
      regularizer,
      objective=objective.make(
        toys.config().loss.to_dict() | (loss or {}),
        head="linear",
        head_scale=1.0,
        num_classes=toys.C,
      ),
      transform=learner.transform,
      num_labeled=recipe.batch_size,
      weight=weight,
      rampup=rampup,
    ),
    draw.pairs(
      learner.samples,
      recipe.batch_size,
      ratio=unlabeled_ratio,
      field="semi",
      sampler=settings,
    ),
    recipe,
    key=learner.key(name),
    report=toys.nothing,
  )


def steps(stage, start, count):
  """Returns the states before, after 1 ... `count` steps, and their arrays."""
  arrays, stream = stage.prepare(start)
  found = [stage.init(start)]
  indices = []
  for t in range(count):
    epoch, position = divmod(t, stage.steps_per_epoch)
    indices.append(stream(epoch)[position])
  step = compiled(stage.step, found[0], indices[0], arrays)
  for index in indices:
    found.append(step(found[-1], index, arrays))
  return found, indices, arrays


def compiled(step, *args):
  """Compiles in half the time what runs for milliseconds anyway."""
  options = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
  }
  return jax.jit(step).lower(*args).compile(compiler_options=options)


def views(learner, state, index, arrays):
  """Returns the step's own view of its images, and the second one."""
  key = jax.random.fold_in(state.key, state.step)
  view_key, own_key = jax.random.split(key)
  images = arrays["images"][index]
  return [
    np.asarray(learner.transform(k, images), np.float64)
    for k in (view_key, own_key)
  ]


def logits(params, view, *, split=B, stats=None):
  """The toy's logits in float64; labeled and unlabeled images apart.

  With `stats` it is in evaluation mode.
  """
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  backbone, head = params["backbone"], params["head"]
  parts = []
  for part in (view[:split], view[split:]):
    x = part.reshape(len(part), -1) @ backbone["kernel"]
    mean, var = x.mean(0), x.var(0)
    if stats is not None:
      mean, var = (np.asarray(stats[k], np.float64) for k in ("mean", "var"))
    x = (x - mean) / np.sqrt(var + 1e-5)
    features = np.maximum(x * backbone["scale"] + backbone["bias"], 0)
    parts.append(features @ head["kernel"] + head["bias"])
  return np.concatenate(parts)


def softmax(logits):
  exp = np.exp(logits - logits.max(-1, keepdims=True))
  return exp / exp.sum(-1, keepdims=True)


def squared_error(p, q):
  """Mean over the images of the mean over the classes, by loops."""
  total = 0.0
  for a, b in zip(p, q, strict=True):
    total += sum((x - y) ** 2 for x, y in zip(a, b)) / len(a)
  return total / len(p)

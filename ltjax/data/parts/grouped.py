"""Splits by whole groups: a patient, a lesion, a track is on one side of each.

Images of one group resemble each other, so that a test part that shares groups
with the training part measures memory. Groups are indivisible and of several
classes, so that shares are met as nearly as the groups allow.
"""

from __future__ import annotations

import numpy as np

from ltjax import require

_TRIES = 16  # orders of the groups
_FEW = 256  # of so many groups all tries are made, and the best is taken
_PASSES = 8  # over the groups, of moving single ones

# The images of a group, by class.
_Group = list[tuple[int, int]]


def choose(
  labels: np.ndarray, groups: np.ndarray, wanted: np.ndarray, *, seed: int
) -> np.ndarray:
  """Chooses whole groups with near `wanted` images of each class: bool `[N]`.

  It makes small, over the classes c with images on both sides,

      sum_c (chosen_c - wanted_c)^2 / (wanted_c (n_c - wanted_c))

  which is the sum of squared deviations of the shares where `wanted` is one
  share of each class. Groups come largest first, equal ones at random, and each
  goes to the side where the images of its classes are missed more; then single
  groups change sides as long as this helps. A class of two or more groups gets
  one on each side; the images of a class of one group are not chosen.

  Args:
    labels: int `[N]`, in `[0, C)`.
    groups: int `[N]`, from 0.
    wanted: `[C]` images, more than 0 and fewer than the class has for a class
      of two or more groups.
    seed: of the order of equal groups.

  Raises:
    ValueError: if no choice was found that leaves each class of two or more
      groups with a group on both sides; names the classes by number.
  """
  _, number = np.unique(groups, return_inverse=True)
  members, num_classes = _members(labels, number), len(wanted)
  sizes = np.bincount(number)
  counts = np.bincount(labels, minlength=num_classes)
  alone = groups_of_class(labels, groups, num_classes) < 2
  fixed = [any(alone[c] for c, _ in group) for group in members]
  target = np.stack([counts - wanted, wanted]).astype(np.float64)
  target[:, alone] = 1  # They are fixed; any number above zero will do.
  best, found = (np.inf, np.inf), None
  for attempt in range(_TRIES):
    generator = np.random.default_rng([seed, attempt])
    order = generator.permutation(len(members))
    order = order[np.argsort(-sizes[order], kind="stable")]
    if attempt >= _TRIES // 2:  # Where sizes stand in the way.
      order = generator.permutation(len(members))
    side = _place(members, order, target, counts, fixed)
    score = _improve(members, order, side, target, counts, fixed, alone)
    if score < best:
      best, found = score, side
    if best[0] == 0 and len(members) > _FEW:
      break
  assert found is not None
  if best[0]:
    chosen = np.bincount(labels[found[number]], minlength=num_classes)
    one_sided = ~alone & (counts > 0) & ((chosen == 0) | (chosen == counts))
    raise ValueError(
      ", ".join(str(c) for c in np.flatnonzero(one_sided).tolist())
    )
  return found[number]


def stratified_test(
  labels: np.ndarray,
  groups: np.ndarray,
  fraction: float,
  *,
  seed: int,
  names: tuple[str, ...],
  where: str,
) -> np.ndarray:
  """Chooses a test part of whole groups: bool `[N]`.

  Args:
    labels: int `[N]`.
    groups: int `[N]`, from 0.
    fraction: of each class, as near as `choose` brings it; in [0, 1), else a
      ValueError. 0 chooses nothing.
    seed: of the choice.
    names: `[C]` class names, for messages.
    where: what to call the set in messages.

  Raises:
    ValueError: if all images of a class are in one group, or groups are shared
      by classes in such a way that no choice was found.
  """
  require.within("test_fraction", fraction, "[0, 1)")
  if fraction == 0:
    return np.zeros(len(labels), bool)
  counts = np.bincount(labels, minlength=len(names))
  held = groups_of_class(labels, groups, len(names))
  for c in np.flatnonzero(held == 1):
    raise ValueError(
      f"{where}: class {c} ({names[c]}) has its {counts[c]} images in one"
      " group, and the set has no test part: testing needs a group of each"
      " class and training another. Give it images of another group, leave the"
      " class out, bring a test part of your own, or leave data.group_by empty."
    )
  try:
    return choose(labels, groups, fraction * counts, seed=seed)
  except ValueError as error:
    raise ValueError(
      f"{where}: no test part of whole groups was found that leaves images of"
      f" each class on both sides; it fails for the classes {error}, whose"
      " groups are those of other classes, too. Give them images of other"
      " groups, or bring a test part of your own."
    ) from None


def validation(
  labels: np.ndarray,
  groups: np.ndarray,
  per_class: int,
  *,
  seed: int,
  names: tuple[str, ...],
) -> np.ndarray:
  """Chooses validation images, whole groups: sorted indices, int64.

  Args:
    labels: int `[N]`, of the training images.
    groups: int `[N]`, from 0.
    per_class: images of each class, as near as `choose` brings it. A class of
      one group keeps it for training.
    seed: of the choice.
    names: `[C]` class names, for messages.

  Raises:
    ValueError: if a class has no more than `per_class` images, or no choice was
      found.
  """
  counts = np.bincount(labels, minlength=len(names))
  held = groups_of_class(labels, groups, len(names))
  for c in np.flatnonzero((held > 1) & (counts <= per_class)):
    most = int(counts[held > 1].min()) - 1
    raise ValueError(
      f"data.validation.per_class is {per_class}, but class {c} ({names[c]})"
      f" has {counts[c]} training images, and one group of them is for"
      f" training: lower it to at most {most}."
    )
  if not (held > 1).any():
    raise ValueError(
      f"data.validation.per_class is {per_class}, but each class has its"
      " training images in one group: set it to 0."
    )
  wanted = np.where(held > 1, per_class, 0)
  try:
    return np.flatnonzero(choose(labels, groups, wanted, seed=seed))
  except ValueError as error:
    raise ValueError(
      f"data.validation.per_class is {per_class}, but no whole groups were"
      " found that leave images of each class on both sides; it fails for the"
      f" classes {error}. Set it to 0, or bring validation images of your own."
    ) from None


def check(groups: np.ndarray, held: np.ndarray, used: np.ndarray) -> None:
  """Raises a ValueError if images held out share groups with those used.

  Args:
    groups: int `[N]`, of the training images.
    held, used: indices, for validation and for training, as a file names them.
  """
  shared = np.isin(groups[held], groups[used])
  if shared.any():
    raise ValueError(
      f"{100 * shared.mean():.1f} % of the validation images ({shared.sum()} of"
      f" {len(held)}) are of groups that are in training, too, by"
      " data.validation.index_file or data.split_file. Choose them by whole"
      " groups, or leave data.group_by empty."
    )


def groups_of_class(
  labels: np.ndarray, groups: np.ndarray, num_classes: int
) -> np.ndarray:
  """Returns `[C]` how many groups each class has images in.

  Args:
    labels, groups: int `[N]`.
    num_classes: C.
  """
  pairs = np.unique(np.stack([labels, groups]), axis=1)
  return np.bincount(pairs[0], minlength=num_classes)


def _members(labels: np.ndarray, number: np.ndarray) -> list[_Group]:
  """The classes of each group, with how many images it has of each."""
  pairs, counts = np.unique(
    np.stack([number, labels]), axis=1, return_counts=True
  )
  members: list[_Group] = [[] for _ in range(int(number.max(initial=-1)) + 1)]
  for group, label, count in zip(*pairs.tolist(), counts.tolist()):
    members[group].append((label, count))
  return members


def _place(
  members: list[_Group],
  order: np.ndarray,
  target: np.ndarray,
  counts: np.ndarray,
  fixed: list[bool],
) -> np.ndarray:
  """Puts one group after the other where its images are missed more.

  Side s misses `sum_c (target_sc - there_sc)^2 / (target_sc n_c)`.
  """
  missing, goal, sizes = target.tolist(), target.tolist(), counts.tolist()
  side = np.zeros(len(members), bool)

  def put(group: _Group, s: int) -> None:
    for c, n in group:
      missing[s][c] -= n

  for g in np.flatnonzero(fixed):
    put(members[g], 0)
  for g in order.tolist():
    if fixed[g]:
      continue
    gains = [
      sum(
        n * (2 * missing[s][c] - n) / (goal[s][c] * sizes[c])
        for c, n in members[g]
      )
      for s in (0, 1)
    ]
    side[g] = gains[1] > gains[0]
    put(members[g], int(side[g]))
  return side


def _improve(
  members: list[_Group],
  order: np.ndarray,
  side: np.ndarray,
  target: np.ndarray,
  counts: np.ndarray,
  fixed: list[bool],
  alone: np.ndarray,
) -> tuple[float, float]:
  """Moves single groups in place; returns classes on one side, and deviation.

  Fewer classes on one side come first, a smaller deviation second.
  """
  weight = np.where(alone, 0, 1 / target.prod(0)).tolist()
  goal, sizes = target[1].tolist(), counts.tolist()
  chosen = [0] * len(sizes)
  for g in np.flatnonzero(side).tolist():
    for c, n in members[g]:
      chosen[c] += n

  def cost(c: int, there: int) -> tuple[int, float]:
    if alone[c] or not sizes[c]:
      return 0, 0.0
    return int(there in (0, sizes[c])), weight[c] * (there - goal[c]) ** 2

  for _ in range(_PASSES):
    moved = False
    for g in order[::-1].tolist():
      if fixed[g]:
        continue
      sign = -1 if side[g] else 1
      bad, change = 0, 0.0
      for c, n in members[g]:
        before, after = cost(c, chosen[c]), cost(c, chosen[c] + sign * n)
        bad += after[0] - before[0]
        change += after[1] - before[1]
      if (bad, change) < (0, -1e-12):
        side[g] = not side[g]
        moved = True
        for c, n in members[g]:
          chosen[c] += sign * n
    if not moved:
      break
  costs = [cost(c, there) for c, there in enumerate(chosen)]
  return float(sum(b for b, _ in costs)), sum(d for _, d in costs)

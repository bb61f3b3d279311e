"""Which images are drawn: properties over random settings, and the pool."""

import numpy as np
import pytest

from ltjax.data.splits import draw as splits

CIFAR = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 5000))


def build(labels=CIFAR, *, num_classes=10, seed=0, **options):
  options = {"labeled": {}, "unlabeled": {}, "validation": {}} | options
  return splits.build(labels, num_classes=num_classes, seed=seed, **options)


def test_published_sizes_that_share_one_class():
  # 500 + 4000 and 1500 + 3000 both need 4,500 of the 5,000 of class 0.
  for ours, theirs, totals in (
    (500, 4000, (1236, 9922)),
    (1500, 3000, (3720, 7443)),
  ):
    split = build(labeled={"max_count": ours}, unlabeled={"max_count": theirs})
    assert (len(split.labeled), len(split.unlabeled)) == totals
    assert not set(split.labeled) & set(split.unlabeled)


def random_case(seed):
  rng = np.random.default_rng(seed)
  num_classes = int(rng.integers(1, 7))
  sizes = rng.integers(150, 400, num_classes)
  labels = rng.permutation(np.repeat(np.arange(num_classes), sizes))
  labels = labels.astype(rng.choice([np.int32, np.int64, np.uint8]))
  options = {
    "labeled": {
      "profile": str(rng.choice(["exponential", "step", "lomax"])),
      "max_count": int(rng.integers(8, 21)),
      "rho": float(rng.uniform(1, 8)),
      "scale": 3.0,
    },
    "unlabeled": {
      "profile": str(rng.choice(["same", "reversed", "uniform", "natural"])),
      "factor": float(rng.uniform(1, 5)),
    },
    "validation": {"per_class": int(rng.integers(0, 5))},
    "order": str(rng.choice(["shuffled", "file"])),
  }
  return labels, num_classes, options


@pytest.mark.parametrize("seed", range(40))
def test_random_settings(seed):
  labels, num_classes, options = random_case(seed)

  def draw(**changes):
    merged = {
      k: {**v, **changes.get(k, {})} if isinstance(v, dict) else v
      for k, v in options.items()
    }
    return build(labels, num_classes=num_classes, seed=seed, **merged)

  split = draw()
  ours, theirs, held_out = (
    set(split.labeled.tolist()),
    set(split.unlabeled.tolist()),
    set(split.validation.tolist()),
  )
  # Disjoint, without repeats, and as many of each class as recorded.
  total = len(split.labeled) + len(split.unlabeled) + len(split.validation)
  assert len(ours | theirs | held_out) == total
  for indices, recorded in (
    (split.labeled, split.labeled_counts),
    (split.unlabeled, split.unlabeled_counts),
    (split.validation, split.validation_counts),
  ):
    slow = [sum(labels[i] == c for i in indices) for c in range(num_classes)]
    assert list(recorded) == slow
    assert indices.dtype == np.int64 and np.all(np.diff(indices) > 0)
  assert set(split.validation_counts) == {options["validation"]["per_class"]}
  # The same again; another seed draws others, unless the order is the file's.
  assert draw().hash == split.hash
  other = build(labels, num_classes=num_classes, seed=seed + 1, **options)
  same = options["order"] == "file"
  assert (set(other.labeled.tolist()) == ours) is same
  # More images keep the ones there are.
  more = draw(labeled={"max_count": options["labeled"]["max_count"] + 3})
  assert ours < set(more.labeled.tolist())
  fewer = draw(unlabeled={"factor": 0.5})
  assert fewer.labeled.tolist() == split.labeled.tolist()
  assert fewer.validation.tolist() == split.validation.tolist()
  assert set(fewer.unlabeled.tolist()) <= theirs
  # Validation on or off changes nothing else.
  off = draw(validation={"per_class": 0})
  assert off.labeled.tolist() == split.labeled.tolist()
  if options["unlabeled"]["profile"] != "natural":
    assert off.unlabeled.tolist() == split.unlabeled.tolist()
  assert held_out < set(
    draw(
      validation={"per_class": options["validation"]["per_class"] + 1}
    ).validation.tolist()
  )


def test_file_order_takes_the_first_of_each_class():
  labels = np.array([1, 0, 1, 0, 0, 1, 1, 0, 0])
  split = build(
    labels,
    num_classes=2,
    labeled={"max_count": 2, "rho": 2.0},
    unlabeled={"profile": "explicit", "counts": (1, 2)},
    validation={"per_class": 1},
    order="file",
  )
  assert split.labeled.tolist() == [0, 1, 3]
  assert split.unlabeled.tolist() == [2, 4, 5]
  assert split.validation.tolist() == [6, 8]


def test_golden_shuffle():
  """The draw is part of the format: a change would orphan every saved split."""
  labels = np.repeat([0, 1, 2], 20)
  split = build(
    labels,
    num_classes=3,
    labeled={"max_count": 4, "rho": 4.0},
    unlabeled={"factor": 1.0},
    seed=7,
  )
  slow = []
  for c, n in enumerate([4, 2, 1]):
    images = np.arange(20) + 20 * c
    np.random.default_rng([7, c]).shuffle(images)
    slow += images[:n].tolist()
  assert split.labeled.tolist() == sorted(slow)
  assert split.labeled.tolist() == [3, 8, 12, 13, 34, 37, 55]
  assert split.hash == (
    "e027c7cf2c466ffc82e831df0f3c43ecb4b1d184c6c261bb92717dc7396c9496"
  )


def test_classes_are_not_shuffled_alike():
  labels = np.repeat([0, 1], 100)
  split = build(labels, num_classes=2, labeled={"max_count": 10, "rho": 1.0})
  assert (split.labeled[:10] + 100).tolist() != split.labeled[10:].tolist()


def test_natural_unlabeled_is_the_rest():
  split = build(unlabeled={"profile": "natural"}, validation={"per_class": 7})
  assert len(split.unlabeled) == 50000 - 1236 - 70
  assert split.unlabeled_counts[9] == 5000 - 5 - 7


def test_natural_with_a_total_is_a_nested_draw():
  def draw(total, seed=0):
    return build(
      unlabeled={"profile": "natural", "total": total}, seed=seed
    ).unlabeled.tolist()

  assert len(draw(300)) == 300
  assert set(draw(300)) < set(draw(500))
  assert draw(300) != draw(300, seed=1)
  assert (
    draw(48764) == build(unlabeled={"profile": "natural"}).unlabeled.tolist()
  )
  with pytest.raises(ValueError, match="total is 48765 but only 48764 images"):
    draw(48765)


def test_natural_with_a_total_in_file_order():
  split = build(
    np.array([0, 0, 0, 1, 1, 1]),
    num_classes=2,
    labeled={"max_count": 1, "rho": 1.0},
    unlabeled={"profile": "natural", "total": 2},
    order="file",
  )
  assert split.unlabeled.tolist() == [1, 2]


POOL = {"source": "pickle:ti_80M_selected.pickle"}


def test_pool_with_truth_follows_the_profile():
  pool = np.repeat(np.arange(10), 3000)
  split = build(unlabeled=POOL, pool_labels=pool, validation={"per_class": 2})
  assert split.unlabeled_from == "pool"
  assert split.unlabeled_counts == tuple(5 * n for n in split.labeled_counts)
  assert np.bincount(pool[split.unlabeled]).tolist() == list(
    split.unlabeled_counts
  )
  # All of class 0 may be labeled now: nothing unlabeled comes from it.
  all_of_it = build(
    labeled={"max_count": 5000},
    unlabeled=POOL | {"factor": 0.5},
    pool_labels=pool,
  )
  assert all_of_it.labeled_counts[0] == 5000


def test_pool_and_training_set_are_not_drawn_alike():
  split = build(
    np.repeat([0, 1], 50),
    num_classes=2,
    labeled={"max_count": 10, "rho": 1.0},
    unlabeled=POOL | {"factor": 1.0},
    pool_labels=np.repeat([0, 1], 50),
  )
  assert split.labeled.tolist() != split.unlabeled.tolist()


def test_pool_without_truth():
  pool = np.full(100, -1)
  natural = POOL | {"profile": "natural"}
  split = build(unlabeled=natural, pool_labels=pool)
  assert split.unlabeled.tolist() == list(range(100))
  assert split.unlabeled_counts == ()
  some = build(unlabeled=natural | {"total": 9}, pool_labels=pool)
  assert len(some.unlabeled) == 9
  with pytest.raises(ValueError, match="'same' but the pool has no labels"):
    build(unlabeled=POOL, pool_labels=pool)


def test_pool_with_some_truth_never_selects_the_unknown():
  pool = np.r_[np.full(50, -1), np.repeat(np.arange(10), 3000)]
  split = build(unlabeled=POOL, pool_labels=pool)
  assert split.unlabeled.min() >= 50
  natural = build(unlabeled=POOL | {"profile": "natural"}, pool_labels=pool)
  assert natural.unlabeled_counts == ()


def test_no_unlabeled_set_only_if_asked_for():
  split = build(unlabeled={"factor": 0.0})
  assert split.unlabeled.shape == (0,) and split.unlabeled_counts == 10 * (0,)
  for settings in (
    {"factor": 1e-4},
    {"profile": "explicit", "counts": 10 * (0,)},
    {"profile": "uniform", "uniform": "total", "total": 9},
  ):
    with pytest.raises(ValueError, match="unlabeled set is empty.*factor to 0"):
      build(unlabeled=settings)
  with pytest.raises(ValueError, match="unlabeled set is empty"):
    build(labeled={"profile": "natural"}, unlabeled={"profile": "natural"})


MIXED = {"factor": 4.0, "irrelevant": "cifar100"}
OTHERS = np.arange(5000) % 100


def mixed(relevance, **options):
  settings = MIXED | {"relevance": relevance} | options.pop("unlabeled", {})
  return build(unlabeled=settings, irrelevant_labels=OTHERS, **options)


def test_irrelevant_images_replace_relevant_ones():
  whole = build(unlabeled={"factor": 4.0})
  previous = whole
  for relevance in (1.0, 0.8, 0.3, 0.0):
    split = mixed(relevance)
    assert split.labeled.tolist() == whole.labeled.tolist()
    assert len(split.unlabeled) + len(split.irrelevant) == 4 * 1236
    assert set(split.unlabeled) <= set(previous.unlabeled)
    assert set(split.irrelevant) >= set(previous.irrelevant)
    assert len(set(split.irrelevant)) == len(split.irrelevant)
    assert split.unlabeled_counts == tuple(
      np.bincount(CIFAR[split.unlabeled], minlength=10)
    )
    previous = split
  assert mixed(1.0).unlabeled.tolist() == whole.unlabeled.tolist()
  assert mixed(0.0).unlabeled_counts == 10 * (0,)
  assert len(mixed(0.0).unlabeled) == 0


def test_irrelevant_images_are_drawn_with_the_seed():
  first, other = mixed(0.5), mixed(0.5, seed=1)
  assert first.hash == mixed(0.5).hash
  assert set(first.irrelevant) != set(other.irrelevant)
  # At random over that set, not its first ones; with order "file", these.
  assert first.irrelevant.max() > 4900
  ordered = mixed(0.5, order="file").irrelevant
  assert ordered.tolist() == list(range(len(ordered)))


def test_irrelevant_images_among_natural_ones():
  labels = CIFAR[:6000]
  settings = {"profile": "natural", "total": 900}
  split = mixed(0.7, labels=labels, unlabeled=settings, labeled={"rho": 10.0})
  assert (len(split.unlabeled), len(split.irrelevant)) == (630, 270)
  rest = len(labels) - len(split.labeled)
  split = mixed(
    0.7, labels=labels, unlabeled={"profile": "natural"}, labeled={"rho": 10.0}
  )
  assert len(split.unlabeled) == int(0.7 * rest)
  assert len(split.irrelevant) == rest - int(0.7 * rest)


def test_irrelevant_images_beside_a_pool():
  settings = POOL | {"profile": "natural", "relevance": 0.5}
  split = build(
    unlabeled=settings | {"irrelevant": "npz:x"},
    pool_labels=np.full(100, -1),
    irrelevant_labels=np.full(60, -1),
  )
  assert (len(split.unlabeled), len(split.irrelevant)) == (50, 50)
  assert split.unlabeled_from == "pool" and split.unlabeled_counts == ()


def test_relevance_and_its_source_are_part_of_the_hash():
  hashes = {
    mixed(0.5).hash,
    mixed(0.6).hash,
    mixed(0.5, unlabeled={"irrelevant": "mnist"}).hash,
    build(
      unlabeled=MIXED | {"relevance": 0.5}, irrelevant_labels=OTHERS[::-1]
    ).hash,
  }
  assert len(hashes) == 4


def test_too_few_irrelevant_images():
  with pytest.raises(
    ValueError,
    match="relevance is 0.1, which needs 4453 irrelevant images; 'cifar100' "
    "has 4000: raise relevance, ask for fewer",
  ):
    build(unlabeled=MIXED | {"relevance": 0.1}, irrelevant_labels=OTHERS[:4000])
  with pytest.raises(ValueError, match="'cifar100' has 0"):
    build(unlabeled=MIXED | {"relevance": 0.5})


def test_arguments_rebuild_the_split():
  split = build(
    labeled={"profile": "explicit", "counts": 10 * (3,)},
    validation={"per_class": 1},
    seed=5,
    order="file",
  )
  again = splits.build(CIFAR, **split.arguments)
  assert again.hash == split.hash


def test_every_argument_changes_the_hash():
  base = dict(labeled={}, unlabeled={}, validation={}, seed=0, order="shuffled")
  hashes = {
    build(**base | change).hash
    for change in (
      {},
      {"seed": 1},
      {"order": "file"},
      {"labeled": {"rho": 99.0}},
      {"labeled": {"class_order": (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)}},
      {"labeled": {"alpha": 5.0}},  # not used by the profile, but an argument
      {"unlabeled": {"factor": 4.0}},
      {"validation": {"per_class": 1}},
    )
  }
  assert len(hashes) == 8
  assert build().hash == build(class_names=list("abcdefghij")).hash


@pytest.mark.parametrize(
  "labels,message",
  [
    (np.array([0.0, 1.0]), "labels must be a vector of integers: they are fl"),
    (np.array([True, False]), "they are bool"),
    (np.array([[0, 1]]), r"of shape \(1, 2\)"),
    (np.array([], np.int64), r"class 0 \(0\) has no image"),
    (np.array([0, 1, 2]), r"labels\[2\] is 2: with 2 classes .* from 0 to 1"),
    (np.array([0, -1]), r"labels\[1\] is -1"),
    (np.array([0, 0, 0]), r"class 1 \(1\) has no image in the training set"),
  ],
)
def test_bad_labels(labels, message):
  with pytest.raises(ValueError, match=message):
    build(labels, num_classes=2)


@pytest.mark.parametrize(
  "options,message",
  [
    ({"seed": 1.5}, "seed is 1.5: it must be an integer"),
    ({"seed": -1}, "seed is -1; it must be 0 or more"),
    ({"seed": True}, "seed is True"),
    ({"order": "sorted"}, "data.order is 'sorted'"),
    ({"class_names": ["a"]}, "1 class names for 10 classes"),
    ({"unlabeled": {"source": "npz:x"}}, "is 'npz:x' but no pool was given"),
    ({"pool_labels": np.zeros(3, int)}, "is 'train' but a pool was given"),
    (
      {"unlabeled": POOL, "pool_labels": np.array([10])},
      r"pool labels\[0\] is 10: .* from -1 to 9",
    ),
    (
      {"unlabeled": POOL, "pool_labels": np.array([1.0])},
      "pool labels must be a vector of integers",
    ),
    (
      {"labeled": {"rho": 0.9}},
      "data.labeled.rho is 0.9; it must be 1 or more",
    ),
  ],
)
def test_bad_arguments(options, message):
  with pytest.raises(ValueError, match=message):
    build(**options)

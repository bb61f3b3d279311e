"""The probe set: all training images but those for validation, or some."""

import numpy as np
import pytest

from ltjax.data.splits import draw as splits
from ltjax.data.splits import probe_set, profiles, record

SIZES = (40, 30, 24)
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], SIZES))
NAMES = ("owl", "newt", "elk")
BASE = {
  "labeled": {"max_count": 8, "rho": 4.0},
  "unlabeled": {"factor": 1.0},
  "validation": {"per_class": 4},
}


def build(probe=None, seed=0, **changes):
  return splits.build(
    LABELS,
    num_classes=3,
    class_names=NAMES,
    seed=seed,
    probe=probe,
    **BASE | changes,
  )


def test_all_training_images_but_those_for_validation():
  """Labeled, unlabeled and left over, whatever the embedding learned from."""
  split = build({"images": "train"})
  wanted = set(range(len(LABELS))) - set(split.validation.tolist())
  assert split.probe.tolist() == sorted(wanted)
  assert split.probe_counts == (36, 26, 20)
  assert set(split.labeled) | set(split.unlabeled) < set(split.probe)
  assert split.probe.dtype == np.int64
  with pytest.raises(ValueError, match="read-only"):
    split.probe[0] = 1
  without = build({"images": "train"}, validation={})
  assert without.probe.tolist() == list(range(len(LABELS)))


def test_the_other_parts_do_not_change():
  without, split = build(), build({"images": "train", "per_class": 5})
  for part in ("labeled", "unlabeled", "validation"):
    np.testing.assert_array_equal(getattr(without, part), getattr(split, part))


def test_so_many_of_each_class():
  split = build({"images": "train", "per_class": 12})
  assert split.probe_counts == (12, 12, 12)
  assert np.bincount(LABELS[split.probe]).tolist() == [12, 12, 12]
  assert np.all(np.diff(split.probe) > 0)
  assert not set(split.probe) & set(split.validation)
  # More keeps the ones there are; another seed draws others.
  more = build({"images": "train", "per_class": 15})
  assert set(split.probe) < set(more.probe)
  assert build({"images": "train", "per_class": 12}).hash == split.hash
  other = build({"images": "train", "per_class": 12}, seed=1)
  assert set(other.probe) != set(split.probe)
  # Not the labeled images first: those are 8, 4 and 2.
  assert not set(split.labeled) <= set(split.probe)
  first = build({"images": "train", "per_class": 3}, order="file").probe
  assert first.tolist() == sorted(
    np.concatenate([np.flatnonzero(LABELS == c)[:3] for c in range(3)])
  )


def test_too_many_of_a_class():
  with pytest.raises(
    ValueError,
    match=r"class 2 \(elk\) runs out of probe images: data.probe.per_class is "
    "21, and it has 20 .*lower data.probe.per_class to 20, or to 0",
  ):
    build({"images": "train", "per_class": 21})
  assert build({"images": "train", "per_class": 20}).probe_counts == (20,) * 3
  with pytest.raises(ValueError, match=r"class 1 \(newt\).* has 26 .* to 20"):
    build({"images": "train", "per_class": 27})


def test_a_file_of_them(tmp_path):
  file = str(tmp_path / "train.npy")
  split = build()
  free = np.setdiff1d(np.arange(len(LABELS)), split.validation)
  np.save(file, free[::-2])
  probe = {"images": "train", "index_file": file}
  got = build(probe)
  assert got.probe.tolist() == sorted(free[::-2])
  assert got.arguments["probe"]["index_file"] == "train.npy"
  np.save(file, np.append(free, split.validation[:3]))
  with pytest.raises(
    ValueError,
    match=rf"train.npy': 3 of its images are for validation, such as "
    f"{split.validation[0]}; name the validation images",
  ):
    build(probe)
  assert len(build(probe, validation={}).probe) == len(free) + 3
  with pytest.raises(ValueError, match="data.probe.per_class is 2 but data.pr"):
    build(probe | {"per_class": 2})


@pytest.mark.parametrize("source", ["pickle:x", "npz:x"])
def test_an_external_pool_is_no_part_of_it(source):
  split = build(
    {"images": "train"},
    unlabeled={"source": source, "profile": "natural"},
    pool_labels=np.full(500, -1),
  )
  assert split.unlabeled_from == "pool" and len(split.unlabeled) == 500
  assert len(split.probe) == len(LABELS) - 12


def test_no_probe_set_leaves_the_record_as_it_was(tmp_path):
  hashes = {build(p).hash for p in (None, {}, {"images": "none"})}
  assert len(hashes) == 1
  split = build()
  split.save(tmp_path / "split.json")
  assert "probe" not in (tmp_path / "split.json").read_text()
  assert split.probe.shape == (0,) and split.probe_counts == ()


def test_it_is_on_record(tmp_path):
  split = build({"images": "train", "per_class": 6})
  assert split.hash != build().hash
  assert split.hash != build({"images": "train", "per_class": 7}).hash
  assert split.arguments["probe"] == {"images": "train", "per_class": 6}
  split.save(tmp_path / "split.json")
  again = record.Split.load(tmp_path / "split.json")
  assert again.hash == split.hash
  np.testing.assert_array_equal(again.probe, split.probe)
  assert again.probe_counts == (6, 6, 6)
  record.check(again, LABELS)
  made = splits.build(LABELS, class_names=NAMES, **again.arguments)
  assert made.hash == split.hash


def test_a_saved_split_can_be_given_one():
  """The one that it would have been drawn with."""
  probe = {"images": "train", "per_class": 6}
  added = probe_set.add(build(), LABELS, probe, class_names=NAMES)
  assert added.hash == build(probe).hash
  same = build()
  assert probe_set.add(same, LABELS, {}, class_names=NAMES) is same


@pytest.mark.parametrize(
  "probe,message",
  [
    ({"images": "all"}, "data.probe.images is 'all'; choose one of none, tra"),
    ({"images": 3}, "data.probe.images is 3: it must be a string"),
    ({"per_class": 4}, "per_class is 4 but data.probe.images is 'none': set"),
    ({"index_file": "a"}, "index_file is 'a' but data.probe.images is 'none'"),
    ({"images": "train", "per_class": -1}, "per_class is -1; it must be 0 or"),
    ({"images": "train", "per_class": 2.5}, "per_class is 2.5: .*an integer"),
    ({"images": "train", "index_file": 5}, "index_file is 5: it must be a str"),
    ({"image": "train"}, "unknown setting data.probe.image: known are images"),
  ],
)
def test_wrong_settings(probe, message):
  with pytest.raises(ValueError, match=message):
    build(probe)


@pytest.mark.parametrize(
  "classes,size,per_class,sizes",
  [(10, 5000, 0, (11165, 45, 45000)), (100, 500, 400, (9754, 4, 40000))],
)
def test_the_split_of_sdclr(classes, size, per_class, sizes):
  """A tail out of what 10 % for validation leave, in permuted classes."""
  labels = np.tile(np.arange(classes), size)
  held = size // 10

  def draw(seed):
    return splits.build(
      labels,
      num_classes=classes,
      labeled={
        "max_count": size - held,
        "class_order": profiles.class_order(classes, seed),
      },
      unlabeled={"factor": 0.0},
      validation={"per_class": held},
      probe={"images": "train", "per_class": per_class},
      seed=seed,
    )

  five = [draw(seed) for seed in range(1, 6)]
  for seed, split in enumerate(five, 1):
    total, smallest, probe = sizes
    assert (len(split.labeled), len(split.probe)) == (total, probe)
    assert min(split.labeled_counts) == smallest
    assert len(split.validation) == 5000
    order = profiles.class_order(classes, seed)
    assert np.argsort(split.labeled_counts)[-1] == order[0]
    assert split.labeled_counts[order[-1]] == smallest
  # With one order of the classes they would share sum n ** 2 / 4500 = 7,023
  # images (of CIFAR-100 5,044); the published five share 1,115 to 4,611.
  common = [
    len(np.intersect1d(a.labeled, b.labeled))
    for i, a in enumerate(five)
    for b in five[:i]
  ]
  n = np.array(sorted(five[0].labeled_counts), float)
  same = (n**2).sum() / (size - held)
  assert max(common) < 0.8 * same and np.mean(common) < 0.6 * same

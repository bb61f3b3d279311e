"""From settings to a task: each set its images, and the truth kept apart."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
import toys

from ltjax.augment import crop_flip
from ltjax.data import builder
from ltjax.data.host import host_images
from ltjax.data.parts import contents
from ltjax.data.sources import tfds_sets
from ltjax.data.splits import groups as grouping
from ltjax.data.splits import record
from ltjax.devices import sharding

LABELED = {"profile": "explicit", "counts": (6, 4, 3, 2)}
UNLABELED = {"profile": "same", "factor": 2.0}
COUNTS = (20, 14, 11, 8)  # of the training set


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Two sets as npz files and a pool: labels can be read off the pixels."""
  path = tmp_path_factory.mktemp("sets")
  rng = np.random.default_rng(0)
  labels = rng.permutation(toys.labels_of(COUNTS))
  test_labels = toys.labels_of((3, 3, 2, 1))
  np.savez(
    path / "set.npz",
    x=numbered(labels),
    y=labels,
    x_test=numbered(test_labels, 1),
    y_test=test_labels,
  )
  pool = rng.permutation(toys.labels_of((9, 9, 9, 9)))
  np.savez(path / "pool.npz", x=numbered(pool, 2), y=pool)
  np.savez(path / "unknown.npz", x=numbered(pool, 2))
  return path


def numbered(labels, part=0):
  """Images whose pixel 0 is the index and whose pixel 1 is the class."""
  images = np.zeros((len(labels), 4, 4, 1), np.uint8)
  images[:, 0, 0, 0] = np.arange(len(labels))
  images[:, 0, 1, 0] = labels
  images[:, 1, 1, 0] = part
  return images


def build(folder, **changes):
  settings = {
    "source": f"npz:{folder / 'set.npz'}",
    "labeled": LABELED,
    "unlabeled": UNLABELED,
    "validation": {"per_class": 2},
    "seed": 0,
    "mesh": toys.one_device(),
  }
  return builder.build(**(settings | changes))


def classes(images):
  return np.asarray(images)[:, 0, 1, 0]


def ids(images):
  return np.asarray(images)[:, 0, 0, 0]


def test_labeled_images_come_first(folder):
  task = build(folder)
  assert (task.num_labeled, len(task.images), task.num_classes) == (15, 45, 4)
  assert task.images.dtype == jnp.uint8 and task.labels.dtype == jnp.int32
  np.testing.assert_array_equal(classes(task.images[:15]), task.labels)
  np.testing.assert_array_equal(ids(task.images[:15]), task.split.labeled)
  np.testing.assert_array_equal(ids(task.images[15:]), task.split.unlabeled)
  np.testing.assert_array_equal(task.unlabeled_images, task.images[15:])
  assert task.image_shape == (4, 4, 1)


def test_counts_are_those_asked_for(folder):
  task = build(folder)
  assert np.bincount(task.labels).tolist() == [6, 4, 3, 2]
  assert np.bincount(task.truth).tolist() == [12, 8, 6, 4]
  assert np.bincount(task.validation_labels).tolist() == [2, 2, 2, 2]
  assert task.test_counts == (3, 3, 2, 1)


def test_no_image_is_in_two_sets(folder):
  task = build(folder)
  parts = [ids(task.images), ids(task.validation_images)]
  drawn = np.concatenate(parts)
  assert len(set(drawn.tolist())) == len(drawn) == 45 + 8


def test_held_out_images_go_with_their_labels(folder):
  task = build(folder)
  for images, labels in (
    (task.validation_images, task.validation_labels),
    (task.test_images, task.test_labels),
  ):
    np.testing.assert_array_equal(classes(images), labels)


def test_the_truth_stays_on_the_host(folder):
  """No array on the device has it, so no stage can read it by mistake."""
  task = build(folder)
  np.testing.assert_array_equal(classes(task.unlabeled_images), task.truth)
  assert isinstance(task.truth, np.ndarray)
  on_device = {
    field.name: value.shape
    for field in dataclasses.fields(task)
    if isinstance(value := getattr(task, field.name), jax.Array)
  }
  assert on_device == {
    "images": (45, 4, 4, 1),
    "labels": (15,),
    "test_images": (9, 4, 4, 1),
    "validation_images": (8, 4, 4, 1),
    "probe_images": (0, 4, 4, 1),
  }


@pytest.fixture(scope="module")
def learner():
  """Shared, so that its programs are compiled once."""
  return toys.learner()


@pytest.mark.parametrize("case", toys.CASES)
def test_no_stage_is_given_the_truth(case, learner):
  """What a step reads holds no more labels than the labeled images have."""
  state = learner.init()  # pseudo labels are -1
  for stage in toys.stages(case, learner):
    if stage.prepare is None:
      continue
    arrays, _ = stage.prepare(state)
    # Images, the network, and what follows from labels; nothing else.
    network = {"backbone", "head", "frozen"}
    assert set(arrays) <= {"images", "features", "labels", "counts", *network}
    if "counts" in arrays:
      np.testing.assert_array_equal(arrays["counts"], toys.LABELED)
    if "labels" not in arrays:
      continue
    labels = np.asarray(arrays["labels"]).reshape(-1)
    known = labels[labels >= 0]
    views = len(known) // toys.N
    np.testing.assert_array_equal(known, np.tile(learner.task.labels, views))


def test_groups_are_by_rank(folder):
  assert build(folder).groups == {"many": (0, 1), "medium": (2,), "few": (3,)}
  assert build(folder, groups=(1, 1, 2)).groups == {
    "many": (0,),
    "medium": (1,),
    "few": (2, 3),
  }
  with pytest.raises(ValueError, match="add up to the 4 classes"):
    build(folder, groups=(3, 3, 4))


def test_the_class_table_names_all_sets(folder):
  table = build(folder).class_table()
  for word in ("labeled", "unlabeled", "test", "many", "few"):
    assert word in table.lower()


def test_the_split_depends_on_the_seed_only(folder):
  first = build(folder)
  assert build(folder).split.hash == first.split.hash
  other = build(folder, seed=1)
  assert other.split.hash != first.split.hash
  assert not np.array_equal(ids(other.images), ids(first.images))


def test_file_order_takes_the_first_images_of_each_class(folder):
  task = build(folder, order="file")
  every = np.load(folder / "set.npz")["y"]
  expected = np.sort(
    np.concatenate(
      [np.flatnonzero(every == c)[:n] for c, n in enumerate((6, 4, 3, 2))]
    )
  )
  np.testing.assert_array_equal(ids(task.images[:15]), expected)


def test_a_pool_is_another_set_of_images(folder):
  unlabeled = UNLABELED | {
    "source": f"npz:{folder / 'pool.npz'}",
    "factor": 1.0,
  }
  task = build(folder, unlabeled=unlabeled)
  assert task.split.unlabeled_from == "pool"
  pool = np.load(folder / "pool.npz")
  np.testing.assert_array_equal(
    task.unlabeled_images, pool["x"][task.split.unlabeled]
  )
  np.testing.assert_array_equal(task.truth, pool["y"][task.split.unlabeled])
  assert np.bincount(task.truth).tolist() == [6, 4, 3, 2]


def test_a_pool_without_labels_has_no_truth(folder):
  unlabeled = {
    "source": f"npz:{folder / 'unknown.npz'}",
    "profile": "natural",
  }
  task = build(folder, unlabeled=unlabeled)
  assert task.truth.tolist() == [-1] * 36
  assert len(task.unlabeled_images) == 36


def test_image_size_is_that_of_all_images(folder):
  pool = {"source": f"npz:{folder / 'pool.npz'}", "factor": 1.0}
  for unlabeled in (UNLABELED, pool):
    task = build(folder, image_size=2, pad=1, unlabeled=unlabeled)
    assert task.image_shape == (2, 2, 1)
    assert task.test_images.shape[1:] == (2, 2, 1)
    assert task.validation_images.shape[1:] == (2, 2, 1)
  with pytest.raises(ValueError, match="data.pad is 4; it must be 0 to 2"):
    build(folder, image_size=2)


def mixed(folder, name, relevance=0.5, **changes):
  unlabeled = UNLABELED | {"irrelevant": name, "relevance": relevance}
  return build(
    folder, unlabeled=unlabeled | changes.pop("theirs", {}), **changes
  )


def test_irrelevant_images_come_last_and_have_no_truth(folder):
  name = f"npz:{folder / 'unknown.npz'}"
  task = mixed(folder, name)
  assert np.bincount(task.truth[:15]).tolist() == [6, 4, 3, 2]
  assert task.truth[15:].tolist() == [-1] * 15
  assert task.truth.dtype == np.int32
  np.testing.assert_array_equal(ids(task.images[:15]), task.split.labeled)
  np.testing.assert_array_equal(ids(task.images[15:30]), task.split.unlabeled)
  np.testing.assert_array_equal(ids(task.images[30:]), task.split.irrelevant)
  others = np.load(folder / "unknown.npz")["x"]
  np.testing.assert_array_equal(task.images[30:], others[task.split.irrelevant])
  assert task.split.unlabeled_counts == (6, 4, 3, 2)
  assert "and 15 unlabeled images of other classes" in task.class_table()


def test_all_relevant_is_the_task_without_any_others(folder):
  name = f"npz:{folder / 'nothing_is_read.npz'}"
  toys.assert_same(mixed(folder, name, 1.0).images, build(folder).images)
  assert "other classes" not in build(folder).class_table()


def test_nothing_relevant(folder):
  task = mixed(folder, f"npz:{folder / 'pool.npz'}", 0.0)
  assert task.truth.tolist() == [-1] * 30
  assert task.split.unlabeled_counts == (0, 0, 0, 0)
  assert task.class_table()


def test_classes_held_out_are_the_irrelevant_ones(folder):
  labeled = LABELED | {"counts": (4, 3, 2)}
  for relevance, others in ((0.5, 9), (1.0, 0)):
    task = mixed(folder, "classes:1", relevance, labeled=labeled)
    assert task.class_names == ("0", "2", "3")
    assert task.test_counts == (3, 2, 1)
    known = classes(task.images[: len(task.images) - others])
    assert sorted(set(known.tolist())) == [0, 2, 3]
    shown = np.array([0, 2, 3])[task.labels]
    np.testing.assert_array_equal(classes(task.images[:9]), shown)
    gone = classes(task.images[len(task.images) - others :])
    assert gone.tolist() == [1] * others
    assert len(task.images) == 9 + 18


def test_classes_held_out_of_a_pool(folder):
  pool = {"source": f"npz:{folder / 'pool.npz'}", "factor": 1.0}
  task = mixed(
    folder,
    "classes:3",
    0.5,
    theirs=pool,
    labeled=LABELED | {"counts": (6, 4, 2)},
  )
  assert np.bincount(task.truth[task.truth >= 0]).tolist() == [3, 2, 1]
  shown = sorted(classes(task.unlabeled_images).tolist())
  assert shown == [0] * 3 + [1] * 2 + [2] + [3] * 6


def test_a_saved_mixed_split_is_reproduced(folder, tmp_path):
  name, file = f"npz:{folder / 'pool.npz'}", str(tmp_path / "split.json")
  first = mixed(folder, name, seed=3)
  first.split.save(file)
  # The split says how many; the config only where they are.
  for relevance in (0.5, 1.0):
    again = mixed(folder, name, relevance, split_file=file)
    assert again.split.hash == first.split.hash
    toys.assert_same(again.images, first.images)
    np.testing.assert_array_equal(again.truth, first.truth)
  with pytest.raises(
    ValueError, match="set data.unlabeled.irrelevant to where"
  ):
    build(folder, split_file=file)
  with pytest.raises(ValueError, match="made from other data.*36 irrelevant"):
    mixed(folder, f"npz:{folder / 'unknown.npz'}", split_file=file)


PROBE = {"images": "train"}


@pytest.mark.parametrize("storage", ["device", "host"])
def test_probe_images_go_with_their_true_labels(folder, storage):
  """Labeled, unlabeled and left over; not those for validation or testing."""
  task = build(folder, probe=PROBE, storage=storage)
  assert len(task.probe_images) == sum(COUNTS) - 8
  np.testing.assert_array_equal(ids(task.probe_images), task.split.probe)
  np.testing.assert_array_equal(classes(task.probe_images), task.probe_labels)
  assert task.probe_labels.dtype == np.int32
  assert isinstance(task.probe_labels, np.ndarray)
  shown = set(ids(task.probe_images).tolist())
  assert shown >= set(ids(task.images).tolist())
  assert not shown & set(ids(task.validation_images).tolist())
  on_host = isinstance(task.probe_images, host_images.HostImages)
  assert on_host == (storage == "host")
  some = build(folder, probe=PROBE | {"per_class": 6}, storage=storage)
  assert np.bincount(some.probe_labels).tolist() == [6, 6, 6, 6]
  assert type(some.probe_images) is type(some.test_images) or on_host


def test_without_a_probe_set_it_is_empty(folder):
  for storage in ("device", "host"):
    task = build(folder, storage=storage)
    assert task.probe_images.shape == (0, 4, 4, 1)
    assert task.probe_labels.shape == (0,)
  with pytest.raises(ValueError, match="class 3 .* to 6, or to 0 for all"):
    build(folder, probe=PROBE | {"per_class": 7})


def test_probe_images_beside_a_pool_and_other_classes(folder):
  """They are of the training set, in its classes alone."""
  pool = {"source": f"npz:{folder / 'unknown.npz'}", "profile": "natural"}
  task = build(folder, unlabeled=pool, probe=PROBE)
  np.testing.assert_array_equal(classes(task.probe_images), task.probe_labels)
  assert len(task.probe_labels) == sum(COUNTS) - 8
  task = mixed(
    folder, "classes:1", labeled=LABELED | {"counts": (4, 3, 2)}, probe=PROBE
  )
  shown = np.array([0, 2, 3])[task.probe_labels]
  np.testing.assert_array_equal(classes(task.probe_images), shown)
  assert len(shown) == 20 + 11 + 8 - 6


def test_probe_images_of_pictures_and_of_digits(tmp_path):
  lines = []
  for label, count in enumerate((6, 5)):
    for i in range(count):
      path = tmp_path / f"c{label}" / f"{i}.png"
      path.parent.mkdir(exist_ok=True)
      Image.new("L", (8, 8), 100 * label + i).save(path)
      lines.append(f"c{label}/{i}.png {label}\n")
  (tmp_path / "train.txt").write_text("".join(lines))
  natural = {
    "labeled": {"profile": "natural", "fraction": 0.5},
    "unlabeled": {"factor": 0.0},
    "validation": {"per_class": 1},
    "image_size": 4,
  }
  for source in (f"folder:{tmp_path}", f"list:{tmp_path / 'train.txt'}"):
    for storage in ("device", "host"):
      task = build(
        tmp_path, source=source, storage=storage, probe=PROBE, **natural
      )
      assert task.split.probe_counts == (4, 3)  # one tested, one validated
      bright = np.asarray(task.probe_images)[:, 0, 0, 0]
      np.testing.assert_array_equal(bright >= 100, task.probe_labels == 1)
  digits = {"max_count": 20, "rho": 10.0}
  task = build(
    tmp_path,
    source="digits",
    labeled=digits,
    probe=PROBE | {"per_class": 30},
  )
  assert task.split.probe_counts == (30,) * 10


def test_probe_images_of_tfds(monkeypatch, tmp_path):
  labels = toys.labels_of(COUNTS)
  part = contents.Part(numbered(labels), labels)
  content = contents.Content(part, part, tuple("abcd"))
  monkeypatch.setattr(tfds_sets, "read", lambda name, **kw: content)
  task = build(tmp_path, source="tfds:x", probe=PROBE)
  assert task.split.probe_counts == tuple(n - 2 for n in COUNTS)
  np.testing.assert_array_equal(classes(task.probe_images), task.probe_labels)


def test_index_files_name_the_images(folder, tmp_path):
  every = np.load(folder / "set.npz")["y"]

  def some(start, stop):
    parts = [np.flatnonzero(every == c)[start:stop] for c in range(4)]
    return np.concatenate(parts)

  files = {"D_i": some(0, 3)[1:], "val": some(3, 5), "train": some(2, 3)}
  files["train"] = np.append(files["train"], some(6, 8))
  for name, chosen in files.items():
    np.save(tmp_path / f"{name}.npy", chosen)

  def named(name, **others):
    return {"index_file": str(tmp_path / f"{name}.npy"), **others}

  task = build(
    folder,
    labeled=named("D_i"),
    unlabeled={"factor": 0.0},
    validation=named("val"),
    probe=named("train", images="train"),
  )
  assert sorted(ids(task.images)) == sorted(files["D_i"])
  assert sorted(ids(task.validation_images)) == sorted(files["val"])
  assert sorted(ids(task.probe_images)) == sorted(files["train"])
  assert task.split.labeled_counts == (2, 3, 3, 3)
  with pytest.raises(
    FileNotFoundError, match="data.labeled.index_file .*no.np"
  ):
    build(folder, labeled=named("no"))


def test_a_saved_split_with_a_probe_set_is_reproduced(folder, tmp_path):
  file = str(tmp_path / "split.json")
  first = build(folder, probe=PROBE | {"per_class": 5}, seed=3)
  first.split.save(file)
  for probe in ({}, PROBE):  # the split says which
    again = build(folder, split_file=file, probe=probe)
    assert again.split.hash == first.split.hash
    toys.assert_same(again.probe_images, first.probe_images)
  # One without gets it, drawn as with the split.
  build(folder, seed=3).split.save(file)
  again = build(folder, split_file=file, probe=PROBE | {"per_class": 5})
  assert again.split.hash == first.split.hash


def test_a_naturally_long_tailed_set_without_a_test_part(tmp_path):
  """Of an .npz file, made smaller: no unlabeled images, groups by thirds."""
  sizes = (60, 31, 15, 9, 4, 3, 2)
  labels = np.random.default_rng(0).permutation(toys.labels_of(sizes))
  x = np.zeros((len(labels), 12, 12), np.uint8)
  x += np.uint8(30) * labels[:, None, None].astype(np.uint8)
  names = np.array([f"kind {c}" for c in range(7)])
  np.savez(tmp_path / "tail.npz", x=x, y=labels, classes=names, files=names)
  settings = {
    "source": f"npz:{tmp_path / 'tail.npz'}",
    "labeled": {"profile": "natural"},
    "unlabeled": {"factor": 0.0},
    "validation": {},
    "image_size": 4,
    "groups": grouping.thirds(7),
    "probe": PROBE,
  }
  task = build(tmp_path, **settings)
  assert task.image_shape == (4, 4, 1) and len(task.unlabeled_images) == 0
  assert task.test_counts == (12, 6, 3, 2, 1, 1, 1)
  assert task.split.labeled_counts == (48, 25, 12, 7, 3, 2, 1)
  assert task.groups == {"many": (0, 1, 2), "medium": (3, 4), "few": (5, 6)}
  np.testing.assert_array_equal(task.split.probe, task.split.labeled)
  brightness = np.asarray(task.images)[:, 2, 2, 0]
  np.testing.assert_array_equal(brightness, 30 * np.asarray(task.labels))
  assert task.class_names[6] == "kind 6"
  with pytest.raises(
    ValueError, match=r"class 6 \(kind 6\) has no labeled image left.* to 0"
  ):
    build(tmp_path, **settings | {"validation": {"per_class": 1}})


def test_no_unlabeled_images_at_all(folder):
  task = build(folder, unlabeled={"factor": 0.0})
  assert task.unlabeled_images.shape == (0, 4, 4, 1)
  assert task.truth.shape == (0,)


def test_a_saved_split_is_reproduced(folder, tmp_path):
  first = build(folder, seed=3)
  first.split.save(tmp_path / "split.json")
  again = build(folder, split_file=str(tmp_path / "split.json"))
  assert again.split.hash == first.split.hash
  toys.assert_same(again.images, first.images)


def test_a_split_of_other_data_is_refused(folder, tmp_path):
  build(folder).split.save(tmp_path / "split.json")
  labels = np.load(folder / "set.npz")["y"][::-1]
  np.savez(
    tmp_path / "other.npz",
    x=numbered(labels),
    y=labels,
    x_test=numbered(labels, 1),
    y_test=labels,
  )
  with pytest.raises(ValueError, match="made from other data"):
    build(
      folder,
      source=f"npz:{tmp_path / 'other.npz'}",
      split_file=str(tmp_path / "split.json"),
    )
  with pytest.raises(FileNotFoundError, match="leave data.split_file empty"):
    build(folder, split_file=str(tmp_path / "nothing.json"))


def test_images_lie_on_every_device(folder):
  task = build(folder, mesh=sharding.make_mesh(4))
  assert len(task.images.devices()) == len(task.labels.devices()) == 4
  assert len(task.test_images.devices()) == 4


def test_transforms_normalise_and_only_training_augments(folder):
  task = build(folder, pad=1, flip="on")
  train, test = task.transforms()
  images = task.images[:8]
  expected = (np.asarray(images) / 255 - task.mean[0]) / task.std[0]
  np.testing.assert_allclose(test(images), expected, rtol=1e-4, atol=1e-5)
  key = jax.random.key(0)
  np.testing.assert_array_equal(
    train(key, images),
    test(crop_flip.random_crop_flip(key, images, pad=1, flip=True)),
  )
  assert toys.differ(train(key, images), test(images))
  half, _ = task.transforms(jnp.bfloat16)
  assert half(key, images).dtype == jnp.bfloat16


def test_without_pad_and_flip_training_is_testing(folder):
  train, test = build(folder, pad=0, flip="off").transforms()
  images = build(folder).images
  toys.assert_same(train(jax.random.key(0), images), test(images))


@pytest.mark.parametrize("flip, expected", [("on", True), ("off", False)])
def test_flip_can_be_set(folder, flip, expected):
  assert build(folder, flip=flip).flip is expected


def test_flip_is_off_for_digits_by_itself():
  settings = {
    "source": "digits",
    "labeled": {"max_count": 20, "rho": 10.0},
    "unlabeled": {},
    "validation": {},
    "seed": 0,
    "mesh": toys.one_device(),
  }
  assert builder.build(**settings).flip is False


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"flip": "yes"}, "data.flip is 'yes'; choose one of auto, on, off"),
    ({"pad": -1}, "data.pad is -1; it must be 0 to 4 pixels"),
    ({"pad": 5}, "data.pad is 5; it must be 0 to 4 pixels"),
    ({"order": "sorted"}, "data.order is 'sorted'"),
    ({"source": "digit"}, "Unknown image set 'digit'.*mean 'digits'"),
    (
      {"unlabeled": UNLABELED | {"relevance": 1.5}},
      r"data.unlabeled.relevance is 1.5; it must be in \[0, 1\]",
    ),
    (
      {"unlabeled": UNLABELED | {"relevance": 0.5}},
      "relevance is 0.5 but data.unlabeled.irrelevant is empty",
    ),
    (
      {
        "labeled": LABELED | {"counts": (6, 4, 3)},
        "unlabeled": UNLABELED | {"relevance": 0, "irrelevant": "classes:3"},
      },
      "needs 26 irrelevant images; 'classes:3' has 8",
    ),
    (
      {"labeled": LABELED | {"counts": (30, 4, 3, 2)}},
      "class 0 .* has 20, the split needs 92",
    ),
    (
      {"unlabeled": UNLABELED | {"factor": 9.0}},
      "class 0 .* lower data.unlabeled.factor to 2.16",
    ),
  ],
)
def test_what_does_not_fit_is_refused(folder, changes, message):
  with pytest.raises(ValueError, match=message):
    build(folder, **changes)


def test_a_set_without_test_images_is_refused(folder, tmp_path):
  data = np.load(folder / "set.npz")
  np.savez(
    tmp_path / "train_only.npz",
    x=data["x"],
    y=data["y"],
  )
  source = f"npz:{tmp_path / 'train_only.npz'}"
  with pytest.raises(ValueError, match="data.test_fraction"):
    build(folder, source=source, test_fraction=0.0)
  task = build(
    folder,
    source=source,
    test_fraction=0.2,
    labeled=LABELED | {"counts": (3, 3, 2, 2)},
    validation={},
  )
  assert min(task.test_counts) >= 1


def test_every_setting_of_the_config_has_its_argument():
  """So that no field of `config.data` is silently without effect."""
  from ltjax import config

  arguments = set(inspect.signature(builder.build).parameters)
  assert set(config.default().data) == arguments - {"mesh", "data_dir", "given"}
  assert isinstance(toys.task().split, record.Split)


def with_parts(tmp_path, monkeypatch, **changes):
  """Builds a task of a set that comes with validation and unlabeled images."""
  labels = toys.labels_of(COUNTS)
  part = contents.Part(numbered(labels), labels)
  held = contents.Part(part.images[:6], labels[:6])
  content = contents.Content(part, part, tuple("abcd"), held, part.images[:5])
  content = content._replace(understood="What was found.")
  monkeypatch.setattr(tfds_sets, "read", lambda name, **kw: content)
  given = {"source": "tfds:x", "validation": {}} | changes
  return part, build(tmp_path, **given)


def test_validation_images_that_come_with_the_set(tmp_path, monkeypatch):
  part, task = with_parts(
    tmp_path,
    monkeypatch,
    labeled={"profile": "natural"},
    unlabeled={"source": "found", "profile": "natural"},
  )
  np.testing.assert_array_equal(task.validation_images, part.images[:6])
  np.testing.assert_array_equal(task.validation_labels, part.labels[:6])
  assert task.split.labeled_counts == tuple(COUNTS)  # none of them held out
  np.testing.assert_array_equal(task.unlabeled_images, part.images[:5])
  assert (task.truth == -1).all()
  assert task.class_table().startswith("What was found.\n\n")


def test_validation_images_are_not_drawn_beside_those_of_the_set(
  tmp_path, monkeypatch
):
  with pytest.raises(ValueError, match="per_class is 2 but .* 6 validation"):
    with_parts(tmp_path, monkeypatch, validation={"per_class": 2})


def test_a_pool_that_is_not_found(tmp_path):
  with pytest.raises(ValueError, match="among the files of digits"):
    build(tmp_path, source="digits", unlabeled={"source": "found"})


def with_patients(tmp_path, **changes):
  """Builds a task of a table of 60 patients, of 2 pictures of each kind each.

  The brightness of a picture tells its patient.
  """
  lines = ["file,class,patient"]
  for patient in range(60):
    for kind, label in (("a", patient % 4), ("b", patient % 4), ("u", "")):
      name = f"{patient}{kind}.png"
      if not (tmp_path / name).exists():
        Image.new("L", (4, 4), 4 * patient).save(tmp_path / name)
      lines.append(f"{name},{label},{patient}")
  (tmp_path / "table.csv").write_text("\n".join(lines))
  given = {
    "source": f"csv:{tmp_path / 'table.csv'}",
    "image_size": 4,
    "group_by": "patient",
    "labeled": {"profile": "natural"},
    "unlabeled": {"source": "found", "profile": "natural"},
    "validation": {"per_class": 4},
  } | changes
  return build(tmp_path, **given)


def patients(images):
  return set((np.asarray(images)[:, 0, 0, 0] // 4).tolist())


def test_patients_are_on_one_side_of_every_split(tmp_path):
  task = with_patients(tmp_path)
  labeled, pool, validation, test = map(
    patients,
    (
      task.images[: task.num_labeled],
      task.unlabeled_images,
      task.validation_images,
      task.test_images,
    ),
  )
  # A fifth of 15 patients a class is tested on, and two are for validation.
  assert (len(test), len(validation), len(labeled)) == (12, 8, 40)
  assert not test & validation and not (test | validation) & labeled
  assert pool == labeled  # Both are trained on.
  assert task.split.validation_counts == (4, 4, 4, 4)
  assert "validation   8 of these groups" in task.understood
  assert "12 unlabeled images of groups held out are left" in task.understood
  assert "8 unlabeled images of groups held out are left" in task.understood

  path = tmp_path / "split.json"
  task.split.save(path)
  again = with_patients(tmp_path, split_file=str(path))
  assert again.split.hash == task.split.hash
  np.testing.assert_array_equal(again.unlabeled_images, task.unlabeled_images)
  other = with_patients(tmp_path, group_by="", test_fraction=0.2)
  assert len(other.unlabeled_images) == 60 and "would keep" in other.understood


def test_a_split_through_patients_is_refused(tmp_path):
  ids = np.arange(0, 96, 2)  # one of the two pictures of each patient
  np.save(tmp_path / "val.npy", ids)
  validation = {"index_file": str(tmp_path / "val.npy")}
  unlabeled = {"profile": "same", "factor": 0.0}
  with pytest.raises(ValueError, match="100.0 % of the validation images"):
    with_patients(tmp_path, validation=validation, unlabeled=unlabeled)
  ids = np.arange(0, 24)
  np.save(tmp_path / "val.npy", ids)
  task = with_patients(tmp_path, validation=validation, unlabeled=unlabeled)
  assert len(patients(task.validation_images)) == 12


def test_a_table_as_pool(tmp_path):
  (tmp_path / "pool.csv").write_text("path,class\n0u.png,1\n1u.png,elk\n")
  unlabeled = {"source": f"csv:{tmp_path / 'pool.csv'}", "profile": "natural"}
  task = with_patients(tmp_path, unlabeled=unlabeled)
  assert task.truth.tolist() == [1, -1]
  unlabeled["source"] = f"csv:{tmp_path / 'table.csv'}"
  with pytest.raises(ValueError, match="to test on would be among the unlabel"):
    with_patients(tmp_path, unlabeled=unlabeled)


def test_the_order_of_the_classes_is_by_name(folder):
  pool = {"source": f"npz:{folder / 'pool.npz'}"}
  asked = {
    "labeled": {"profile": "natural"},
    "unlabeled": pool | {"profile": "natural"},
  }
  plain, task = (
    build(folder, **asked),
    build(folder, classes="2,0,3,1", **asked),
  )
  assert task.class_names == ("2", "0", "3", "1")
  number = np.array([1, 3, 0, 2])  # of the class that pixels tell
  for images, labels in (
    (task.images[: task.num_labeled], task.labels),
    (task.images[task.num_labeled :], task.truth),
    (task.test_images, task.test_labels),
    (task.validation_images, task.validation_labels),
  ):
    np.testing.assert_array_equal(number[classes(images)], labels)
  counts = np.asarray(plain.split.labeled_counts)
  assert task.split.labeled_counts == tuple(counts[[2, 0, 3, 1]])


def test_an_order_that_is_none_is_refused(folder):
  with pytest.raises(ValueError, match="'1' are missing"):
    build(folder, classes="2,0,3")

"""Images of other classes: held out, loaded, fitted and drawn."""

import numpy as np
import pytest
from sklearn import datasets

from ltjax.data.sources import labeled
from ltjax.data.sources import unlabeled as pools
from ltjax.data.splits import irrelevant, settings


def toy(name="npz:toy", size=4, channels=1):
  """Images that show their class."""
  train = np.array([0, 3, 1, 2, 3, 0, 2, 1], np.int32)
  test = np.array([3, 0, 1, 2, 2], np.int32)

  def pixels(labels):
    shown = labels.astype(np.uint8)[:, None, None, None]
    return np.broadcast_to(shown, (len(labels), size, size, channels)).copy()

  return labeled.Dataset(
    name=name,
    train_images=pixels(train),
    train_labels=train,
    test_images=pixels(test),
    test_labels=test,
    class_names=("a", "b", "b", "d"),  # names need not differ
    mean=(0.5,) * channels,
    std=(0.25,) * channels,
    flip=True,
  )


def test_held_out_classes_are_no_part_of_the_set():
  rest, taken = irrelevant.take_out(toy(), (0, 2))
  assert rest.class_names == ("b", "d") and rest.num_classes == 2
  assert rest.train_labels.tolist() == [1, 0, 1, 0]
  assert rest.train_images[:, 0, 0, 0].tolist() == [3, 1, 3, 1]
  assert rest.test_labels.tolist() == [1, 0]
  assert rest.test_images[:, 0, 0, 0].tolist() == [3, 1]
  assert rest.train_labels.dtype == rest.test_labels.dtype == np.int32
  assert taken.labels.tolist() == [0, 2, 0, 2]
  assert taken.images[:, 0, 0, 0].tolist() == [0, 2, 0, 2]
  assert (rest.mean, rest.flip, rest.name) == ((0.5,), True, "npz:toy")


def test_held_out_classes_leave_the_pool_as_well():
  labels = np.array([3, -1, 0, 1, 2, 3], np.int32)
  pixels = np.arange(6, dtype=np.uint8)[:, None, None, None]
  got = irrelevant.take_out_of_pool(pools.Pool(pixels, labels), (0, 2), 4)
  assert got.labels.tolist() == [1, -1, 0, 1]
  assert got.images.ravel().tolist() == [0, 1, 3, 5]
  with pytest.raises(ValueError, match="label 3, and the set only 3 classes"):
    irrelevant.take_out_of_pool(pools.Pool(pixels, labels), (0,), 3)


@pytest.mark.parametrize(
  "name, expected",
  [
    ("classes:3", (3,)),
    ("classes:2,0", (0, 2)),
    ("classes: 2 , 2", (2,)),
    ("cifar100", ()),
    ("npz:classes", ()),
    ("", ()),
  ],
)
def test_classes_by_number(name, expected):
  assert irrelevant.held_out(name, toy()) == expected


@pytest.mark.parametrize(
  "text", ["", "d", "1;2", "-1", "4", "0,1,2", "0,1,2,3", "1.5", ","]
)
def test_classes_that_cannot_be_held_out(text):
  with pytest.raises(ValueError) as caught:
    irrelevant.held_out(f"classes:{text}", toy())
  assert f"irrelevant is 'classes:{text}'" in str(caught.value)
  assert "numbers from 0 to 3 with commas" in str(caught.value)
  assert "two classes of npz:toy must be left" in str(caught.value)


def test_another_named_set_is_fitted():
  pool = irrelevant.load("digits", toy(size=6, channels=3))
  assert pool.images.shape == (1297, 6, 6, 3)
  assert pool.images.dtype == np.uint8
  assert (pool.images[..., 0] == pool.images[..., 2]).all()  # grey
  assert len(pool.labels) == 1297
  assert datasets.load_digits().images.shape[1:] == (8, 8)


def test_a_file_is_read_as_a_pool_is(tmp_path):
  colour = np.full((5, 8, 8, 3), (10, 20, 30), np.uint8)
  np.savez(tmp_path / "a.npz", x=colour)
  pool = irrelevant.load(f"npz:{tmp_path}/a.npz", toy())
  assert pool.images.shape == (5, 4, 4, 1)
  assert (pool.images == 18).all()  # 0.299 R + 0.587 G + 0.114 B
  assert pool.labels.tolist() == [-1] * 5
  np.savez(tmp_path / "a.npz", x=colour, y=np.arange(5))
  pool = irrelevant.load(f"npz:{tmp_path}/a.npz", toy())
  assert pool.labels.tolist() == [0, 1, 2, 3, 4]


def test_channels_first_is_an_error_and_not_a_picture(tmp_path):
  np.savez(tmp_path / "a.npz", x=np.zeros((5, 3, 8, 8), np.uint8))
  with pytest.raises(ValueError, match=r"shape \(5, 3, 8, 8\); images must be"):
    irrelevant.load(f"npz:{tmp_path}/a.npz", toy())


@pytest.mark.parametrize(
  "name, error, message",
  [
    ("npz:toy", ValueError, "'npz:toy', the labeled set itself.*classes:8,9"),
    ("cifar", ValueError, "unlabeled.irrelevant: Unknown image set 'cifar'"),
    ("npz:gone.npz", FileNotFoundError, "gone.npz: no such file"),
    ("folder:gone", FileNotFoundError, "gone: no such folder"),
  ],
)
def test_refused(name, error, message):
  with pytest.raises(error, match=message):
    irrelevant.load(name, toy())


def test_draw_is_nested_and_sorted():
  given = {"relevance": 0.5, "irrelevant": "x"}
  unlabeled = settings.complete("unlabeled", given, settings.UNLABELED)

  def draw(count, seed=0, order="shuffled"):
    return irrelevant.draw(
      count, np.zeros(40), unlabeled=unlabeled, order=order, seed=[seed, 4, 1]
    ).tolist()

  assert draw(0) == []
  assert draw(9) == sorted(draw(9)) and len(set(draw(9))) == 9
  assert set(draw(9)) < set(draw(20)) < set(draw(40)) == set(range(40))
  assert draw(9) != draw(9, seed=1)
  assert draw(9, order="file") == list(range(9))
  with pytest.raises(
    ValueError, match="needs 41 irrelevant images; 'x' has 40"
  ):
    draw(41)

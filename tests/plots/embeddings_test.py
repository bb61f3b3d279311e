import dataclasses

import numpy as np
from PIL import Image
import pytest

from ltjax.plots import embeddings, style
from ltjax.plots import embeddings as maps


def a_map(title="SSLT", num_classes=4, shift=0.0):
  """Five training and ten test images a class, around a point of its own."""
  rng = np.random.default_rng(0)
  third = max(num_classes // 3, 1)
  labels = {
    "train": np.repeat(np.arange(num_classes), 5),
    "test": np.repeat(np.arange(num_classes), 10),
  }
  centres = 10 * rng.standard_normal((num_classes, 2)) + shift
  points = {
    name: centres[ids] + rng.standard_normal((len(ids), 2))
    for name, ids in labels.items()
  }
  ids = tuple(range(num_classes))
  return maps.Map(
    title=title,
    points=points,
    labels=labels,
    class_names=tuple(f"class {c}" for c in ids),
    order=ids[::-1],
    groups={
      "many": ids[-third:],
      "medium": ids[third:-third],
      "few": ids[:third],
    },
  )


@pytest.fixture
def drawn(monkeypatch):
  """Draws maps; returns the axes, row by row, and the picture's size."""

  def draw(found, path):
    figures_ = []
    save = style.save

    def keep(figure, path):
      figures_.append(figure)
      save(figure, path)

    monkeypatch.setattr(style, "save", keep)
    maps.draw(found, path)
    with Image.open(path) as picture:
      size = picture.size
    return figures_[0].axes, size

  return draw


def legend(axes):
  (found,) = [a.get_legend() for a in axes if a.get_legend()]
  return [text.get_text() for text in found.get_texts()]


def colors(axes):
  """Each class's colour, in the order of drawing."""
  return [tuple(c.get_facecolor()[0][:3]) for c in axes.collections]


def test_one_run_has_its_panels_side_by_side(drawn, tmp_path):
  axes, (width, height) = drawn([a_map()], tmp_path / "new" / "map.png")
  assert [a.get_title() for a in axes] == [
    "SSLT, 20 train images",
    "SSLT, 40 test images",
  ]
  assert width > 1.5 * height


def test_runs_stand_side_by_side_training_above(drawn, tmp_path):
  axes, _ = drawn([a_map("CE"), a_map("SSL", shift=300)], tmp_path / "m.png")
  titles = [a.get_title().split()[:3] for a in axes]
  assert [[t[0], t[2]] for t in titles] == [
    ["CE,", "train"],
    ["SSL,", "train"],
    ["CE,", "test"],
    ["SSL,", "test"],
  ]
  # The panels of a run share their axes, those of two runs do not.
  limits = [(a.get_xlim(), a.get_ylim()) for a in axes]
  assert limits[0] == limits[2] and limits[1] == limits[3]
  assert limits[0] != limits[1]


def test_every_point_is_drawn_inside(drawn, tmp_path):
  run = a_map()
  axes, _ = drawn([run], tmp_path / "m.png")
  for place, name in zip(axes, ("train", "test")):
    points = np.concatenate([c.get_offsets() for c in place.collections])
    order = np.argsort(points[:, 0])
    wanted = run.points[name][np.argsort(run.points[name][:, 0])]
    np.testing.assert_allclose(points[order], wanted)
    low, high = np.transpose([place.get_xlim(), place.get_ylim()])
    assert np.all(points > low) and np.all(points < high)


def test_classes_are_told_apart_and_the_tail_is_marked(drawn, tmp_path):
  axes, _ = drawn([a_map()], tmp_path / "m.png")
  # The most frequent first; class 0 is the rarest here.
  names = ["class 3", "class 2", "class 1", "class 0 (few-shot)"]
  assert legend(axes) == names
  assert len(set(colors(axes[0]))) == 4
  assert colors(axes[0]) == colors(axes[1])
  corners = [len(c.get_paths()[0].vertices) for c in axes[0].collections]
  assert corners[-1] == 4 and min(corners[:-1]) > 10  # A triangle, circles.


def test_a_class_has_one_colour_whatever_its_rank(drawn, tmp_path):
  run = a_map()
  other = dataclasses.replace(run, order=run.order[::-1])
  axes, _ = drawn([run, other], tmp_path / "m.png")
  assert colors(axes[0]) == colors(axes[1])[::-1]


@pytest.mark.parametrize("num_classes", [10, 20])
def test_up_to_twenty_classes_have_a_colour_each(drawn, tmp_path, num_classes):
  axes, _ = drawn([a_map(num_classes=num_classes)], tmp_path / "m.png")
  assert len(set(colors(axes[0]))) == len(legend(axes)) == num_classes


def test_of_many_classes_the_groups_have_a_colour(drawn, tmp_path):
  axes, _ = drawn([a_map(num_classes=21)], tmp_path / "m.png")
  assert legend(axes) == ["many-shot", "medium-shot", "few-shot"]
  assert len(set(colors(axes[0]))) == 3
  assert len(axes[0].collections) == 21


def test_points_all_in_one_place(drawn, tmp_path):
  run = a_map()
  still = {name: np.ones_like(p) for name, p in run.points.items()}
  axes, _ = drawn([dataclasses.replace(run, points=still)], tmp_path / "m.png")
  assert axes[0].get_xlim() == (0.0, 2.0)


@pytest.mark.parametrize(
  "change",
  [
    {"class_names": ("a", "b", "c", "d")},
    {"groups": {"many": (0,), "medium": (1, 2), "few": (3,)}},
  ],
)
def test_runs_of_other_classes(tmp_path, change):
  other = dataclasses.replace(a_map("SSL"), **change)
  with pytest.raises(ValueError, match="CE and SSL are of other classes, or"):
    maps.draw([a_map("CE"), other], tmp_path / "m.png")
  assert not (tmp_path / "m.png").exists()


LABELS = np.repeat([0, 1, 2, 3, 4, 5], [40, 30, 20, 10, 4, 1])


@pytest.mark.parametrize(
  ("limit", "counts"),
  [
    (6, [1, 1, 1, 1, 1, 1]),
    (30, [7, 6, 6, 6, 4, 1]),
    (50, [12, 12, 11, 10, 4, 1]),
    (104, [39, 30, 20, 10, 4, 1]),
    (105, [40, 30, 20, 10, 4, 1]),
    (1000, [40, 30, 20, 10, 4, 1]),
  ],
)
def test_small_classes_whole_large_ones_alike(limit, counts):
  index = embeddings.choose(LABELS, limit, seed=0)
  assert np.bincount(LABELS[index]).tolist() == counts
  assert np.all(np.diff(index) > 0)  # Sorted, each once.


def test_absent_classes_need_nothing():
  index = embeddings.choose(np.array([7, 7, 7, 2]), 2, seed=0)
  assert index[1] == 3 and index[0] in (0, 1, 2)


def test_the_seed_draws():
  one, same, other = (embeddings.choose(LABELS, 30, seed=s) for s in (0, 0, 1))
  np.testing.assert_array_equal(one, same)
  assert not np.array_equal(one, other)


@pytest.mark.parametrize("limit", [5, 0, -3])
def test_fewer_than_one_a_class(limit):
  with pytest.raises(ValueError, match=f"--images is {limit}; the 6 classes"):
    embeddings.choose(LABELS, limit, seed=0)


def test_chosen_classes_are_numbered_by_their_places():
  kept, places = embeddings.narrow(np.array([3, 0, 2, 3, 1]), (3, 0))
  assert kept.tolist() == [0, 1, 3] and places.tolist() == [0, 1, 0]
  assert places.dtype == np.int64


def test_classes_exist_and_are_named_once():
  embeddings.check_classes((2, 0), 3)
  with pytest.raises(ValueError, match="--classes has 3; there are 3 classes"):
    embeddings.check_classes((0, 3), 3)
  with pytest.raises(ValueError, match="--classes has 1 twice"):
    embeddings.check_classes((1, 1), 3)

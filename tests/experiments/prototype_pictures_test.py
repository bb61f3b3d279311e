import dataclasses
import functools
import json

import finished
import numpy as np
from PIL import Image
import pytest

from experiments import prototype_pictures
from ltjax.plots import style
from ltjax.runs import finished as reopened

GROUPS = {"many": (2, 0), "medium": (1,), "few": (3,)}


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  finished.one_device(monkeypatch)


_reopen = functools.cache(reopened.reopen)


def with_prototypes(monkeypatch, *rows):
  """Opens the finished run as one that has learned prototypes."""
  run = _reopen(finished.run())
  found = dataclasses.replace(
    run, summary=run.summary | {"prototypes": list(rows)}
  )
  monkeypatch.setattr(reopened, "reopen", lambda workdir, data_dir=None: found)
  return run.task


def row(task, nearest, **changes):
  labels = np.asarray(task.labels)
  return {
    "images": len(task.images),
    "nearest": nearest,
    "classes": labels[nearest].tolist(),
    "base_rate": {"many": 0.75, "medium": 0.2, "few": 0.05},
  } | changes


def pictures(classes, **changes):
  """Small pictures, each of one gray of its own; class 2 is most frequent."""
  count = len(classes)
  values = (10 * np.arange(count))[:, None, None, None]
  settings = {
    "title": "FASSL",
    "images": np.broadcast_to(values, (count, 4, 4, 1)).astype(np.uint8),
    "classes": np.array(classes, np.int64),
    "class_names": ("cat", "dog", "owl", "rat"),
    "order": (2, 0, 1, 3),
    "groups": GROUPS,
    "base_rate": {"many": 0.7, "medium": 0.2, "few": 0.1},
  }
  return prototype_pictures.Pictures(**(settings | changes))


@pytest.fixture
def drawn(monkeypatch):
  """Draws pictures; returns the figure."""

  def draw(found, path):
    figures_ = []
    save = style.save
    monkeypatch.setattr(
      style, "save", lambda f, p: (figures_.append(f), save(f, p))
    )
    prototype_pictures.draw(found, path)
    return figures_[0]

  return draw


def panel(axes):
  """Title, gray levels and class names of a panel, in their order."""
  levels = [int(i.get_array()[0, 0]) for i in axes.get_images()]
  return (
    axes.get_title(loc="left"),
    levels,
    [text.get_text() for text in axes.texts],
  )


class TestCollect:
  def test_images_are_the_nearest_ones(self, monkeypatch):
    task = with_prototypes(monkeypatch)
    rows = [row(task, [1]), row(task, [7, 0, 7])]
    task = with_prototypes(monkeypatch, *rows)
    found = prototype_pictures.collect("runs/a", title="FASSL")
    np.testing.assert_array_equal(
      found.images, np.asarray(task.images)[[7, 0, 7]]
    )
    np.testing.assert_array_equal(
      found.classes, np.asarray(task.labels)[[7, 0, 7]]
    )
    counts = [task.split.labeled_counts[c] for c in found.order]
    assert counts == sorted(counts, reverse=True)
    assert found.title == "FASSL" and found.groups == task.groups
    assert found.base_rate == {"many": 0.75, "medium": 0.2, "few": 0.05}
    assert prototype_pictures.collect("runs/a").title == "a"

  def test_prototypes_of_the_labeled_images_alone(self, monkeypatch):
    task = with_prototypes(monkeypatch)
    with_prototypes(monkeypatch, row(task, [2], images=task.num_labeled))
    assert len(prototype_pictures.collect("a").images) == 1

  def test_of_other_data(self, monkeypatch):
    task = with_prototypes(monkeypatch)
    with_prototypes(monkeypatch, row(task, [2], images=9999))
    with pytest.raises(ValueError, match="compared with 9,999 images, and its"):
      prototype_pictures.collect("a")


class TestDraw:
  def test_a_panel_for_each_group_the_head_first(self, drawn, tmp_path):
    path = tmp_path / "new" / "p.png"
    figure = drawn(pictures([0, 1, 2, 2, 0, 3, 2, 2, 2, 0]), path)
    with Image.open(path) as picture:
      assert picture.width > 1000
    assert figure.get_suptitle() == "FASSL: 10 prototypes, 10 different images"
    assert [panel(axes) for axes in figure.axes] == [
      (
        "many-shot: 8 of 10 prototypes (80.0 %; 70.0 % of the images)"
        "\nowl 5, cat 3",
        [20, 30, 60, 70, 80, 0, 40, 90],
        ["owl", "cat"],
      ),
      (
        "medium-shot: 1 of 10 prototypes (10.0 %; 20.0 % of the images)\ndog 1",
        [10],
        ["dog"],
      ),
      (
        "few-shot: 1 of 10 prototypes (10.0 %; 10.0 % of the images)\nrat 1",
        [50],
        ["rat"],
      ),
    ]

  def test_frames_have_the_color_of_the_group(self, drawn, tmp_path):
    from matplotlib import colors

    figure = drawn(pictures([2, 1, 3]), tmp_path / "p.png")
    edges = [axes.patches[0].get_edgecolor() for axes in figure.axes]
    assert [colors.to_hex(e).upper() for e in edges] == [
      style.COLORS[g] for g in GROUPS
    ]

  def test_a_group_without_prototypes_and_a_collapse(self, drawn, tmp_path):
    found = pictures([2, 2, 2])
    same = dataclasses.replace(found, images=found.images[[0, 0, 0]])
    figure = drawn(same, tmp_path / "p.png")
    assert figure.get_suptitle() == "FASSL: 3 prototypes, 1 different images"
    title, images, names = panel(figure.axes[2])
    assert title.startswith("few-shot: 0 of 3 prototypes (0.0 %; 10.0 % of")
    assert images == [] and names == []

  def test_unknown_classes_stand_apart(self, drawn, tmp_path):
    figure = drawn(pictures([2, -1, 2, -1, 1]), tmp_path / "p.png")
    titles = [panel(axes)[0].partition("\n")[0] for axes in figure.axes]
    assert titles[0] == (
      "many-shot: 2 of 5 prototypes (66.7 % of known class; 70.0 % of the"
      " images of known class)"
    )
    assert panel(figure.axes[3]) == (
      "class unknown: 2 of 5 prototypes",
      [10, 30],
      [],
    )

  def test_without_any_truth(self, drawn, tmp_path):
    found = pictures([-1, -1], base_rate=dict.fromkeys(GROUPS))
    figure = drawn(found, tmp_path / "p.png")
    title = panel(figure.axes[0])[0].partition("\n")[0]
    assert title == "many-shot: 0 of 2 prototypes"

  def test_rows_of_sixteen_name_their_first_class(self, drawn, tmp_path):
    figure = drawn(pictures([2] * 17), tmp_path / "p.png")
    assert panel(figure.axes[0])[2] == ["owl", "owl"]
    boxes = [i.get_extent() for i in figure.axes[0].get_images()]
    assert boxes[16][0] == boxes[0][0] and boxes[16][3] > boxes[15][2]

  def test_color_images_wider_than_high(self, drawn, tmp_path):
    colored = np.zeros((3, 2, 4, 3), np.uint8)
    colored[..., 0] = 200
    figure = drawn(pictures([2, 1, 3], images=colored), tmp_path / "p.png")
    (image,) = figure.axes[0].get_images()
    assert image.get_array().shape == (2, 4, 3)
    left, right, bottom, top = image.get_extent()
    assert (bottom - top) / (right - left) == pytest.approx(0.5)

  def test_of_many_classes_the_numbers_are_not_listed(self, drawn, tmp_path):
    found = pictures(
      [0, 1, 12],
      class_names=tuple(f"c{c}" for c in range(14)),
      order=tuple(range(14)),
      groups={"many": tuple(range(13)), "medium": (), "few": (13,)},
    )
    figure = drawn(found, tmp_path / "p.png")
    assert "\n" not in panel(figure.axes[0])[0]
    assert panel(figure.axes[2])[0].endswith("\nc13 0")


class TestMain:
  def test_draws(self, monkeypatch, tmp_path, capsys):
    task = with_prototypes(monkeypatch)
    with_prototypes(monkeypatch, row(task, [0, 5, 9]))
    assert prototype_pictures.main([str(tmp_path)]) == 0
    path = tmp_path / "plots" / "prototypes.png"
    assert capsys.readouterr().out == f"{path}\n" and path.exists()
    other = tmp_path / "figure_4.png"
    assert prototype_pictures.main([str(tmp_path), f"--out={other}"]) == 0
    assert other.exists()

  def test_a_run_without_prototypes(self, monkeypatch, tmp_path, capsys):
    with_prototypes(monkeypatch)
    assert prototype_pictures.main([str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err == (
      f"error: The run in {tmp_path} learned no prototypes; choose one with"
      " --config.pretrain.name=fassl.\n"
    )

  def test_a_run_of_an_earlier_version_is_one_without(self, tmp_path, capsys):
    run = finished.copy(tmp_path)
    summary = json.loads((run / "summary.json").read_text())
    summary.pop("prototypes", None)
    (run / "summary.json").write_text(json.dumps(summary))
    assert prototype_pictures.main([str(run)]) == 1
    assert "learned no prototypes" in capsys.readouterr().err

  def test_an_unfinished_run_and_none(self, tmp_path, capsys):
    run = finished.copy(tmp_path)
    (run / "summary.json").unlink()
    assert prototype_pictures.main([str(run)]) == 1
    assert "is not finished" in capsys.readouterr().err
    assert prototype_pictures.main([str(tmp_path / "gone")]) == 1
    assert "does not exist" in capsys.readouterr().err

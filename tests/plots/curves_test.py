import os
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from ltjax.plots import curves, style

GROUPS = {"many": (0, 1, 2), "medium": (3, 4, 5), "few": (6, 7, 8, 9)}
NAMES = [f"class {c}" for c in range(10)]


@pytest.fixture
def drawn(monkeypatch):
  """The figures that are saved, to look at what they show."""
  found = []
  save = style.save

  def keep(figure, path, **settings):
    found.append(figure)
    save(figure, path, **settings)

  monkeypatch.setattr(style, "save", keep)
  return found


def pixels(path):
  assert path.read_bytes().startswith(b"\x89PNG")
  with Image.open(path) as image:
    return np.asarray(image.convert("RGB"))


def has_color(path, color):
  wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
  return bool((pixels(path) == wanted).all(axis=-1).any())


def evaluation(model, accuracy, head="balanced", split="test", few=0.1):
  return {
    "model": model,
    "head": head,
    "split": split,
    "accuracy": accuracy,
    "accuracy/many": 0.9,
    "accuracy/medium": 0.5,
    "accuracy/few": few,
  }


EVALUATIONS = [
  evaluation("CE (g')", 0.3, head="random"),
  evaluation("Decoupling", 0.4),
  evaluation("SSLT loop 1 (g')", 0.2, head="random"),
  evaluation("SSLT loop 1", 0.5),
  evaluation("SSLT loop 1", 0.99, split="validation"),
  evaluation("SSLT loop 2", 0.6, few=None),
]


def lines(figure):
  """Label to points, of the solid lines."""
  return {
    line.get_label(): list(zip(*line.get_data()))
    for line in figure.axes[0].get_lines()
    if line.get_linestyle() == "-"
  }


class TestLoops:
  def test_balanced_head_on_test_only(self):
    found = curves.loops(EVALUATIONS)
    assert {loop: e["accuracy"] for loop, e in found.items()} == {
      0: 0.4,
      1: 0.5,
      2: 0.6,
    }

  def test_ten_comes_after_nine(self):
    models = [f"SSLT loop {n}" for n in (10, 9)]
    found = curves.loops([evaluation(m, 0.1) for m in models])
    assert list(found) == [9, 10]


class TestAccuracyOverLoops:
  def test_shows_the_numbers_in_per_cent(self, tmp_path, drawn):
    path = tmp_path / "plots" / "a.png"
    curves.accuracy_over_loops(EVALUATIONS, path)
    found = lines(drawn[0])
    assert found["overall"] == [(0, 40.0), (1, 50.0), (2, 60.0)]
    assert found["many-shot"] == [(0, 90.0), (1, 90.0), (2, 90.0)]
    assert found["few-shot"] == [(0, 10.0), (1, 10.0)]
    dashed = [
      line.get_ydata()[0]
      for line in drawn[0].axes[0].get_lines()
      if line.get_linestyle() != "-"
    ]
    assert dashed == [30.0, 90.0, 50.0, 10.0]
    assert drawn[0].axes[0].get_ylabel() == "test accuracy (%)"
    for color in style.COLORS.values():
      assert has_color(path, color)
    assert sorted(os.listdir(tmp_path / "plots")) == ["a.png", "a.svg"]

  def test_one_point_without_a_level(self, tmp_path, drawn):
    curves.accuracy_over_loops(EVALUATIONS[1:2], tmp_path / "a.png")
    texts = [t.get_text() for t in drawn[0].axes[0].get_legend().get_texts()]
    assert texts == ["overall", "many-shot", "medium-shot", "few-shot"]

  def test_nothing_to_draw(self, tmp_path):
    with pytest.raises(ValueError, match="nothing to draw over loops"):
      curves.accuracy_over_loops(EVALUATIONS[:1], tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


class TestPseudoLabelAccuracy:
  def test_shows_the_papers_table_4(self, tmp_path, drawn):
    table = [(92.3, 41.8), (92.3, 48.1), (92.1, 52.2), (91.8, 55.8)]
    rows = [
      {
        "loop": loop,
        "pseudo/accuracy": 0.877,
        "pseudo/accuracy/many": many / 100,
        "pseudo/accuracy/few": few / 100,
      }
      for loop, (many, few) in enumerate(table)
    ]
    path = tmp_path / "p.png"
    curves.pseudo_label_accuracy(rows, path)
    found = lines(drawn[0])
    assert set(found) == {"overall", "many-shot", "few-shot"}
    np.testing.assert_allclose(
      [y for _, y in found["few-shot"]], [41.8, 48.1, 52.2, 55.8]
    )
    assert has_color(path, style.COLORS["few"])
    assert not has_color(path, style.COLORS["medium"])

  def test_without_truth(self, tmp_path):
    with pytest.raises(ValueError, match="no known accuracy"):
      curves.pseudo_label_accuracy([{"loop": 1}], tmp_path / "p.png")


class TestClassHistogram:
  def test_sorts_and_colors_by_group(self, tmp_path, drawn):
    labeled = [8, 13, 23, 38, 64, 107, 179, 299, 499, 833]
    groups = {"many": (7, 8, 9), "medium": (4, 5, 6), "few": (0, 1, 2, 3)}
    path = tmp_path / "h.png"
    curves.class_histogram(
      labeled, [5 * n for n in labeled], NAMES, groups, path
    )
    axes = drawn[0].axes[0]
    unlabeled, solid = axes.containers
    assert [bar.get_height() for bar in solid] == labeled[::-1]
    assert [bar.get_height() for bar in unlabeled] == [
      5 * n for n in labeled[::-1]
    ]
    ticks = [t.get_text() for t in axes.get_xticklabels()]
    assert ticks == NAMES[::-1]
    from matplotlib import colors

    shown = [colors.to_hex(bar.get_facecolor()).upper() for bar in solid]
    expected = ["many"] * 3 + ["medium"] * 3 + ["few"] * 4
    assert shown == [style.COLORS[g] for g in expected]
    for group in GROUPS:
      assert has_color(path, style.COLORS[group])

  def test_unknown_unlabeled_counts(self, tmp_path, drawn):
    curves.class_histogram([3, 2], (), ["a", "b"], {}, tmp_path / "h.png")
    assert len(drawn[0].axes[0].containers) == 1

  def test_many_classes_and_empty_ones(self, tmp_path, drawn):
    labeled = np.r_[np.arange(120, 0, -1), 0]
    names = [f"c{i}" for i in range(121)]
    path = tmp_path / "h.png"
    curves.class_histogram(labeled, labeled * 0, names, {"few": (120,)}, path)
    assert drawn[0].axes[0].get_xlabel().startswith("121 classes")
    assert pixels(path).shape[1] < 2000


class TestConfusionMatrix:
  def test_rows_are_in_per_cent(self, tmp_path, drawn):
    path = tmp_path / "c.png"
    matrix = [[3, 1, 0], [0, 0, 0], [0, 200, 200]]
    curves.confusion_matrix(matrix, ["cat", "dog", "owl"], path)
    axes = drawn[0].axes[0]
    shown = axes.get_images()[0].get_array()
    np.testing.assert_allclose(shown[0], [75, 25, 0])
    np.testing.assert_allclose(shown[2], [0, 50, 50])
    assert shown.mask[1].all() and not shown.mask[[0, 2]].any()
    texts = {t.get_position(): t.get_text() for t in axes.texts}
    assert texts == {(0, 0): "75", (1, 0): "25", (1, 2): "50", (2, 2): "50"}
    assert axes.get_xlabel() == "predicted class"
    assert axes.get_ylabel() == "true class"
    assert has_color(path, "#DDDDDD")

  @pytest.mark.parametrize(
    "classes, numbers, names",
    [(20, True, 20), (21, False, 21), (160, False, 0)],
  )
  def test_sizes(self, tmp_path, drawn, classes, numbers, names):
    labels = [f"n{c}" for c in range(classes)]
    curves.confusion_matrix(
      np.eye(classes, dtype=int), labels, tmp_path / "c.png"
    )
    axes = drawn[0].axes[0]
    assert bool(axes.texts) == numbers
    shown = [t.get_text() for t in axes.get_yticklabels()]
    assert sum(text in labels for text in shown) == names


class TestFigures:
  def test_long_names_and_dollars(self):
    assert style.name("a" * 22) == "a" * 22
    assert style.name("a" * 23) == "a" * 21 + "…"
    assert style.name("$x_1$") == r"\$x_1\$"

  def test_strange_names_are_drawn(self, tmp_path):
    names = ["$\\frac$", "猫", "two\nlines"]
    curves.confusion_matrix(np.eye(3, dtype=int), names, tmp_path / "c.png")
    assert pixels(tmp_path / "c.png").size

  def test_the_same_picture_is_the_same_file(self, tmp_path):
    for name in ("a.png", "b.png"):
      curves.accuracy_over_loops(EVALUATIONS, tmp_path / name)
    first, second = (tmp_path / n for n in ("a.png", "b.png"))
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
      assert round(image.info["dpi"][0]) == 150

  def test_a_failure_keeps_the_old_picture(self, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(source, target):
      raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
      curves.accuracy_over_loops(EVALUATIONS, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]

  def test_no_global_state_and_no_import_before_use(self, tmp_path):
    script = (
      "import sys\n"
      "from ltjax.plots import curves as plots\n"
      "assert 'matplotlib' not in sys.modules\n"
      f"plots.confusion_matrix([[1]], ['a'], {str(tmp_path / 'c.png')!r})\n"
      "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

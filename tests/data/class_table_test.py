"""The class table, whole for a small set and by its rules for large ones."""

import numpy as np
import pytest

from ltjax.data import class_table
from ltjax.data.splits import draw as splits
from ltjax.data.splits import groups


def build(num_classes, size, **options):
  labels = np.repeat(np.arange(num_classes), size)
  options = {"labeled": {}, "unlabeled": {}, "validation": {}} | options
  return splits.build(labels, num_classes=num_classes, seed=0, **options)


def draw(split, names=None, test=1000):
  num_classes = len(split.labeled_counts)
  return class_table.class_table(
    split,
    num_classes * [test],
    names or [f"class {i}" for i in range(num_classes)],
    groups.by_rank(split.labeled_counts),
  )


NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()

CIFAR = """\
group   class         labeled                     unlabeled                     test
────────────────────────────────────────────────────────────────────────────────────
many    0 airplane      500 ████████████████████  2,500 ████████████████████   1,000
        1 automobile    299 ████████████          1,495 ████████████           1,000
        2 bird          179 ███████▏                895 ███████▏               1,000
────────────────────────────────────────────────────────────────────────────────────
medium  3 cat           107 ████▎                   535 ████▎                  1,000
        4 deer           64 ██▌                     320 ██▌                    1,000
        5 dog            38 █▌                      190 █▌                     1,000
────────────────────────────────────────────────────────────────────────────────────
few     6 frog           23 ▉                       115 ▉                      1,000
        7 horse          13 ▌                        65 ▌                      1,000
        8 ship            8 ▍                        40 ▍                      1,000
        9 truck           5 ▎                        25 ▎                      1,000
────────────────────────────────────────────────────────────────────────────────────
total                 1,236                       6,180                       10,000
max / min               100                         100                            1"""  # noqa: E501


def test_golden():
  assert draw(build(10, 5000), NAMES) == CIFAR


def test_a_hundred_classes_are_shortened_and_summed():
  split = build(
    100,
    500,
    labeled={"max_count": 80, "rho": 20.0},
    validation={"per_class": 2},
  )
  text = draw(split, [f"a very long class name {i}" for i in range(100)])
  lines = text.split("\n")
  assert len(lines) < 35
  assert max(map(len, lines)) <= 100
  shown = [line.split() for line in lines]
  few = groups.by_rank(split.labeled_counts)["few"]
  total = sum(split.labeled_counts[c] for c in few)
  row = next(
    r for r in shown if r[:3] == ["Σ", "33", "classes"] and r[3] == f"{total}"
  )
  assert row == [
    "Σ",
    "33",
    "classes",
    f"{total}",
    f"{5 * total:,}",
    "66",
    "33,000",
  ]
  assert sum("more classes" in line for line in lines) == 3
  assert "⋮ 28 more classes" in text  # 34 many, less three at either end
  assert "valid." in lines[0]
  assert any(line.startswith("total") and " 200 " in line for line in lines)


def test_a_probe_set_is_shown_where_there_is_one():
  probe = {"images": "train", "per_class": 77}
  settings = {
    "labeled": {"max_count": 50, "rho": 10.0},
    "validation": {"per_class": 5},
  }
  lines = draw(build(10, 500, probe=probe, **settings), NAMES).split("\n")
  assert lines[0].split()[-3:] == ["valid.", "probe", "test"]
  assert lines[2].split()[-3:] == ["5", "77", "1,000"]
  total = next(line for line in lines if line.startswith("total"))
  assert total.split()[-3:] == ["50", "770", "10,000"]
  assert max(map(len, lines)) <= 100
  assert "probe" not in draw(build(10, 500, **settings), NAMES)


def test_forty_classes_are_all_shown():
  split = build(40, 500, labeled={"max_count": 50, "rho": 10.0})
  text = draw(split)
  assert "more classes" not in text and "Σ" not in text
  assert all(f"class {i} " in text for i in range(40))


def test_a_sliver_for_one_image_and_nothing_for_none():
  split = build(
    3,
    5000,
    labeled={"profile": "explicit", "counts": (4000, 1, 1)},
    unlabeled={"profile": "explicit", "counts": (900, 1, 0)},
  )
  lines = draw(split).split("\n")
  rows = [line for line in lines if line.endswith("  1,000")]
  assert [line.count("▏") for line in rows] == [
    0,
    2,
    1,
  ]
  assert lines[-1].split() == ["max", "/", "min", "4000", "∞", "1"]


def test_bars_are_linear():
  full = class_table._draw(80, 80, 20)
  assert full == "█" * 20
  assert class_table._draw(40, 80, 20) == "█" * 10
  assert class_table._draw(41, 80, 20) == "█" * 10 + "▎"
  assert [class_table._draw(n, 8, 1) for n in range(1, 9)] == list("▏▎▍▌▋▊▉█")


def test_pool_without_truth():
  split = build(
    3,
    50,
    labeled={"max_count": 6, "rho": 6.0},
    unlabeled={"source": "npz:p", "profile": "natural"},
    pool_labels=np.full(1234, -1),
  )
  text = draw(split)
  assert text.count("?") == 3 + 1  # each class and the ratio
  assert "1,234" in text.split("\n")[-2]


def test_no_unlabeled_set():
  text = draw(
    build(
      3, 50, labeled={"max_count": 6, "rho": 6.0}, unlabeled={"factor": 0.0}
    )
  )
  assert text.split("\n")[-1].split() == ["max", "/", "min", "6", "-", "1"]


@pytest.mark.parametrize("name", ["猫" * 30, "x" * 300, "é́" * 40])
def test_long_names_keep_the_columns(name):
  split = build(3, 50, labeled={"max_count": 6, "rho": 6.0})
  lines = draw(split, [name, "b", "c"]).split("\n")
  rows = [line for line in lines if line.endswith("1,000")]
  assert len(rows) == 3
  assert len({class_table._width(line) for line in rows}) == 1
  assert max(map(class_table._width, lines)) <= 100
  assert "…" in rows[0]


def test_control_characters_cannot_reach_the_terminal():
  split = build(3, 50, labeled={"max_count": 6, "rho": 6.0})
  text = draw(split, ["a\x1b[31m\nb", "b", "c"])
  assert "\x1b" not in text and "a?[31m?b" in text

import os

import pytest

from ltjax.plots import pretraining, style


def rows(stage, epochs, **metrics):
  return [
    {
      "kind": "train",
      "stage": stage,
      "epoch": epoch,
      "epochs": epochs,
      "loss": 1 / epoch,
      **{key: value * epoch for key, value in metrics.items()},
    }
    for epoch in range(1, epochs + 1)
  ]


RECORDS = [
  *rows("pretrain", 3, feature_std=0.25, effective_rank=2.0),
  {"kind": "eval", "stage": "pretrain", "feature_std": 9.0},
  *rows("student", 2, feature_std=0.5, weight_correlation=-0.25),
  *rows("custom/probe", 4),
]


@pytest.fixture
def drawn(monkeypatch):
  found = []
  save = style.save
  monkeypatch.setattr(
    style, "save", lambda f, path: (found.append(f), save(f, path))
  )
  return found


def lines(axes):
  return {
    line.get_label(): list(zip(*line.get_data())) for line in axes.get_lines()
  }


def test_watched_metrics_have_names():
  found = pretraining.watched(RECORDS)
  assert found == {
    "feature_std": "feature std",
    "effective_rank": "effective rank",
    "weight_correlation": "correlation of weight and 1/count",
  }
  assert pretraining.watched(rows("a", 1)) == {}
  assert pretraining.watched([{"feature_std": None}]) == {}


def test_stages_that_watch_their_features():
  found = pretraining.stages(RECORDS)
  assert {stage: len(r) for stage, r in found.items()} == {
    "pretrain": 3,
    "student": 2,
  }


def test_a_panel_for_each_number_stages_one_after_another(tmp_path, drawn):
  path = tmp_path / "new" / "p.png"
  pretraining.draw(RECORDS, path)
  assert path.read_bytes().startswith(b"\x89PNG")
  panels = {a.get_title(loc="left"): lines(a) for a in drawn[0].axes}
  assert list(panels) == [
    "loss",
    "feature std",
    "effective rank",
    "correlation of weight and 1/count",
  ]
  assert panels["loss"]["student"] == [(4, 1.0), (5, 0.5)]
  assert panels["feature std"] == {
    "pretrain": [(1, 0.25), (2, 0.5), (3, 0.75)],
    "student": [(4, 0.5), (5, 1.0)],
  }
  assert panels["effective rank"]["student"] == []
  (legend,) = [a.get_legend() for a in drawn[0].axes if a.get_legend()]
  assert [t.get_text() for t in legend.get_texts()] == ["pretrain", "student"]


def test_one_epoch_is_a_point(tmp_path, drawn):
  pretraining.draw(rows("a", 1, feature_std=0.5), tmp_path / "p.png")
  (line,) = drawn[0].axes[1].get_lines()
  assert line.get_marker() == "o"


def test_nothing_to_draw(tmp_path):
  with pytest.raises(ValueError, match="no stage watched its features"):
    pretraining.draw(rows("a", 2), tmp_path / "p.png")
  assert os.listdir(tmp_path) == []

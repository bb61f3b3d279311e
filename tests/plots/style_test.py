"""How pictures look: fonts for names in any script, drawings beside pixels."""

import pytest

from ltjax.plots import style


def test_matplotlibs_own_font_comes_first():
  assert style.families()[0] == "DejaVu Sans"


def test_letters_that_no_font_has_are_noticed():
  assert not style.lacks(["cat", "Größe", "кот", "a b"])
  assert style.lacks(["cat", "\U000f0000\U00016a0f"])


def test_a_drawing_holds_its_text_and_is_the_same_again(tmp_path):
  found = []
  for name in ("a", "b"):
    figure, axes = style.new(3, 2)
    axes.set_title("猫 <b>&")
    style.save(figure, tmp_path / f"{name}.png", vector=True)
    found.append((tmp_path / f"{name}.svg").read_text(encoding="utf-8"))
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
  assert found[0] == found[1]
  assert "猫 &lt;b&gt;&amp;" in found[0]
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    *("a.png", "a.svg", "b.png", "b.svg")
  ]


@pytest.mark.parametrize("vector", [False, True])
def test_only_what_is_asked_for_is_written(tmp_path, vector):
  figure, _ = style.new(2, 2)
  style.save(figure, tmp_path / "a.png", vector=vector)
  assert (tmp_path / "a.svg").exists() == vector

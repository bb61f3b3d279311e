"""A walk over a folder: pictures, and what is passed over."""

import pathlib

import pytest

from ltjax.data.files import tree


def test_a_walk_finds_pictures_at_any_depth_in_order(tmp_path):
  for name in ("b/2.png", "b/1.JPG", "a/deep/3.jfif", "0.bmp", "b/x.txt"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
  top, _ = tree.walk(tmp_path)
  names = [str(path.relative_to(tmp_path)) for path in top.all()]
  assert names == ["0.bmp", "a/deep/3.jfif", "b/1.JPG", "b/2.png"]
  assert top.count == 4 and top.pictures == [tmp_path / "0.bmp"]
  assert [(f.name, f.count) for f in top.holding] == [("a", 1), ("b", 2)]
  (tmp_path / "c").mkdir()
  top, _ = tree.walk(str(tmp_path))
  assert [f.name for f in top.folders] == ["a", "b", "c"]
  assert [f.name for f in top.holding] == ["a", "b"]


def test_no_file_is_asked_for_its_size(tmp_path, monkeypatch):
  """A folder costs its entries, and one question for itself."""
  for i in range(5):
    (tmp_path / f"{i}.png").touch()
  asked = []
  stat = tree.os.stat
  monkeypatch.setattr(
    tree.os, "stat", lambda path, **kw: asked.append(str(path)) or stat(path)
  )
  top, _ = tree.walk(tmp_path)
  assert top.count == 5 and str(tmp_path) in asked
  assert not [path for path in asked if path.endswith(".png")]


def test_missing_folder(tmp_path):
  with pytest.raises(FileNotFoundError, match="gone: no such folder"):
    tree.walk(tmp_path / "gone")


def test_what_is_passed_over_is_counted_by_kind_with_an_example():
  passed = tree.Passed()
  root = pathlib.Path("/x")
  assert passed.lines(root) == []
  for kind in (".txt", ".txt", ".psd", ".a", ".b", ".c", ".d"):
    passed.add(kind, root / f"z{kind}")
  passed.add(".txt", root / "sub" / "a.txt")
  assert passed.unread(root) == ["passed over, not read: 1 .psd (z.psd)"]
  assert passed.lines(root) == [
    "  passed over, not read: 1 .psd (z.psd)",
    "  passed over: 3 .txt (sub/a.txt), 1 .a (z.a), 1 .b (z.b), 1 .c (z.c), and"
    " 1 other kinds of files",
  ]


def test_counted():
  assert [tree.counted(n) for n in (0, 1, 1200)] == [
    "0 pictures",
    "1 picture",
    "1,200 pictures",
  ]

"""Predictions on disk; tests/predict_test.py has them from the command line."""

from ltjax.report import predictions


def test_class_names_make_folders_and_names_do_not_clash(tmp_path):
  for i, text in enumerate("ab"):
    (tmp_path / text).mkdir()
    (tmp_path / text / "x.png").write_bytes(bytes([i]))
  for text in "ab":
    row = {"image": str(tmp_path / text / "x.png"), "class": "../a/b: c?"}
    found = predictions.sort_into(tmp_path / "to", row)
    assert found.parent == tmp_path / "to" / "_a_b_ c_"
  names = sorted(p.name for p in found.parent.iterdir())
  assert names == ["x-2.png", "x.png"]
  other = predictions.sort_into(tmp_path / "to", row | {"class": ".."})
  assert other.parent.name == "_"


def test_a_table_of_nothing_has_its_header(tmp_path):
  predictions.write(tmp_path / "none.csv", [])
  assert (tmp_path / "none.csv").read_text() == "image\n"

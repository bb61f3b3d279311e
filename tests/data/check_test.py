"""A pass over all pictures of a source."""

import numpy as np
from PIL import Image
import pytest

from ltjax.data import check, records


@pytest.fixture
def photos(tmp_path):
  for name in ("a/1", "a/2", "b/3", "b/deep/4"):
    path = tmp_path / "photos" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2), 9).save(path)
  (tmp_path / "photos" / "a" / "2.png").write_bytes(b"")
  (tmp_path / "photos" / "b" / "5.txt").touch()
  return tmp_path / "photos"


def test_broken_pictures_are_listed(photos, capsys):
  (photos / "b" / "3.png").write_bytes(b"?")
  assert check.main([f"folder:{photos}"]) == 1
  out, err = capsys.readouterr()
  first, second = out.splitlines()
  assert first.startswith(f"{photos}/a/2.png: the image file is empty")
  assert second.startswith(f"{photos}/b/3.png: not a whole image")
  assert err.splitlines() == [
    "passed over: 1 .txt (b/5.txt)",
    "2 of 4 pictures cannot be read.",
  ]


def test_whole_pictures(photos, capsys):
  (photos / "a" / "2.png").unlink()
  assert check.main([str(photos)]) == 0
  out, err = capsys.readouterr()
  assert out == "" and err.endswith("0 of 3 pictures cannot be read.\n")


def test_lists_and_records(photos, tmp_path, capsys):
  (tmp_path / "one.txt").write_text("a/1.png 0\na/2.png 0\n")
  (tmp_path / "two.txt").write_text("b/3.png 1\n")
  lists = f"list:{tmp_path}/one.txt,{tmp_path}/two.txt"
  assert check.main([lists, f"--root={photos}"]) == 1
  assert "1 of 3 pictures" in capsys.readouterr().err
  records.write(photos, tmp_path / "shards", shards=2)
  assert check.main([f"arrayrecord:{tmp_path / 'shards'}"]) == 1
  out, err = capsys.readouterr()
  assert "a/2.png" in out and "1 of 4 pictures" in err


def test_settings_of_the_config(photos, capsys):
  (photos / "a" / "2.png").unlink()
  deep = np.array([[0, 4000]], np.uint16)
  Image.fromarray(deep).save(photos / "a" / "6.png")
  assert check.main([str(photos)]) == 1
  assert "data.pixel_range=LOW,HIGH" in capsys.readouterr().out
  assert check.main([str(photos), "--pixel_range=0,4095"]) == 0


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["gone"], "gone: no such folder"),
    (["list:gone.txt"], "gone.txt: no such list"),
    ([".", "--pages=all"], "data.pages is 'all'"),
  ],
)
def test_bad_arguments(arguments, message, capsys):
  assert check.main(arguments) == 1
  assert message in capsys.readouterr().err

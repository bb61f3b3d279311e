import csv
import json
import os
import pathlib
import subprocess
import sys

import finished
import numpy as np
from PIL import Image
import pytest

from ltjax import predict
from ltjax.data.sources import labeled
from ltjax.data.splits import record as splits
from ltjax.report import predictions
from ltjax.runs import pictures, trained
from ltjax.trust import calibration, prior


def write(path, pixels, mode=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
  (image.convert(mode) if mode else image).save(path)
  return path


def digit(i=0):
  return labeled.load("digits").test_images[i]


@pytest.fixture
def folder(tmp_path):
  """A few pictures, at two depths, and what does not count."""
  write(tmp_path / "b.png", digit(0))
  write(tmp_path / "a" / "1.png", digit(1))
  write(tmp_path / "a" / "deep" / "2.bmp", digit(2))
  (tmp_path / "notes.txt").write_text("no picture")
  write(tmp_path / ".hidden" / "h.png", digit(3))
  return tmp_path


def run(capsys, *argv):
  """Returns exit code, output and errors of the command line."""
  workdir = finished.run()
  capsys.readouterr()  # Of training, where no test asked for the run before.
  code = predict.main([f"--workdir={workdir}", *map(str, argv)])
  return code, *capsys.readouterr()


def test_find_searches_folders_and_keeps_files_once(folder):
  found = pictures.find([folder / "notes.txt", folder, folder / "b.png"])
  assert [str(p.relative_to(folder)) for p in found] == [
    "notes.txt",
    "a/1.png",
    "a/deep/2.bmp",
    "b.png",
  ]


def test_find_names_what_is_not_there(tmp_path):
  with pytest.raises(FileNotFoundError, match="none.png: no such picture or"):
    pictures.find([tmp_path, tmp_path / "none.png"][1:])
  with pytest.raises(ValueError, match="no pictures in this folder.*jpeg"):
    pictures.find([tmp_path])


def test_read_brings_pictures_to_the_networks_shape(tmp_path):
  rgb = np.zeros((6, 10, 3), np.uint8)
  rgb[..., 0] = 255
  path = write(tmp_path / "red.png", rgb)
  grey = pictures.read(path, (8, 4, 1))
  # ITU-R 601: a full red has a luma of 0.299 * 255.
  np.testing.assert_array_equal(grey, np.full((8, 4, 1), 76, np.uint8))
  np.testing.assert_array_equal(
    pictures.read(path, (3, 3, 3)), rgb[:3, :3], strict=True
  )
  path = write(tmp_path / "grey.png", np.full((5, 5, 1), 9, np.uint8))
  np.testing.assert_array_equal(
    pictures.read(path, (5, 5, 3)), np.full((5, 5, 3), 9, np.uint8)
  )
  path = write(tmp_path / "alpha.png", np.full((2, 2, 4), 200, np.uint8))
  assert pictures.read(path, (2, 2, 3)).shape == (2, 2, 3)


def test_read_leaves_a_picture_of_the_right_shape_alone(tmp_path):
  path = write(tmp_path / "d.png", digit(5))
  np.testing.assert_array_equal(pictures.read(path, (8, 8, 1)), digit(5))


@pytest.mark.parametrize("head", ["balanced", "random"])
def test_predictions_are_those_of_the_evaluation(tmp_path, head):
  """The test set as files gives the recalls that the run recorded."""
  data = labeled.load("digits")
  files = [
    write(tmp_path / f"{i}.png", image)
    for i, image in enumerate(data.test_images)
  ]
  records = list(
    predict.predict(trained.load(finished.run()), files, head=head)
  )
  labels = np.array([r["label"] for r in records])
  summary = json.loads((finished.run() / "summary.json").read_text())
  rows = [
    r
    for r in summary["evaluations"]
    if r["head"] == head and r["split"] == "test"
  ]
  confusion = np.zeros((10, 10), int)
  np.add.at(confusion, (data.test_labels, labels), 1)
  # Batches of another size may round a tie the other way.
  assert np.abs(confusion - rows[-1]["confusion"]).sum() <= 2
  assert [r["image"] for r in records] == list(map(str, files))


def test_probabilities_and_top_are_the_networks(folder):
  loaded = trained.load(finished.run())
  files = pictures.find([folder])
  probabilities = loaded.predictor("balanced")(
    np.stack([digit(1), digit(2), digit(0)])
  )
  records = list(predict.predict(loaded, files, top=10))
  for record, wanted in zip(records, probabilities, strict=True):
    assert record["label"] == wanted.argmax()
    assert record["class"] == str(wanted.argmax())
    assert record["probability"] == pytest.approx(wanted.max(), abs=1e-5)
    assert record["top"][0] == {
      k: record[k] for k in ("class", "label", "probability")
    }
    assert sorted(t["label"] for t in record["top"]) == list(range(10))
    odds = [t["probability"] for t in record["top"]]
    assert odds == sorted(odds, reverse=True)
    assert sum(odds) == pytest.approx(1, abs=1e-4)


def test_batches_do_not_change_the_records(folder):
  loaded = trained.load(finished.run())
  files = pictures.find([folder])
  whole = list(predict.predict(loaded, files))
  for batch_size in (1, 2):
    parts = list(predict.predict(loaded, files, batch_size=batch_size))
    for a, b in zip(whole, parts, strict=True):
      assert a["image"] == b["image"]
      assert a["probability"] == pytest.approx(b["probability"], abs=1e-4)


def test_no_pictures_give_no_records():
  assert list(predict.predict(trained.load(finished.run()), [])) == []


@pytest.mark.parametrize("top", [0, 11])
def test_top_out_of_range(top, folder):
  records = predict.predict(
    trained.load(finished.run()), [folder / "b.png"], top=top
  )
  with pytest.raises(ValueError, match=f"--top is {top}; the model has 10"):
    next(records)


def test_jsonl(folder, capsys):
  code, out, err = run(capsys, "--format=jsonl", "--top=2", folder)
  assert (code, err) == (0, "")
  records = [json.loads(line) for line in out.splitlines()]
  assert [os.path.basename(r["image"]) for r in records] == [
    "1.png",
    "2.bmp",
    "b.png",
  ]
  for record in records:
    assert list(record) == ["image", "class", "label", "probability", "top"]
    assert len(record["top"]) == 2


def test_table_is_aligned(folder, capsys):
  wide = write(folder / "日本.png", digit(4))
  code, out, err = run(capsys, "--top=2", folder / "b.png", wide)
  assert (code, err) == (0, "")
  header, first, second = out.splitlines()
  assert header.split() == ["image", *["class", "probability"] * 2]
  assert len(header) == len(first)
  # The two wide characters take a cell more each than they are characters.
  assert len(second) == len(first) - 2
  assert first.startswith(f"{folder / 'b.png'}  ")
  for line in (first, second):
    _, best, p, other, q = line.split()
    assert best in "0123456789" and other in "0123456789"
    assert 1 >= float(p) >= float(q) >= 0


def test_names_cannot_command_the_terminal(folder, capsys):
  path = write(folder / "x\x1b[2J\n.png", digit(0))
  code, out, err = run(capsys, path)
  assert code == 0 and "\x1b" not in out
  assert r"x\x1b[2J\n.png" in out and len(out.splitlines()) == 2
  path.write_bytes(b"not a picture")
  code, out, err = run(capsys, path)
  assert code == 1 and "\x1b" not in err
  assert len(err.splitlines()) == 2


def test_a_damaged_picture_is_named_and_the_others_go_on(folder, capsys):
  (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n1234")
  (folder / "empty.png").write_bytes(b"")
  code, out, err = run(capsys, "--format=jsonl", folder)
  assert code == 1
  assert len(out.splitlines()) == 3
  first, second, last = err.splitlines()
  assert json.loads(first)["image"] == str(folder / "broken.png")
  assert "not a whole image" in json.loads(first)["error"]
  assert "empty (0 bytes)" in json.loads(second)["error"]
  assert last == "error: 2 of 5 pictures could not be read."
  # The same as a table, and the others are as if it had not been there.
  code, table, err = run(capsys, folder)
  assert code == 1 and len(table.splitlines()) == 4
  assert err.startswith(f"error: {folder / 'broken.png'}: not a whole image")


def test_image_bomb_is_refused_unread(folder, capsys, monkeypatch):
  monkeypatch.setattr(
    pictures.images.read_image,
    "__kwdefaults__",
    {"name": "", "max_pixels": 63},
  )
  code, out, err = run(capsys, folder / "b.png")
  assert code == 1 and "refused as an image bomb" in err
  assert out.splitlines()[1:] == []


def test_unreadable_file(folder, capsys):
  code, _, err = run(capsys, folder / "b.png", folder / "notes.txt")
  assert code == 1
  assert "notes.txt: not a whole image" in err and "1 of 2 pictures" in err


@pytest.mark.parametrize(
  "argv, error",
  [
    (["nowhere.png"], "error: nowhere.png: no such picture or folder."),
    (["--top=11", sys.executable], "error: --top is 11; the model has 10"),
  ],
)
def test_mistakes_are_told_in_a_line(argv, error, capsys):
  code, out, err = run(capsys, *argv)
  assert (code, out) == (1, "")
  assert err.startswith(error) and len(err.splitlines()) == 1


def test_no_run(folder, capsys):
  argv = [f"--workdir={folder}", str(folder)]
  assert predict.main(argv) == 1
  assert "holds no run" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["--head=third", "x"], ["--top=x", "x"]])
def test_usage(argv, capsys):
  with pytest.raises(SystemExit) as caught:
    predict.main(["--workdir=x", *argv])
  assert caught.value.code == 2
  assert "usage: python -m ltjax.predict" in capsys.readouterr().err


def test_command_line(folder):
  command = [sys.executable, "-m", "ltjax.predict", "--format=jsonl"]
  done = subprocess.run(
    [*command, f"--workdir={finished.run()}", str(folder), "--head=random"],
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  records = [json.loads(line) for line in done.stdout.splitlines()]
  loaded = trained.load(finished.run())
  wanted = list(predict.predict(loaded, pictures.find([folder]), head="random"))
  assert [r["image"] for r in records] == [r["image"] for r in wanted]
  for a, b in zip(records, wanted, strict=True):
    assert a["probability"] == pytest.approx(b["probability"], abs=1e-4)


@pytest.fixture
def calibrated(tmp_path_factory):
  """A copy of the run with a calibration that says what it does."""
  run = finished.copy(tmp_path_factory.mktemp("calibrated"))
  bias = (20.0, *[0.0] * 9)
  made = calibration.Calibration("bias", 2.0, bias, (0.1,) * 10)
  calibration.save(run, "balanced", made)
  return run


def records_of(workdir, capsys, *argv):
  capsys.readouterr()
  code = predict.main(
    [f"--workdir={workdir}", "--format=jsonl", *map(str, argv)]
  )
  out, err = capsys.readouterr()
  assert code == 0, err
  return [json.loads(line) for line in out.splitlines()]


def test_calibrated_probabilities_are_told_as_such(folder, calibrated, capsys):
  plain = records_of(calibrated, capsys, "--top=10", folder)
  found = records_of(calibrated, capsys, "--top=10", "--calibrated", folder)
  fitted = calibration.load(calibrated, "balanced")
  for before, after in zip(plain, found, strict=True):
    assert "calibrated" not in before and after["calibrated"] == "bias"
    assert after["class"] == "0"
    given, wanted = np.zeros((1, 10)), np.zeros(10)
    for top in before["top"]:
      given[0, top["label"]] = top["probability"]
    for top in after["top"]:
      wanted[top["label"]] = top["probability"]
    np.testing.assert_allclose(fitted.apply(given)[0], wanted, atol=1e-4)


def test_without_calibration(folder, capsys):
  code, _, err = run(capsys, "--calibrated", folder)
  assert code == 1 and "--head=balanced --calibrate=bias" in err


def whole(record):
  """Returns the probabilities of a record with all classes."""
  found = np.zeros(10)
  for top in record["top"]:
    found[top["label"]] = top["probability"]
  return found


def test_probabilities_for_other_shares(folder, capsys):
  shares = np.array([0.5, *[0.5 / 9] * 9])
  lines = [f"{c} {share}" for c, share in enumerate(shares)]
  path = folder / "shares.txt"
  path.write_text("\n".join(lines))
  plain = records_of(finished.run(), capsys, "--top=10", folder)
  counts = splits.Split.load(finished.run() / "split.json").labeled_counts
  for source, start in (("uniform", np.full(10, 0.1)), ("labeled", counts)):
    argv = ["--top=10", f"--prior={path}", f"--source={source}", folder]
    found = records_of(finished.run(), capsys, *argv)
    for before, after in zip(plain, found, strict=True):
      wanted = whole(before) * shares / start
      np.testing.assert_allclose(whole(after), wanted / wanted.sum(), atol=1e-4)
      assert after["prior"] == str(path)
  path.write_text(path.read_text().replace("0.5\n", "0.6\n", 1))
  code, _, err = run(capsys, f"--prior={path}", "--source=uniform", folder)
  assert code == 1 and "the shares sum to 1.1" in err


def test_shares_are_estimated_over_all_readable_pictures(
  folder, calibrated, capsys, monkeypatch
):
  fitted = calibration.Calibration("bias", 1.5, (0.0,) * 10, (0.1,) * 10)
  calibration.save(calibrated, "balanced", fitted)
  argv = ["--top=10", "--calibrated", folder]
  plain = records_of(calibrated, capsys, *argv)
  monkeypatch.setattr(pictures, "BATCH_SIZE", 2)
  found = records_of(calibrated, capsys, *argv, "--prior=estimated")
  pool = np.stack([whole(row) for row in plain])
  shares = prior.em(pool, source=np.full(10, 0.1))
  np.testing.assert_allclose(found[0]["shares"], shares, atol=0.02)
  wanted = prior.correct(
    pool, source=np.full(10, 0.1), target=np.round(shares / shares.sum(), 12)
  )
  after = np.stack([whole(row) for row in found])
  np.testing.assert_allclose(after, wanted, atol=0.02)
  same = records_of(calibrated, capsys, *argv, "--prior=uniform")
  np.testing.assert_allclose(
    np.stack([whole(row) for row in same]), pool, atol=1e-5
  )


def test_shares_of_the_source_must_be_known(folder, calibrated, capsys):
  code, _, err = run(capsys, "--prior=uniform", folder)
  assert code == 1 and "--calibrate=bias and add --calibrated, or tell" in err
  only = calibration.Calibration("temperature", 1.5, (0.0,) * 10, (0.1,) * 10)
  calibration.save(calibrated, "balanced", only)
  argv = [f"--workdir={calibrated}", "--calibrated", "--prior=uniform"]
  assert predict.main([*argv, str(folder)]) == 1
  assert "needs to know which shares" in capsys.readouterr().err


def test_unsure_pictures_are_unknown(folder, capsys):
  plain = records_of(finished.run(), capsys, folder)
  middle = sorted(row["probability"] for row in plain)[1]
  argv = [f"--unknown_below={middle}", "--top=2", folder]
  found = records_of(finished.run(), capsys, *argv)
  for before, after in zip(plain, found, strict=True):
    if before["probability"] < middle:
      assert (after["class"], after["label"]) == ("unknown", -1)
    else:
      assert after["class"] == before["class"]
    assert after["probability"] == before["probability"]
    assert after["top"][0]["class"] == before["class"]
  assert [row["class"] for row in found].count("unknown") == 1
  code, out, _ = run(capsys, *argv)
  assert code == 0 and out.count("unknown") == 1
  code, _, err = run(capsys, "--unknown_below=2", folder)
  assert code == 1 and "--unknown_below is 2.0; it must be in [0, 1]" in err


def test_scores_are_those_of_the_logits(folder, capsys):
  found = records_of(finished.run(), capsys, "--scores", "--top=10", folder)
  loaded = trained.load(finished.run())
  batch = np.stack([digit(1), digit(2), digit(0)])
  logits = loaded.predictor("balanced", logits=True)(batch)
  for row, z in zip(found, logits.astype(np.float64), strict=True):
    assert row["max_logit"] == pytest.approx(z.max(), abs=1e-3)
    assert row["energy"] == pytest.approx(np.log(np.exp(z).sum()), abs=1e-3)
    np.testing.assert_allclose(
      whole(row), np.exp(z - row["energy"]), rtol=1e-2, atol=1e-5
    )
  code, out, _ = run(capsys, "--scores", folder)
  assert out.splitlines()[0].split()[-2:] == ["energy", "max_logit"]


def test_sets_hold_the_classes_that_fit(folder, capsys, monkeypatch):
  finished.one_device(monkeypatch)
  # Two validation images of each class: at 0.5 a limit, at 0.1 none.
  limits = predict.set_limits(finished.run(), 0.5)
  assert np.isfinite(limits).all()
  found = records_of(finished.run(), capsys, "--sets=0.5", "--top=10", folder)
  for row in found:
    fits = [str(c) for c in np.flatnonzero(1 - whole(row) <= limits + 1e-6)]
    assert row["set"] == fits
  code, out, err = run(capsys, "--sets=0.1", folder)
  assert code == 0 and err.startswith("note: with fewer than 9 validation")
  assert "10 classes are in every set: 0, 1, 2" in err
  assert "{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}" in out
  code, _, err = run(capsys, "--sets=1", folder)
  assert code == 1 and "--sets is 1.0; it must be in (0, 1), such as" in err


@pytest.mark.parametrize("suffix", predictions.FORMATS)
def test_predictions_are_written_as_a_table(capsys, folder, tmp_path, suffix):
  out = tmp_path / "deep" / f"found{suffix}"
  (folder / "bad.png").write_bytes(b"no picture")
  flags = ["--top=2", "--scores", f"--out={out}"]
  code, printed, error = run(capsys, *flags, folder)
  assert (code, printed) == (1, "")
  assert "1 of 4 pictures could not be read" in error
  _, text, _ = run(capsys, *flags[:2], "--format=jsonl", folder)
  expected = [json.loads(line) for line in text.splitlines()]
  if suffix == ".jsonl":
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row for row in rows if "error" not in row] == expected
    return
  if suffix == ".csv":
    with out.open(newline="") as file:
      rows = list(csv.DictReader(file))
  else:
    rows = pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()
  assert len(rows) == 4
  (broken,) = [row for row in rows if row["error"]]
  assert broken["image"].endswith("bad.png")
  good = [row for row in rows if not row["error"]]
  for row, other in zip(good, expected, strict=True):
    assert row["class"] == other["class"]
    assert float(row["probability"]) == other["probability"]
    assert row["class_2"] == other["top"][1]["class"]
    assert float(row["energy"]) == other["energy"]


def test_another_suffix_is_refused_before_anything_is_read(capsys, tmp_path):
  code, _, error = run(capsys, f"--out={tmp_path / 'a.xls'}", tmp_path)
  assert code == 1 and "The suffix of --out is '.xls'" in error


def test_pictures_are_sorted_and_none_is_lost(capsys, folder, tmp_path):
  write(folder / "deep" / "1.png", digit(1))  # the same picture as a/1.png
  write(folder / "other" / "1.png", digit(4))
  out = tmp_path / "sorted"
  code, printed, _ = run(capsys, f"--sort_into={out}", "--format=jsonl", folder)
  assert code == 0
  rows = [json.loads(line) for line in printed.splitlines()]
  copies = {p.read_bytes(): p for p in out.rglob("*") if p.is_file()}
  for row in rows:
    source = pathlib.Path(row["image"])
    assert source.exists()
    assert copies[source.read_bytes()].parent.name == row["class"]
  assert len(copies) == 4  # of five files two are the same
  run(capsys, f"--sort_into={out}", folder)
  assert len([p for p in out.rglob("*") if p.is_file()]) == 4


def test_a_reader_that_leaves_is_no_error(folder):
  """As `| head` does; the exit code is that of SIGPIPE."""
  command = [sys.executable, "-m", "ltjax.predict", str(folder)]
  command.insert(3, f"--workdir={finished.run()}")
  with subprocess.Popen(
    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
  ) as process:
    process.stdout.close()
    error = process.stderr.read().decode()
    code = process.wait()
  assert code == 141 and error == ""

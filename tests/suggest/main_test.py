"""The command line on finished runs: tables, pages, and what it says."""

import csv

import finished
import numpy as np
from PIL import Image
import pytest
import runs
import tiny_backbone

from ltjax import train
from ltjax.data.sources import labeled
from ltjax.runs import finished as reopening
from ltjax.runs import pictures, trained
from ltjax.suggest import __main__ as command
from ltjax.suggest import of_run, ranking


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("pictures")
  for i in range(20):
    pixels = np.asarray(labeled.load("digits").test_images[i])
    Image.fromarray(pixels[..., 0]).save(folder / f"<{i:02}>.png")
  (folder / "broken.png").write_bytes(b"no picture")
  return folder


def call(capsys, *argv):
  capsys.readouterr()
  code = command.main(list(map(str, argv)))
  return code, *capsys.readouterr()


def read(path):
  with path.open(newline="", encoding="utf-8") as file:
    return list(csv.DictReader(file))


def test_the_closest_classes_come_first(folder, tmp_path, capsys):
  out = tmp_path / "next" / "x.csv"
  code, told, error = call(
    capsys, f"--workdir={finished.run()}", "--number=5", f"--out={out}", folder
  )
  assert code == 1 and "broken.png" in error  # as of predict
  assert "5 of 21 pictures, by margin" in told
  rows = read(out)
  files = [f for f in pictures.find([folder]) if f.name != "broken.png"]
  model = trained.load(finished.run())
  batch = np.stack([pictures.read(f, model.picture_shape) for f in files])
  found = model.predictor()(batch)
  scores = ranking.margin(found)
  order = np.argsort(-scores, kind="stable")[:5]
  assert [r["image"] for r in rows] == [str(files[i]) for i in order]
  np.testing.assert_allclose(
    [float(r["score"]) for r in rows], scores[order], atol=1e-4
  )
  assert [r["class"] for r in rows] == [
    model.classes[c] for c in found[order].argmax(1)
  ]
  page = (tmp_path / "next" / "x.html").read_text()
  assert page.count("data:image/png;base64,") == 5 and "http" not in page
  assert "&lt;" in page and f"<{order[0]:02}>" not in page


@pytest.mark.parametrize("by", of_run.BY)
def test_every_score_ranks(by, folder):
  files = [f for f in pictures.find([folder]) if f.name != "broken.png"]
  found = of_run.suggest(finished.run(), files, number=6, by=by)
  scores = [row["score"] for row in found.rows]
  assert len({row["image"] for row in found.rows}) == 6 and not found.errors
  assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1]


def test_features_of_labeled_images_are_those_of_pictures():
  run = reopening.reopen(finished.run())
  images = np.asarray(run.task.images[:7])
  np.testing.assert_allclose(
    run.features()[:7], run.trained.run(images, "balanced")[0], atol=1e-5
  )


def test_a_trained_network_checks_its_validation_images(tmp_path, capsys):
  out = tmp_path / "errors.csv"
  flags = f"--workdir={finished.run()}", "--label_errors", f"--out={out}"
  code, told, _ = call(capsys, *flags)
  assert code == 0 and "20 validation images, by the network" in told
  task = reopening.reopen(finished.run()).task
  rows = read(out)
  for row in rows:
    place = task.split.validation.tolist().index(int(row["image"]))
    assert row["class"] == str(task.validation_labels[place])
    assert row["seems"] != row["class"]
  assert rows


def test_a_frozen_run_checks_all_labels_by_file(tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  tiny_backbone.register(monkeypatch)
  rng = np.random.default_rng(0)
  for part, count in (("train", 12), ("test", 2)):
    for c, color in enumerate(((200, 40, 40), (40, 200, 40), (40, 40, 200))):
      place = tmp_path / "set" / part / "abc"[c]
      place.mkdir(parents=True)
      for i in range(count):
        pixels = np.clip(rng.normal(color, 25, (8, 8, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.png")
  wrong = tmp_path / "set/train/a/5.png"
  Image.new("RGB", (8, 8), (40, 40, 200)).save(wrong)
  config = runs.config(
    method="linear",
    data__source=f"folder:{tmp_path / 'set'}",
    data__labeled__profile="natural",
    data__labeled__counts=(),
    data__unlabeled__factor=0.0,
    model__name=tiny_backbone.NAME,
    model__weights=tiny_backbone.save(tmp_path),
    model__tune="head",
    features__cache=str(tmp_path / "features"),
  )
  train.train(config, "run", echo=lambda text: None)
  code, told, _ = call(capsys, "--workdir=run", "--label_errors")
  assert code == 0 and "36 of 36 labeled images, by linear" in told
  first = read(tmp_path / "label_errors.csv")[0]
  assert (first["class"], first["seems"]) == ("a", "c")
  assert first["image"] == str(wrong)


@pytest.mark.parametrize(
  "argv, message",
  [
    ([], "Name pictures, or folders of them"),
    (["--label_errors", "x.png"], "leave out x.png"),
    (["--number=0", "."], "--number"),
    (["--out=x.txt", "."], "it must be a .csv file"),
    (["nowhere"], "nowhere: no such picture or folder"),
  ],
)
def test_what_does_not_fit_is_said(argv, message, folder, capsys):
  argv = [str(folder) if a == "." else a for a in argv]
  code, _, error = call(capsys, f"--workdir={finished.run()}", *argv)
  assert code == 1 and message in error

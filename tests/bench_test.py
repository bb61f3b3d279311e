import json

import finished
import pytest

from ltjax import bench, speed

RESULT = {
  "model": "resnet8",
  "dtype": "float32",
  "batch_size": 8,
  "image": 16,
  "channels": 3,
  "steps": 2,
  "repeats": 5,
  "devices": ["cpu:0"],
  "bare": 1234.5,
  "ltjax": 1111.1,
  "ratio": 0.9,
  "ratios": [0.85, 0.95],
  "processor_ratio": 0.97,
  "bare_compile_seconds": 3.26,
  "ltjax_compile_seconds": 4.0,
  "pseudo_label": 4000.0,
  "refit_images": 16,
  "refit_epochs": 10,
  "refit_views": 10,
  "refit_features_seconds": 1.5,
  "refit_fit_seconds": 0.5,
}


def test_table_tells_the_numbers():
  lines = bench.table(RESULT).splitlines()
  assert lines[0] == (
    "resnet8, float32, batches of 8 images of 16x16x3, on cpu:0; medians of 5"
    " turns of 2 steps."
  )
  assert lines[1].split()[:5] == [
    "bare",
    "jitted",
    "loop",
    "1,234.5",
    "images/s,",
  ]
  assert lines[1].endswith("compiled in 3.3 s")
  assert lines[2].startswith("ltjax training           1,111.1 images/s")
  assert lines[3].endswith(
    "0.900 (turns: 0.850 to 0.950), by processor time 0.970"
  )
  assert "4,000.0 images/s" in lines[4]
  assert "16 images in 10 views, 0.50 s for 10 epochs" in lines[5]


@pytest.mark.parametrize(
  "argv, error",
  [
    (["--batch_size=0"], "--batch_size is 0; it must be 1 or more."),
    (["--steps=0"], "--steps is 0"),
    (["--repeats=0"], "--repeats is 0"),
    (["--model=resnet9"], "Unknown model 'resnet9'. Did you mean"),
    (["--image=2"], "Images of 2 x 2 pixels are too small"),
  ],
)
def test_mistakes_are_told_in_a_line(argv, error, capsys, monkeypatch):
  finished.one_device(monkeypatch)
  assert bench.main(argv) == 1
  out, err = capsys.readouterr()
  assert out == "" and err.startswith(f"error: {error}")
  assert len(err.splitlines()) == 1


def test_command_line(capsys, monkeypatch):
  asked = {}

  def measure(**settings):
    asked.update(settings)
    return RESULT

  monkeypatch.setattr(speed, "measure", measure)
  assert bench.main(["--json", "--dtype=bfloat16", "--repeats=3"]) == 0
  assert json.loads(capsys.readouterr().out) == RESULT
  assert asked == {
    "model": "resnet8",
    "batch_size": 128,
    "image": 32,
    "dtype": "bfloat16",
    "steps": 8,
    "repeats": 3,
  }
  assert bench.main([]) == 0
  assert capsys.readouterr().out == bench.table(RESULT) + "\n"

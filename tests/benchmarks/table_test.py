from benchmarks import table

RESULT = {
  "model": "resnet8",
  "batch_size": 8,
  "image": 16,
  "dtype": "float32",
  "steps": 2,
  "repeats": 5,
  "machine": {
    "device": "cpu",
    "processor": "A Processor",
    "cores": 2,
    "load": 0.25,
    "versions": {"jax": "1.2"},
  },
  "mesh": ["cpu:0"],
  "peak": {"flops_per_second": 2.2e11, "size": 1024, "sizes": [1024]},
  "loops": {
    "epoch": {
      "name": "epoch",
      "images": 16,
      "images_per_second": {"median": 1234.5, "min": 1000.0, "max": 1300.0},
      "flops_per_second": 1.1e11,
      "mfu": 0.5,
      "compile_seconds": 3.26,
      "memory_bytes": 3 * 2**20,
    },
    "refit": {
      "name": "refit, fit",
      "images": 160,
      "images_per_second": {"median": 9.0, "min": 8.0, "max": 10.0},
      "compile_seconds": 0.5,
      "memory_bytes": None,
    },
  },
  "ltjax_over_bare": {"median": 0.9, "min": 0.85, "max": 0.95},
  "processor_ratio": {"median": 0.97, "min": 0.9, "max": 1.0},
  "peers": {
    "torch_best": {
      "how": {
        "torch": "9.9",
        "precision": "float32",
        "layout": "channels_last",
        "compiled": "default",
      },
      "images_per_second": {"median": 617.25, "min": 600.0, "max": 700.0},
      "ratio": {"median": 2.0, "min": 1.5, "max": 2.5},
    }
  },
  "process": {"host_bytes": 5 * 2**20, "device_bytes": 2**30},
}


def test_tells_all_numbers():
  lines = table.of_measure(RESULT).splitlines()
  assert lines[0] == (
    "resnet8, float32, batches of 8 images of 16x16x3; medians of 5 turns of 2"
    " steps, and their range."
  )
  assert lines[1] == (
    "1 x cpu (A Processor, 2 cores, load 0.25), jax 1.2; peak 0.22 TFLOP/s in"
    " products of 1024x1024."
  )
  assert lines[4].split() == (
    "epoch 1,234.5 1,000.0 1,300.0 0.11 50.0% 3.3 3".split()
  )
  assert lines[5].split() == "refit, fit 9.0 8.0 10.0 0.5".split()
  assert lines[7] == (
    "ltjax / bare step: 0.900 (0.850 to 0.950), by processor time 0.970"
  )
  assert lines[8] == (
    "ltjax / torch_best: 2.000 (1.500 to 2.500); it trains 617.2 images/s"
    " (torch 9.9, float32, channels_last, torch.compile default)"
  )
  assert lines[9] == (
    "Most memory held: 5 MiB on the host, 1,024 MiB on the device"
  )


def test_what_was_not_measured_is_not_told():
  result = {k: v for k, v in RESULT.items() if k != "ltjax_over_bare"}
  text = table.of_measure(result | {"peers": {}})
  assert "bare" not in text and "torch" not in text


def test_grid():
  assert table.grid(("", "b"), [["long", "1"], ["x", "22"]]) == [
    "       b",
    "long   1",
    "x     22",
  ]

import pytest

from benchmarks import cards


@pytest.mark.parametrize(
  "device, peak",
  [
    ("NVIDIA H200", 989e12),
    ("NVIDIA H100 80GB HBM3", 989e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA A100-SXM4-40GB", 312e12),
    ("NVIDIA L4", 121e12),
    ("NVIDIA L40S", 362e12),
    ("Tesla V100-SXM2-16GB", 125e12),
    ("NVIDIA GeForce RTX 2070", 0),
    ("cpu", 0),
  ],
)
def test_peaks(device, peak):
  assert cards.peak(device, "bfloat16") == peak
  assert cards.peak(device, "float32") == 0

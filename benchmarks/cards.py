"""What known cards promise: the peak of dense matrix products, by their makers.

Beside the peak that a machine is *seen* to reach (`peak`) stands the one of the
data sheet, which others report shares of. Cards of before 2020 have no
bfloat16; theirs is that of float16.
"""

from __future__ import annotations

# By a part of the name that JAX gives the card; the first that fits counts. In
# 10^12 operations a second, dense, without sparsity: NVIDIA's data sheets.
BFLOAT16 = {
  "H200": 989.0,
  "H100 PCIe": 756.0,
  "H100": 989.0,
  "A100": 312.0,
  "A10": 125.0,
  "L40S": 362.0,
  "L4": 121.0,
  "T4": 65.0,
  "V100": 125.0,
}


def peak(device: str, dtype: str) -> float:
  """Returns a card's promised operations a second, 0 if it is not known.

  Args:
    device: its kind, as JAX tells it, such as `NVIDIA H200`.
    dtype: of the products; only `bfloat16` is known, as float32 may run as
      TF32.
  """
  if dtype != "bfloat16":
    return 0.0
  words = device.replace("-", " ")
  found = (flops for name, flops in BFLOAT16.items() if _is(name, words))
  return next(found, 0.0) * 1e12


def _is(name: str, device: str) -> bool:
  """Whether all words of a name are words of the device's."""
  return set(name.split()) <= set(device.split())

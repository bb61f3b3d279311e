import numpy as np
from PIL import Image
import pytest

from ltjax.plots import reliability
from ltjax.trust import calibration

CURVE = calibration.Reliability(
  np.array([0.3, 0.9]), np.array([0.2, 0.6]), np.array([5, 20])
)


def test_draws_a_picture_the_same_each_time(tmp_path):
  for name in ("a.png", "b.png"):
    reliability.diagram(
      {"before": CURVE, "after": CURVE}, tmp_path / name, about="25 images"
    )
  assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
  with Image.open(tmp_path / "a.png") as image:
    assert min(image.size) > 300
    colors = np.asarray(image.convert("RGB")).reshape(-1, 3)
  assert (colors == [0, 0x72, 0xB2]).all(1).any()


@pytest.mark.parametrize("count", [0, 5])
def test_too_few_and_too_many(count, tmp_path):
  with pytest.raises(ValueError, match=f"there are {count} curves; 1 to 4"):
    reliability.diagram(
      dict.fromkeys(range(count), CURVE), tmp_path / "a.png", about=""
    )

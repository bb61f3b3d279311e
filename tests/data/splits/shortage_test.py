"""The error of a class that runs out, and that its advice is the best."""

import re

import numpy as np
import pytest

from ltjax.data.splits import draw

CIFAR = np.repeat(np.arange(10), 5000)


def build(labels=CIFAR, pool_labels=None, **blocks):
  blocks = {"labeled": {}, "unlabeled": {}, "validation": {}} | blocks
  return draw.build(
    labels,
    num_classes=int(labels.max()) + 1,
    seed=0,
    pool_labels=pool_labels,
    class_names=[f"c{i}" for i in range(int(labels.max()) + 1)],
    **blocks,
  )


def error(**arguments):
  with pytest.raises(ValueError) as caught:
    build(**arguments)
  return str(caught.value)


def test_cifar10_with_a_fivefold_pool_fits_up_to_833():
  assert error(labeled={"max_count": 5000}) == (
    "class 0 (c0) runs out of images: the training set has 5000, the split "
    "needs 30000 (5000 labeled + 25000 unlabeled); lower "
    "data.labeled.max_count to 833"
  )
  build(labeled={"max_count": 833})
  assert "max_count to 833" in error(labeled={"max_count": 834})


def test_every_setting_that_helps_is_named_and_is_the_largest():
  asked = {
    "labeled": {"max_count": 1000},
    "validation": {"per_class": 10},
  }
  message = error(**asked)
  assert "needs 6010 (1000 labeled + 5000 unlabeled + 10 validation)" in message
  assert message.endswith(
    "lower data.labeled.max_count to 831, or data.unlabeled.factor to 3.99"
  )
  for block, key, value, step in (
    ("labeled", "max_count", 831, 1),
    ("unlabeled", "factor", 3.99, 0.01),
  ):
    inside = {key: value}
    build(**{**asked, block: inside})
    outside = {key: value + step}
    assert "runs out" in error(**{**asked, block: outside})


@pytest.mark.parametrize(
  "asked,advice",
  [
    (
      {"labeled": {"max_count": 1500}, "unlabeled": {"max_count": 4000}},
      "lower data.labeled.max_count to 1000, or data.unlabeled.max_count to "
      "3500",
    ),
    (
      {"validation": {"per_class": 3000}},
      "lower data.labeled.max_count to 333, or data.unlabeled.factor to 3, or "
      "data.validation.per_class to 2000",
    ),
    (
      {"labeled": {"profile": "natural", "fraction": 0.5}},
      "lower data.labeled.fraction to 0.16, or data.unlabeled.factor to 1",
    ),
  ],
)
def test_advice(asked, advice):
  assert error(**asked).endswith(advice)


def test_advice_for_a_total():
  # 20,000 in all are 8,061 of class 0, whatever is labeled.
  def asked(total):
    return {"unlabeled": {"profile": "rescaled", "total": total}}

  total = int(
    re.search(r"; lower data.unlabeled.total to (\d+)$", error(**asked(20000)))[
      1
    ]
  )
  build(**asked(total))
  assert "runs out" in error(**asked(total + 1))


def test_the_class_that_runs_out_need_not_be_the_first():
  labels = np.repeat([0, 1, 2], [100, 8, 100])
  message = error(labels=labels, labeled={"max_count": 10, "rho": 2.0})
  assert message.startswith(
    "class 1 (c1) runs out of images: the training set has 8, the split needs "
    "42 (7 labeled + 35 unlabeled)"
  )
  # int(n / sqrt(2)) = 1 for n 2, and 1 + 5 of 8 fit; n 3 has 2 + 10.
  assert "data.labeled.max_count to 2," in message


def test_a_pool_that_runs_out():
  pool = np.repeat(np.arange(10), 2000)
  message = error(unlabeled={"source": "npz:p"}, pool_labels=pool)
  assert message == (
    "class 0 (c0) runs out of images: the pool has 2000, the unlabeled set "
    "needs 2500; lower data.labeled.max_count to 400, or "
    "data.unlabeled.factor to 4"
  )


def test_no_single_setting_helps():
  explicit = {"profile": "explicit", "counts": (5001,) + 9 * (1,)}
  message = error(labeled=explicit)
  assert message.endswith(
    "no single setting can be lowered to fit: ask for fewer images of this "
    "class in data.labeled and data.unlabeled"
  )
  # Lowering max_count until class 9 has no label is no way out.
  labels = np.repeat(np.arange(10), [50] + 9 * [5000])
  message = error(labels=labels, labeled={"max_count": 100, "rho": 100.0})
  assert "max_count" not in message


def test_a_class_without_a_labeled_image():
  assert error(labeled={"max_count": 500, "rho": 1000.0}) == (
    "class 9 (c9) has no labeled image, and every class needs one: raise "
    "data.labeled.max_count to at least 1000 (it is 500), or lower "
    "data.labeled.rho to at most 500 (it is 1000)"
  )
  zero = {"profile": "explicit", "counts": 4 * (5,) + (0,) + 5 * (5,)}
  assert "raise data.labeled.counts[4] to at least 1" in error(labeled=zero)
  assert error(
    labels=np.repeat([0, 1], [9, 3]),
    labeled={"profile": "natural"},
    unlabeled={"factor": 0.0},
    validation={"per_class": 3},
  ) == (
    "class 1 (c1) has no labeled image left: it has 3 and validation takes 3; "
    "lower data.validation.per_class to 2"
  )

import numpy as np
import pytest

from ltjax import class_counts, loss_settings


def check(counts, *, num_classes=None, class_names=(), **settings):
  counts = np.array(counts)
  class_counts.check(
    loss_settings.of(settings),
    counts,
    num_classes=len(counts) if num_classes is None else num_classes,
    class_names=class_names,
  )


@pytest.mark.parametrize(
  "settings, what",
  [
    ({"name": "ldam"}, "loss.name='ldam' takes a margin"),
    ({"name": "ldam_hinge"}, "takes a margin"),
    ({"name": "logit_adjustment"}, "takes a prior"),
    ({"name": "pairwise"}, "takes a prior"),
    ({"name": "vs"}, "takes a prior"),
    ({"weights": "inverse"}, "loss.weights='inverse' takes a weight"),
    ({"weights": "effective_number"}, "takes a weight"),
    ({"name": "vs", "weights": "inverse"}, "loss.name='vs' takes a prior"),
  ],
)
def test_a_class_without_images(settings, what):
  check((3, 2, 1), **settings)
  with pytest.raises(ValueError, match=what) as caught:
    check((3, 0, 0), class_names=("cat", "dog", "owl"), **settings)
  assert "2 of 3 classes have none: class 1 (dog), 2 (owl)." in str(
    caught.value
  )
  assert "--config.data.labeled.rho" in str(caught.value)


@pytest.mark.parametrize(
  "settings, way_out",
  [
    ({"name": "ldam"}, "--config.loss.name=cross_entropy."),
    ({"weights": "inverse"}, "--config.loss.weights=none."),
  ],
)
def test_the_way_out_is_a_setting(settings, way_out):
  with pytest.raises(ValueError) as caught:
    check((3, 0), **settings)
  assert str(caught.value).endswith(way_out)


def test_ten_classes_are_named():
  with pytest.raises(ValueError, match="class 1, 2, .*, 10 and 4 more"):
    check([1] + 14 * [0], name="ldam")


@pytest.mark.parametrize(
  "settings",
  [{}, {"name": "focal"}, {"name": "sigmoid"}, {"weights": "explicit"}],
)
def test_losses_that_read_no_counts(settings):
  check((3, 0, 1), **settings)


@pytest.mark.parametrize("counts", [(1, -1), (1.0, float("nan")), (1, np.inf)])
def test_no_counts(counts):
  with pytest.raises(ValueError, match="each must be 0 or more, and finite"):
    check(counts)


def test_another_number_of_classes():
  with pytest.raises(ValueError, match=r"shape \(2,\), but the task has 3"):
    check((1, 2), num_classes=3)

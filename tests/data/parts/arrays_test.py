"""Checks on what users hand in, and stratified test parts."""

import numpy as np
import pytest

from ltjax.data.parts import arrays


class TestImages:
  def test_passes_and_adds_the_channel(self):
    colour = np.zeros((2, 4, 5, 3), np.uint8)
    assert arrays.check_images(colour, "x") is colour
    grey = np.arange(40, dtype=np.uint8).reshape(2, 4, 5)
    checked = arrays.check_images(grey, "x")
    assert checked.shape == (2, 4, 5, 1)
    np.testing.assert_array_equal(checked[..., 0], grey)

  def test_nan_pixels_are_counted_and_placed(self):
    x = np.zeros((5, 2, 2, 3), np.float32)
    x[3, 1, 0, 2] = x[4, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="f: 2 pixels are NaN.* in image 3"):
      arrays.check_images(x, "f")

  @pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int8, bool, "U3"])
  def test_other_dtypes(self, dtype):
    with pytest.raises(ValueError, match="f: pixels are .* must be uint8"):
      arrays.check_images(np.zeros((2, 4, 4, 3), dtype), "f")

  @pytest.mark.parametrize(
    "shape", [(), (4,), (4, 4), (2, 4, 4, 2), (2, 3, 4, 4), (2, 0, 4, 3)]
  )
  def test_other_shapes(self, shape):
    with pytest.raises(ValueError, match=r"f: shape \("):
      arrays.check_images(np.zeros(shape, np.uint8), "f")


class TestLabels:
  @pytest.mark.parametrize(
    "labels", [[0, 2, 1], np.uint8([0, 2, 1]), np.int64([0, 2, 1])]
  )
  def test_becomes_int32(self, labels):
    checked = arrays.check_labels(labels, "y", num_images=3, num_classes=3)
    assert checked.dtype == np.int32
    assert checked.tolist() == [0, 2, 1]

  def test_empty(self):
    assert arrays.check_labels([], "y", num_images=0).shape == (0,)

  @pytest.mark.parametrize(
    "labels",
    [[0.0, 1.0], np.float32([0, np.nan]), ["a", "b"], [True, False], [0, None]],
  )
  def test_not_integers(self, labels):
    with pytest.raises(ValueError, match="y: labels are .*, not integers"):
      arrays.check_labels(labels, "y", num_images=2)

  def test_ragged_or_absent(self):
    for labels in ([[0], [1, 2]], None):
      with pytest.raises(ValueError, match="y: labels are object"):
        arrays.check_labels(labels, "y", num_images=2)

  @pytest.mark.parametrize("labels", [[0], [0, 1, 1], [[0, 1]]])
  def test_not_one_per_image(self, labels):
    with pytest.raises(ValueError, match=r"there are 2 images.*\(2,\)"):
      arrays.check_labels(labels, "y", num_images=2)

  def test_out_of_range(self):
    with pytest.raises(
      ValueError, match=r"label 3 of image 1 is .* 0 \.\.\. 2 \(2 are not\)"
    ):
      arrays.check_labels([0, 3, -1], "y", num_images=3, num_classes=3)
    with pytest.raises(ValueError, match="label -1 of image 0"):
      arrays.check_labels([-1], "y", num_images=1)

  def test_minimum(self):
    kept = arrays.check_labels([-1, 0], "y", num_images=2, minimum=-1)
    assert kept.tolist() == [-1, 0]
    with pytest.raises(ValueError, match="label -2"):
      arrays.check_labels([-2], "y", num_images=1, minimum=-1)

  def test_too_large_for_int32(self):
    with pytest.raises(ValueError, match="label 4294967296 of image 0"):
      arrays.check_labels([1 << 32], "y", num_images=1)


class TestClassNames:
  @pytest.mark.parametrize(
    "names", [["a", "b"], [b"a", b"b"], np.array(["a", "b"])]
  )
  def test_texts(self, names):
    read = arrays.class_names(names, "f")
    assert read == ("a", "b")
    assert all(type(name) is str for name in read)

  @pytest.mark.parametrize("names", [None, [], [1, 2], np.arange(2)])
  def test_not_texts(self, names):
    with pytest.raises(ValueError, match="f: .* list of texts"):
      arrays.class_names(names, "f")

  def test_twice(self):
    with pytest.raises(ValueError, match="f: a class name occurs twice"):
      arrays.class_names(["a", "a"], "f")


class TestStratifiedTest:
  LABELS = np.repeat([0, 1, 2, 3, 5], [10, 5, 2, 1, 100])

  def test_counts_per_class(self):
    held = arrays.stratified_test(self.LABELS, 0.2, seed=0)
    # Class 2 gives one of its two images; class 3 keeps its only one.
    assert np.bincount(self.LABELS[held]).tolist() == [2, 1, 1, 0, 0, 20]

  def test_never_takes_a_whole_class(self):
    held = arrays.stratified_test(self.LABELS, 0.99, seed=0)
    assert np.bincount(self.LABELS[~held]).tolist() == [1, 1, 1, 1, 0, 1]

  def test_seed_chooses_which(self):
    a, b, c = (
      arrays.stratified_test(self.LABELS, 0.5, seed=s) for s in (0, 0, 1)
    )
    assert (a == b).all() and (a != c).any()
    assert a.sum() == c.sum()

  def test_a_class_does_not_depend_on_the_others(self):
    alone = arrays.stratified_test(self.LABELS[:10], 0.5, seed=3)
    among = arrays.stratified_test(self.LABELS, 0.5, seed=3)
    np.testing.assert_array_equal(among[:10], alone)

  def test_zero_holds_nothing_out(self):
    assert not arrays.stratified_test(self.LABELS, 0.0, seed=0).any()

  @pytest.mark.parametrize("fraction", [-0.1, 1.0, 2, float("nan")])
  def test_out_of_range(self, fraction):
    with pytest.raises(ValueError, match=r"test_fraction is .* in \[0, 1\)"):
      arrays.stratified_test(self.LABELS, fraction, seed=0)


class TestMoments:
  def test_golden(self):
    x = np.zeros((1, 1, 2, 3), np.uint8)
    x[0, 0, 1] = [255, 51, 0]
    mean, std = arrays.moments(x)
    np.testing.assert_allclose(mean, [0.5, 0.1, 0.0], atol=1e-12)
    # A constant channel would divide by zero.
    np.testing.assert_allclose(std, [0.5, 0.1, 1.0], atol=1e-12)
    assert all(type(value) is float for value in mean + std)

  def test_against_numpy(self):
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (7, 5, 6, 3)).astype(np.uint8)
    mean, std = arrays.moments(x)
    np.testing.assert_allclose(mean, (x / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (x / 255).std((0, 1, 2)), rtol=1e-12)
    assert arrays.moments(x[::-1]) == (mean, std)

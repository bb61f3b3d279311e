"""Published weights fill a module's variables, or an error says what is off."""

import re

import jax
import numpy as np
import pytest

from ltjax.models.backbones import weights

F32 = np.float32


def shapes(**leaves):
  """`stem__kernel=(1, 2)` is `params/stem/kernel`."""
  tree = {}
  for path, shape in leaves.items():
    *places, leaf = path.split("__")
    at = tree.setdefault("params", {})
    for place in places:
      at = at.setdefault(place, {})
    at[leaf] = jax.ShapeDtypeStruct(shape, F32)
  return tree


def dotted(path):
  return weights.Source((path.removeprefix("params/").replace("/", "."),))


LAYOUT = weights.Layout("Dotted", "stem.kernel", dotted, r"head\..*")


def fill(wanted, tensors, layouts=(LAYOUT,)):
  return weights.fill(wanted, tensors, layouts, what="net.pth for tiny")


def test_linear_and_convolution_as_pytorch_has_them():
  # A linear layer is x @ weight.T; of a convolution, weight[o, i, h, w] is what
  # input i at (h, w) gives to output o.
  weight = np.arange(6).reshape(2, 3)
  assert weights.transposed(weight)[2, 1] == weight[1, 2]
  weight = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)
  kernel = weights.convolution(weight)
  assert kernel.shape == (5, 7, 3, 2)
  assert kernel[4, 6, 2, 1] == weight[1, 2, 4, 6]


def test_every_leaf_gets_its_tensor_in_fp32():
  wanted = shapes(stem__kernel=(2, 3), stem__bias=(3,), scale=())
  kernel = np.arange(6, dtype=np.float16).reshape(3, 2).T
  tensors = {
    "stem.kernel": kernel,
    "stem.bias": np.array([1, 2, 3], np.int64),
    "scale": np.array(5.0),
    "head.weight": np.zeros((9, 9)),
  }
  filled = fill(wanted, tensors)
  assert jax.tree.structure(filled) == jax.tree.structure(wanted)
  for leaf in jax.tree.leaves(filled):
    assert isinstance(leaf, np.ndarray) and leaf.dtype == F32
    assert leaf.flags.c_contiguous
  stem = filled["params"]["stem"]
  np.testing.assert_array_equal(stem["kernel"], [[0, 2, 4], [1, 3, 5]])
  np.testing.assert_array_equal(stem["bias"], [1, 2, 3])
  assert filled["params"]["scale"].shape == ()
  assert filled["params"]["scale"] == 5


def test_the_marker_tells_the_layout():
  def upper(path):
    return weights.Source((dotted(path).names[0].upper(),), weights.transposed)

  layouts = (LAYOUT, weights.Layout("Upper", "STEM.KERNEL", upper))
  wanted = shapes(stem__kernel=(2, 3))
  lower = fill(wanted, {"stem.kernel": np.ones((2, 3))}, layouts)
  other = fill(wanted, {"STEM.KERNEL": np.full((3, 2), 2.0)}, layouts)
  assert lower["params"]["stem"]["kernel"].sum() == 6
  assert other["params"]["stem"]["kernel"].sum() == 12
  # What the one layout leaves unused, the other does not.
  told = "read as Upper's, 1 left over \\(head.bias\\)"
  with pytest.raises(ValueError, match=told):
    fill(
      wanted,
      {"STEM.KERNEL": np.ones((3, 2)), "head.bias": np.ones(1)},
      layouts,
    )


def test_no_known_layout():
  tensors = {f"other{n:02}": np.ones(1) for n in range(12)}
  layouts = (LAYOUT, LAYOUT._replace(name="Second", marker="first.weight"))
  with pytest.raises(ValueError) as caught:
    fill(shapes(stem__kernel=(1,)), tensors, layouts)
  told = str(caught.value)
  assert told.startswith("net.pth for tiny: these are no weights of that arch")
  assert "Dotted ('stem.kernel') or Second ('first.weight')" in told
  assert "other09, and 2 more" in told and "other10" not in told
  with pytest.raises(ValueError, match="The file holds nothing"):
    fill(shapes(stem__kernel=(1,)), {})


@pytest.mark.parametrize(
  "count, more", [(1, ""), (10, ""), (12, ", and 2 mor")]
)
def test_missing_left_over_and_mis_shaped_are_named_up_to_ten(count, more):
  names = [f"n{n:02}" for n in range(count)]
  listed = ", ".join(names[:10]) + more
  have = {name: np.ones(2) for name in names}
  stem, given = {"stem__kernel": (1,)}, {"stem.kernel": np.ones(1)}
  wanted = shapes(**stem, **{name: (2,) for name in names})
  with pytest.raises(
    ValueError, match=rf"{count} missing \({listed}"
  ) as caught:
    fill(wanted, given)
  assert "net.pth for tiny: of its tensors, read as Dotted's" in str(
    caught.value
  )
  assert "Set model.name to the architecture of the file" in str(caught.value)
  with pytest.raises(ValueError, match=rf"{count} left over \({listed}"):
    fill(shapes(**stem), {**given, **have})
  listed = ", ".join(f"{name} (3,) for (2,)" for name in names[:10]) + more
  listed = re.escape(listed)
  with pytest.raises(ValueError, match=rf"{count} mis-shaped \({listed}"):
    fill(wanted, {**given, **{name: np.ones(3) for name in names}})


def test_all_faults_at_once():
  wanted = shapes(stem__kernel=(2,), scale=(2,))
  with pytest.raises(ValueError) as caught:
    fill(wanted, {"stem.kernel": np.ones(3), "x": np.ones(1)})
  told = str(caught.value)
  assert "1 missing (scale); 1 mis-shaped (stem.kernel (3,) for (2,))" in told
  assert "; 1 left over (x)." in told


def joined(path):
  names = {"stem.kernel": ("stem.kernel", "b", "c")}
  found = dotted(path)
  return weights.Source(
    names.get(found.names[0], found.names),
    lambda *parts: np.concatenate([part.T for part in parts], 1),
  )


def test_a_source_of_several_tensors():
  layouts = (LAYOUT._replace(source=joined),)
  wanted = shapes(stem__kernel=(2, 6))
  parts = {
    name: np.full((2, 2), n, F32)
    for n, name in enumerate(("stem.kernel", "b", "c"))
  }
  filled = fill(wanted, parts, layouts)["params"]["stem"]["kernel"]
  np.testing.assert_array_equal(filled, [[0, 0, 1, 1, 2, 2]] * 2)
  with pytest.raises(ValueError, match=r"1 missing \(c\)"):
    fill(wanted, {n: parts[n] for n in ("stem.kernel", "b")}, layouts)
  # The first alone has the shape that is wanted.
  wanted, first = shapes(stem__kernel=(2, 6)), {"stem.kernel": np.ones((6, 2))}
  with pytest.raises(
    ValueError,
    match=r"1 mis-shaped \(stem.kernel \(6, 2\) and \(2, 2\) and \(3,\) for"
    r" \(2, 6\)\)",
  ):
    fill(wanted, {**parts, **first, "c": np.ones(3)}, layouts)


def test_another_rank_is_mis_shaped_even_if_its_shape_is_the_wanted_one():
  layouts = (
    LAYOUT._replace(
      source=lambda path: weights.Source(
        dotted(path).names, weights.convolution
      )
    ),
  )
  with pytest.raises(ValueError, match=r"stem.kernel \(2, 3\) for \(2, 3\)"):
    fill(shapes(stem__kernel=(2, 3)), {"stem.kernel": np.ones((2, 3))}, layouts)


def test_a_tensor_of_several_parameters_is_missing_once():
  def halves(path):
    part = slice(0, 2) if path.endswith("left") else slice(2, 4)
    return weights.Source(("both",), lambda tensor: tensor[part])

  layouts = (weights.Layout("Halves", "both", halves),)
  wanted = shapes(left=(2,), right=(2,))
  filled = fill(wanted, {"both": np.arange(4.0)}, layouts)["params"]
  np.testing.assert_array_equal(filled["left"], [0, 1])
  np.testing.assert_array_equal(filled["right"], [2, 3])
  layouts = (weights.Layout("Halves", "mark", halves),)
  with pytest.raises(ValueError, match=r"1 missing \(both\)"):
    fill(wanted, {"mark": np.ones(1)}, layouts)

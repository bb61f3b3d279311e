"""Index files: the images they name, and each way to be wrong."""

import json

import numpy as np
import pytest

from ltjax.data.splits import draw, index_files, record, settings

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], 30))
NAMES = ("owl", "newt", "elk")


def images(c, start, stop):
  """Some images of a class, in the order of the file."""
  return np.flatnonzero(LABELS == c)[start:stop]


TAIL = np.concatenate([images(0, 0, 12), images(1, 3, 8), images(2, 5, 7)])
HELD = np.concatenate([images(c, 25 - c, 30) for c in range(3)])


@pytest.fixture
def save(tmp_path):
  def write(ids, name="split1_D_i.npy"):
    np.save(tmp_path / name, ids)
    return str(tmp_path / name)

  return write


def build(labeled, validation=None, **options):
  return draw.build(
    LABELS,
    num_classes=3,
    labeled=labeled,
    unlabeled=options.pop("unlabeled", {"factor": 0.0}),
    validation=validation or {},
    class_names=NAMES,
    seed=0,
    **options,
  )


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_the_labeled_images_are_those_of_the_file(save, dtype):
  mixed = np.random.default_rng(1).permutation(TAIL).astype(dtype)
  split = build({"index_file": save(mixed)})
  assert split.labeled.tolist() == sorted(TAIL.tolist())
  assert split.labeled_counts == (12, 5, 2)
  assert len(split.unlabeled) == len(split.validation) == 0


def test_other_sets_draw_from_the_rest(save):
  """Counts go by the profile of the file; no image is in two sets."""
  asked = {
    "labeled": {"index_file": save(TAIL)},
    "validation": {"per_class": 4},
  }
  split = build(**asked, unlabeled={"factor": 1.0})
  assert split.unlabeled_counts == (12, 5, 2)
  assert split.validation_counts == (4, 4, 4)
  parts = (split.labeled, split.unlabeled, split.validation)
  drawn = np.concatenate(parts)
  assert len(set(drawn.tolist())) == len(drawn) == 19 + 19 + 12
  natural = build(**asked, unlabeled={"profile": "natural"})
  assert len(natural.unlabeled) == 90 - 19 - 12
  assert not set(natural.unlabeled) & set(natural.labeled)
  fuller = {"labeled": asked["labeled"], "validation": {"per_class": 19}}
  with pytest.raises(
    ValueError, match=r"\(owl\) runs out .* needs 31 \(12 lab"
  ):
    build(**fuller)


def test_validation_images_are_those_of_the_file(save):
  split = build({"max_count": 20, "rho": 4.0}, {"index_file": save(HELD)})
  assert split.validation.tolist() == sorted(HELD.tolist())
  assert split.validation_counts == (5, 6, 7)
  assert split.labeled_counts == (20, 10, 5)
  assert not set(split.labeled) & set(split.validation)
  natural = build({"profile": "natural"}, {"index_file": save(HELD)})
  assert natural.labeled_counts == (25, 24, 23)
  whole = np.concatenate([HELD, images(1, 0, 24)])
  with pytest.raises(
    ValueError, match="newt.* no labeled image left.*leave one of them out of "
  ):
    build({"profile": "natural"}, {"index_file": save(whole)})


def test_both_files(save):
  names = save(TAIL), save(HELD, "held.npy")
  split = build({"index_file": names[0]}, {"index_file": names[1]})
  assert split.labeled.tolist() == sorted(TAIL.tolist())
  assert split.validation.tolist() == sorted(HELD.tolist())
  assert split.arguments["labeled"]["index_file"] == "split1_D_i.npy"
  assert split.arguments["validation"]["index_file"] == "held.npy"
  both = save(np.append(HELD, TAIL[3]), "held.npy")
  with pytest.raises(
    ValueError, match=f"have 1 images in common, such as {TAIL[3]}"
  ):
    build({"index_file": names[0]}, {"index_file": both})


def test_the_record_has_the_images_and_not_where_the_file_lay(save, tmp_path):
  (tmp_path / "elsewhere").mkdir()
  here = build({"index_file": save(TAIL)})
  there = build({"index_file": save(TAIL, "elsewhere/split1_D_i.npy")})
  assert here.hash == there.hash
  other = build({"index_file": save(TAIL[:-1])})
  assert other.hash != here.hash
  here.save(tmp_path / "split.json")
  assert str(tmp_path) not in (tmp_path / "split.json").read_text()
  again = record.Split.load(tmp_path / "split.json")
  assert again.labeled.tolist() == sorted(TAIL.tolist())


def test_a_split_without_files_is_as_it_was(tmp_path):
  split = build({"max_count": 5, "rho": 2.0}, {"per_class": 1})
  split.save(tmp_path / "split.json")
  on_disk = json.loads((tmp_path / "split.json").read_text())
  assert "index_file" not in json.dumps(on_disk)
  assert on_disk["arguments"]["validation"] == {"per_class": 1}


def test_home_is_expanded(save, tmp_path, monkeypatch):
  save(TAIL)
  monkeypatch.setenv("HOME", str(tmp_path))
  assert build({"index_file": "~/split1_D_i.npy"}).labeled_counts == (12, 5, 2)


@pytest.mark.parametrize(
  "ids,message",
  [
    (TAIL / 1, r"must hold a vector of integers; it holds float64 of shape"),
    (TAIL[None], r"it holds int64 of shape \(1, 19\)"),
    (np.int64(3), r"of shape \(\)"),
    (LABELS == 0, "it holds bool"),
    (np.array(["1", "2"]), "it holds <U1"),
    (np.append(TAIL, 90), r"index 90 is out of range; .* 0 \.\.\. 89 \(1 are"),
    (np.append(TAIL, [-1, -2]), r"index -1 is out of range.* \(2 are not"),
    (np.append(TAIL, TAIL[[4, 4]]), f"index {TAIL[4]} occurs 3 times"),
    (images(0, 0, 9), r"class 1 \(newt\) has no image in it"),
    (np.zeros(0, np.int64), r"class 0 \(owl\) has no image in it"),
    (np.array([{}], object), "not an .npy file of numbers .*Object arrays are"),
  ],
)
@pytest.mark.parametrize("block", ["labeled", "validation", "probe"])
def test_wrong_files(save, block, ids, message):
  file = save(ids)
  blocks = {"labeled": {"max_count": 5, "rho": 2.0}}
  blocks[block] = {"index_file": file}
  if block == "probe":
    blocks[block]["images"] = "train"
  with pytest.raises(ValueError, match=message) as caught:
    build(**blocks)
  assert file in str(caught.value)


def test_no_such_file(tmp_path):
  with pytest.raises(
    FileNotFoundError,
    match=r"data.labeled.index_file '.*/no.npy': no such file; leave",
  ):
    build({"index_file": str(tmp_path / "no.npy")})


@pytest.mark.parametrize(
  "others,message",
  [
    (
      {"fraction": 0.5},
      "data.labeled.fraction is 0.5 but data.labeled.index_f",
    ),
    ({"class_order": (2, 1, 0)}, r"class_order is \(2, 1, 0\) but"),
    (
      {"profile": "explicit", "counts": (1, 1, 1)},
      r"data.labeled.counts is \(1, 1, 1\) but",
    ),
  ],
)
def test_a_file_and_a_draw_do_not_go_together(save, others, message):
  with pytest.raises(ValueError, match=message):
    build({"index_file": save(TAIL), **others})


def test_per_class_and_a_file_do_not_go_together(save):
  wanted = {"per_class": 2, "index_file": save(HELD)}
  with pytest.raises(
    ValueError, match="data.validation.per_class is 2 but dat"
  ):
    build({"max_count": 5, "rho": 2.0}, wanted)


def test_without_files_nothing_is_read():
  ours = settings.complete("labeled", {}, settings.LABELED)
  held = settings.complete("validation", {}, settings.VALIDATION)
  got = index_files.apply(ours, held, labels=LABELS, names=NAMES)
  assert got[:2] == (ours, held)
  assert [len(ids) for ids in got[2]] == [0, 0]

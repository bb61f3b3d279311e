"""Where images are, from the config to a finished run on picture files."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
import toys

from ltjax import config as configs
from ltjax import dry_run, models, predict, train
from ltjax.data.host import host_images, image_files, storage
from ltjax.runs import trained

SIDE = 6
PIXELS = np.zeros((5, SIDE, SIDE, 3), np.uint8)


# -- The choices.


def reader(*names, **changes):
  settings = {
    "place": "device",
    "image_size": 8,
    "resize": "stretch",
    "cache": "",
  }
  return storage.reader(names, **(settings | changes))


def test_only_pictures_that_stay_in_their_files_need_a_reader():
  assert reader("digits", "train") is None
  assert reader("folder:x", "folder:y") is None
  assert reader("digits", "train", place="host", image_size=0) is None
  for names, changes in (
    (("list:x", "train"), {}),
    (("digits", "list:x"), {}),
    (("folder:x", "train"), {"place": "host"}),
    (("folder:x", "train"), {"resize": "crop"}),
  ):
    assert reader(*names, **changes) is not None
    with pytest.raises(
      ValueError, match="data.image_size is 0; .* such as 256"
    ):
      reader(*names, **changes, image_size=0)


def test_unknown_choices():
  with pytest.raises(
    ValueError, match="data.storage is 'disk'; .* device, host"
  ):
    reader("digits", place="disk")
  with pytest.raises(
    ValueError, match="data.resize is 'pad'; .* stretch, crop"
  ):
    reader("digits", resize="pad")


def test_puts_images_in_their_place():
  mesh = toys.one_device()
  lazy = host_images.ArrayImages(PIXELS)
  for given in (PIXELS, lazy):
    on_device = storage.put(given, "device", mesh)
    np.testing.assert_array_equal(on_device, PIXELS)
    assert on_device.dtype == jnp.uint8 and len(on_device.devices()) == 1
    on_host = storage.put(given, "host", mesh)
    assert isinstance(on_host, host_images.HostImages)
    np.testing.assert_array_equal(np.asarray(on_host), PIXELS)
  assert storage.put(lazy, "host", mesh) is lazy


def test_tells_the_bytes():
  text = storage.describe({"training": PIXELS, "test": PIXELS[:2]})
  assert "training images                5 of 6 x 6 x 3" in text
  assert "together               756 bytes on each device" in text
  huge = host_images.ArrayImages(PIXELS)
  huge.shape = (205_670, 256, 256, 3)
  text = storage.describe({"training": huge})
  assert "205,670 of 256 x 256 x 3" in text
  assert "40.4 GB on the host" in text


# -- A whole run on a tree of JPEG files.

TRAIN, TEST = (16, 12, 9, 6), 5


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
  """`train/` and `test/` folders of pictures of several shapes, and lists."""
  root = tmp_path_factory.mktemp("tree") / "pictures"
  rng = np.random.default_rng(0)
  lines = {"train": [], "test": [], "unlabeled": []}
  for part, counts in (("train", TRAIN), ("test", (TEST,) * 4)):
    for label, count in enumerate(counts):
      for i in range(count):
        pixels = toys.pictures([label], seed=int(rng.integers(1 << 30)), size=8)
        high, wide = rng.integers(8, 14, 2)
        path = root / part / f"n0{label}" / f"n0{label}_{i}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0, ..., 0]).resize((wide, high)).convert(
          "RGB"
        ).save(path, quality=95)
        labeled = part == "test" or i < count // 2
        name = part if labeled else "unlabeled"
        lines[name].append(f"{path.relative_to(root)} {label}\n")
  (root.parent / "lists").mkdir()
  for name, content in lines.items():
    (root.parent / "lists" / f"{name}.txt").write_text("".join(content))
  return root


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
  """The network of the toys, on the mean of the colours."""
  toy = toys.model()

  def apply(params, stats, images, train):
    grey = jnp.mean(images, -1, keepdims=True)
    return toy.apply(params, stats, grey, train)

  network = toy._replace(apply=apply, image_shape=(4, 4, 3))
  monkeypatch.setattr(models, "create", lambda *args, **settings: network)


def config(tree, **changes):
  result = configs.default()
  data = result.data
  data.source = f"folder:{tree}"
  data.labeled.profile = "lomax"
  data.labeled.max_count = 8
  data.labeled.scale = 4.0
  data.unlabeled.factor = 1.0
  data.image_size, data.crop_size, data.resize = SIDE, 4, "crop"
  data.augment = "random_resized_crop"
  data.storage = "host"
  data.group_counts = (6, 1)
  result.method = "supervised"
  result.embedding.update(epochs=2, batch_size=4, learning_rate=0.05)
  result.update_from_flattened_dict(changes)
  return result


def run(folder, the_config):
  summary = train.train(the_config, str(folder), echo=lambda text: None)
  rows = []
  for line in (folder / "metrics.jsonl").read_text().splitlines():
    row = json.loads(line)
    row.pop("images_per_second", None)
    rows.append(row)
  return summary, rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The folder of a run on the host; the first test that asks runs it."""
  return tmp_path_factory.mktemp("whole")


def baseline(whole, tree):
  return run(whole, config(tree))  # A finished run only tells its results.


def test_the_host_the_device_and_the_cache_give_the_same_numbers(
  whole, tree, tmp_path
):
  _, rows = baseline(whole, tree)
  _, on_device = run(
    tmp_path / "device", config(tree, **{"data.storage": "device"})
  )
  assert on_device == rows
  cache = {"data.cache": str(tmp_path / "cache")}
  assert run(tmp_path / "filling", config(tree, **cache))[1] == rows
  assert len(list((tmp_path / "cache").iterdir())) == 4  # train and test


def test_a_broken_picture_stops_the_run_and_costs_nothing(
  whole, tree, tmp_path, monkeypatch
):
  _, rows = baseline(whole, tree)
  real, broken = image_files.images.decode, []

  def decode(file, **settings):
    if broken and file.name == broken[0]:
      raise ValueError(f"{file}: not a whole image.")
    return real(file, **settings)

  monkeypatch.setattr(image_files.images, "decode", decode)
  # The moments of the images are taken first; then a batch comes upon it.
  start = train.methods.stages

  def stages(*args):
    broken.append("n00_3.JPEG")
    return start(*args)

  with monkeypatch.context() as patch:
    patch.setattr(train.methods, "stages", stages)
    with pytest.raises(host_images.BrokenImageError, match="n00_3.JPEG: not a"):
      run(tmp_path / "run", config(tree))
  broken.clear()
  assert run(tmp_path / "run", config(tree))[1] == rows


def test_pictures_are_classified_as_in_the_run(whole, tree):
  """From its file, cropped as the run cropped: the summary's confusion."""
  summary, _ = baseline(whole, tree)
  model = trained.load(whole)
  assert model.image_shape == (4, 4, 3)
  assert model.picture_shape == (SIDE, SIDE, 3) and model.resize == "crop"
  files = sorted((tree / "test").rglob("*.JPEG"))
  confusion = np.zeros((4, 4), int)
  for record in predict.predict(model, files):
    confusion[int(record["image"].split("/n0")[1][0]), record["label"]] += 1
  evaluations = [e for e in summary["evaluations"] if e["split"] == "test"]
  assert confusion.tolist() == evaluations[-1]["confusion"]


@pytest.mark.parametrize(
  "changes, error",
  [
    ({"size": [3, 3]}, "hold no input"),
    ({"size": [6.5, 6]}, "hold no input"),
    ({"size": [6]}, "hold no input"),
    ({"resize": "pad"}, "pictures have resize 'pad'"),
  ],
)
def test_a_wrong_description_of_pictures(changes, error, whole, tree, tmp_path):
  baseline(whole, tree)
  folder = tmp_path / "copy"
  shutil.copytree(whole, folder)
  description = json.loads((folder / "model.json").read_text())
  description["pictures"].update(changes)
  (folder / "model.json").write_text(json.dumps(description))
  with pytest.raises(ValueError, match=error):
    trained.load(folder)


def test_lists_name_the_sets(tree, tmp_path):
  folder = tree.parent / "lists"
  _, rows = run(
    tmp_path / "run",
    config(
      tree,
      **{
        "data.source": f"list:{folder}",
        "data.root": str(tree),
        "data.labeled.profile": "natural",
        "data.unlabeled.source": f"list:{folder / 'unlabeled.txt'}",
        "data.unlabeled.profile": "natural",
      },
    ),
  )
  split = json.loads((tmp_path / "run" / "split.json").read_text())
  assert split["labeled_counts"] == [8, 6, 4, 3]
  assert split["unlabeled_counts"] == [8, 6, 5, 3]
  assert [row["accuracy/few"] for row in rows if row["kind"] == "eval"]


def test_a_missing_picture_is_told_before_anything_runs(tree, tmp_path):
  shutil.copytree(tree.parent / "lists", tmp_path / "lists")
  with open(tmp_path / "lists" / "unlabeled.txt", "a") as out:
    out.write("train/n00/gone.JPEG 0\n")
  changes = {
    "data.source": f"list:{tmp_path / 'lists'}",
    "data.root": str(tree),
    "data.labeled.profile": "natural",
    "data.unlabeled.source": f"list:{tmp_path / 'lists' / 'unlabeled.txt'}",
    "data.unlabeled.profile": "natural",
  }
  with pytest.raises(FileNotFoundError, match="1 of 23 pictures are missing"):
    run(tmp_path / "run", config(tree, **changes))
  assert not (tmp_path / "run" / "config.json").exists()


def test_a_dry_run_tells_the_memory(tree, capsys):
  dry_run.show(config(tree))
  out = capsys.readouterr().out
  assert "on the host, decoded" in out and "of 6 x 6 x 3" in out
  dry_run.show(config(tree, **{"data.storage": "device"}))
  assert "on each device" in capsys.readouterr().out


@pytest.mark.parametrize(
  "changes, error",
  [
    ({"data.crop_size": 7}, "data.crop_size is 7; it must be 1 to 6"),
    ({"data.augment": "autoaugment"}, "data.augment is 'autoaugment'"),
    ({"data.storage": "cloud"}, "data.storage is 'cloud'"),
    ({"data.resize": "pad"}, "data.resize is 'pad'"),
    ({"data.image_size": 0}, "data.image_size is 0"),
    ({"data.group_counts": (5,)}, "data.group_counts is"),
    ({"data.source": "list:nowhere"}, "no such list file"),
    ({"data.unlabeled.source": "list:nowhere"}, "no such list file"),
    ({"data.unlabeled.source": "folder:nowhere"}, "no such folder"),
  ],
)
def test_bad_settings(changes, error, tree, tmp_path):
  with pytest.raises((ValueError, FileNotFoundError), match=error):
    run(tmp_path, config(tree, **changes))

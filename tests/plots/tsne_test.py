import functools

import finished
import numpy as np
from PIL import Image
import pytest

from ltjax.plots import embeddings as maps
from ltjax.plots import tsne
from ltjax.runs import finished as reopened


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  finished.one_device(monkeypatch)


@pytest.fixture
def run(tmp_path):
  return finished.copy(tmp_path)


_reopen = functools.cache(reopened.reopen)


@pytest.fixture
def once(monkeypatch):
  """Opens the run, whatever copy of it, once for all tests."""
  monkeypatch.setattr(
    reopened, "reopen", lambda workdir, data_dir=None: _reopen(finished.run())
  )


@pytest.fixture
def quick(monkeypatch):
  """A projection of no time: the first two features."""
  calls = []

  def embed(features, **options):
    calls.append((features, options))
    return features[:, :2]

  monkeypatch.setattr(tsne, "embed", embed)
  return calls


class TestEmbed:
  def test_groups_stay_together(self):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    features = 50 * np.eye(3, 8)[labels] + rng.standard_normal((60, 8))
    points = tsne.embed(features, perplexity=5.0)
    assert points.shape == (60, 2) and np.isfinite(points).all()
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert np.all(labels[apart.argmin(axis=1)] == labels)

  def test_same_seed_same_map(self):
    features = np.random.default_rng(0).standard_normal((40, 4))
    one, same = (tsne.embed(features, perplexity=5.0, seed=3) for _ in "ab")
    np.testing.assert_array_equal(one, same)

  @pytest.mark.parametrize("num", [30, 4])
  def test_too_few_images(self, num):
    with pytest.raises(ValueError, match=f"{num} images are too few .* 30,"):
      tsne.embed(np.zeros((num, 4)))

  def test_one_more_than_the_perplexity_is_enough(self):
    features = np.random.default_rng(0).standard_normal((11, 4))
    assert tsne.embed(features, perplexity=10.0).shape == (11, 2)

  @pytest.mark.parametrize("perplexity", [0.0, -1.0])
  def test_perplexity_that_is_none(self, perplexity):
    with pytest.raises(ValueError, match="must be above 0"):
      tsne.embed(np.zeros((50, 4)), perplexity=perplexity)


@pytest.mark.usefixtures("once")
class TestProject:
  def test_is_of_the_run(self, quick):
    before = finished.contents(finished.run())
    found = tsne.project(finished.run(), images=35, perplexity=7.0, seed=2)
    assert finished.contents(finished.run()) == before
    task = reopened.reopen(finished.run()).task
    assert found.class_names == task.class_names
    assert found.groups == task.groups
    counts = [task.split.labeled_counts[c] for c in found.order]
    assert counts == sorted(counts, reverse=True)
    assert found.title == finished.run().name
    for name, labels in (("train", task.labels), ("test", task.test_labels)):
      index = maps.choose(np.asarray(labels), 35, seed=2)
      assert len(index) == 35
      np.testing.assert_array_equal(
        found.labels[name], np.asarray(labels)[index]
      )
      assert found.points[name].shape == (35, 2)
    assert quick[0][1] == {"perplexity": 7.0, "seed": 2}

  def test_features_are_those_of_the_network(self, quick):
    found = tsne.project(finished.run(), images=20)
    run = reopened.reopen(finished.run())
    index = maps.choose(run.task.test_labels, 20, seed=0)
    images = run.trained.transform(run.task.test_images[index])
    parameters = {
      name: run.trained.variables[name] for name in ("backbone", "head")
    }
    features, _, _ = run.trained.model.apply(
      parameters, run.trained.variables["batch_stats"], images, False
    )
    # One projection for both sets: the training images, then the test images.
    assert quick[0][0].shape == (40, features.shape[1])
    np.testing.assert_allclose(quick[0][0][20:], features, atol=1e-4)
    np.testing.assert_allclose(found.points["test"], features[:, :2], atol=1e-4)

  def test_chosen_classes_only_numbered_anew(self, quick):
    task = reopened.reopen(finished.run()).task
    rare, head = task.groups["few"][0], task.groups["many"][0]
    found = tsne.project(finished.run(), classes=(rare, head), images=9)
    names = (task.class_names[rare], task.class_names[head])
    assert found.class_names == names and found.order == (1, 0)
    assert found.groups == {"many": (1,), "medium": (), "few": (0,)}
    for name, every in (("train", task.labels), ("test", task.test_labels)):
      assert set(found.labels[name]) == {0, 1}
      among = np.flatnonzero(np.isin(every, [rare, head]))
      index = among[maps.choose(np.asarray(every)[among] == head, 9, seed=0)]
      np.testing.assert_array_equal(
        np.array([rare, head])[found.labels[name]], np.asarray(every)[index]
      )

  def test_the_features_of_chosen_classes_are_of_their_images(self, quick):
    """All images, so that nothing depends on the draw."""
    tsne.project(finished.run(), classes=(3,), images=10**6)
    some = quick[0][0]
    tsne.project(finished.run(), images=10**6)
    task = reopened.reopen(finished.run()).task
    labels = np.concatenate([task.labels, task.test_labels])
    np.testing.assert_allclose(some, quick[1][0][labels == 3], atol=1e-4)

  def test_a_title(self, quick):
    assert tsne.project(finished.run(), title="CE", images=10).title == "CE"


class TestMain:
  def test_one_run(self, run, once, capsys):
    assert tsne.main([str(run), "--images=40", "--perplexity=5"]) == 0
    path = run / "plots" / "tsne.png"
    assert capsys.readouterr().out == f"{path}\n"
    with Image.open(path) as picture:
      assert picture.width > picture.height > 300

  def test_several_runs(self, run, once, quick, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(maps, "draw", lambda *both: drawn.append(both))
    arguments = [str(run), str(run), "--titles=CE,SSL", "--images=10"]
    assert tsne.main([*arguments, "--seed=4"]) == 0
    ((found, path),) = drawn
    assert [m.title for m in found] == ["CE", "SSL"]
    assert path == run / "plots" / "tsne_runs.png"
    assert [options["seed"] for _, options in quick] == [4, 4]

  def test_five_classes_are_drawn(self, run, once, quick, monkeypatch):
    drawn = []
    monkeypatch.setattr(maps, "draw", lambda found, path: drawn.append(found))
    assert tsne.main([str(run), "--classes=0,2,4,6,8", "--images=10"]) == 0
    task = reopened.reopen(finished.run()).task
    assert drawn[0][0].class_names == tuple(task.class_names[0:10:2])

  def test_classes_are_numbers(self, run, capsys):
    with pytest.raises(SystemExit):
      tsne.main([str(run), "--classes=cat"])
    assert "argument --classes: invalid" in capsys.readouterr().err

  def test_a_file_of_choice(self, run, once, quick, tmp_path):
    path = tmp_path / "new" / "map.png"
    assert tsne.main([str(run), "--images=10", f"--out={path}"]) == 0
    assert path.exists() and not (run / "plots" / "tsne.png").exists()

  @pytest.mark.parametrize(
    ("arguments", "message"),
    [
      (["--perplexity=90", "--images=40"], "80 images are too few for t-SNE"),
      (["--perplexity=0"], "--perplexity is 0.0; it must be above 0."),
      (["--images=9"], "--images is 9; the 10 classes need one image each"),
      (["--classes=3,10"], "--classes has 10; there are 10 classes, 0 to 9."),
      (["--classes=3,3"], "--classes has 3 twice; name each class once."),
      (["--titles=CE,SSL"], "--titles has 2 titles for 1 runs; give one each."),
    ],
  )
  def test_errors_are_one_line(self, run, once, capsys, arguments, message):
    assert tsne.main([str(run), *arguments]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {message}") and err.count("\n") == 1
    assert not (run / "plots" / "tsne.png").exists()

  def test_data_elsewhere(self, run, quick, monkeypatch):
    asked = []
    reopen = reopened.reopen

    def keep(workdir, data_dir=None):
      asked.append((workdir, data_dir))
      return reopen(workdir, data_dir)

    monkeypatch.setattr(reopened, "reopen", keep)
    assert tsne.main([str(run), "--images=10", "--data_dir=there"]) == 0
    assert asked == [(str(run), "there")]

  def test_unfinished_run(self, run, capsys):
    (run / "summary.json").unlink()
    assert tsne.main([str(run)]) == 1
    assert "is not finished" in capsys.readouterr().err

  def test_no_run(self, tmp_path, capsys):
    assert tsne.main([str(tmp_path / "gone")]) == 1
    assert "does not exist" in capsys.readouterr().err

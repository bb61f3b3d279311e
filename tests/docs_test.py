"""The documents are true: links lead on, settings exist, examples run."""

import doctest
import pathlib
import re

import ml_collections
import numpy as np
import pytest
import toys

from ltjax import config as configs
from ltjax import dry_run, methods, train
from ltjax.config import check as config_check
from ltjax.losses import settings as loss_settings

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
IDS = [page.name for page in PAGES]


def code(page: pathlib.Path, language: str = "python") -> list[str]:
  """Returns the fenced blocks of a language."""
  return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def field(config: ml_collections.ConfigDict, name: str):
  for part in name.split("."):
    config = config[part]
  return config


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_to_files(page):
  links = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text())
  missing = [link for link in links if not (page.parent / link).exists()]
  assert not missing


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_config_files_exist(page):
  names = re.findall(r"configs/\w+\.py", page.read_text())
  missing = [n for n in names if not (ROOT / n).exists()]
  assert set(missing) <= {"configs/yours.py"}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_settings_exist(page):
  names = re.findall(r"config\.((?:[a-z_]+\.)*[a-z_]+)\b", page.read_text())
  names = [n for n in names if not n.endswith(("json", ".py", "py"))]
  for name in names:
    field(configs.default(), name)


def test_settings_are_checked_at_all():
  text = "".join(page.read_text() for page in PAGES)
  assert len(re.findall(r"--config\.[a-z_.]+=", text)) > 5
  with pytest.raises(KeyError):
    field(configs.default(), "data.lebeled")


def test_the_modules_of_the_commands_exist():
  text = "".join(page.read_text() for page in PAGES)
  names = set(re.findall(r"-m ((?:ltjax|benchmarks|experiments)[\w.]*)", text))
  assert "ltjax.main" in names
  for name in names:
    place = ROOT / name.replace(".", "/")
    assert (
      place.with_suffix(".py").exists() or (place / "__main__.py").exists()
    ), name


def test_readme_has_one_command_to_run_and_one_to_test():
  text = (ROOT / "README.md").read_text()
  for name in ("run", "test"):
    found = re.findall(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.S)
    (block,) = found
    (lines,) = re.findall(r"```bash\n(.*?)```", block, re.S)
    assert lines.startswith("python3 -m venv .venv && .venv/bin/pip install")
    assert len(lines.splitlines()) == 1


def test_readme_lists_every_file_of_the_package():
  layout = (ROOT / "README.md").read_text().partition("## Layout")[2]
  layout = layout.partition("## Extend")[0]
  files = {path.name for path in (ROOT / "ltjax").glob("[a-z]*.py")}
  assert files == set(re.findall(r"\b\w+\.py\b", layout))
  folders = {p.parent.name for p in (ROOT / "ltjax").glob("*/__init__.py")}
  assert folders <= set(re.findall(r"(\w+)/", layout))


def test_readme_sessions_print_what_they_say():
  page = ROOT / "README.md"
  sessions = [block for block in code(page) if block.startswith(">>>")]
  assert sessions
  parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
  for session in sessions:
    test = parser.get_doctest(session, {}, page.name, str(page), 0)
    assert runner.run(test).failed == 0


def test_readme_config_for_own_data_is_accepted():
  (block,) = [b for b in code(ROOT / "README.md") if "def get_config" in b]
  names = {}
  exec(block, names)
  config_check.check(names["get_config"]())


def test_own_data_walkthrough(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  make, config = code(ROOT / "docs" / "data.md")
  exec(make, {})
  names = {}
  exec(config, names)
  config = names["get_config"]()
  config.data.image_size = 8
  lines = []
  dry_run.show(config, echo=lines.append)
  assert "total            223                       404" in "\n".join(lines)
  # The pictures that the page shows are there.
  assert (tmp_path / "photos/train/0/0.png").exists()
  assert (tmp_path / "photos/test/0/1388.png").exists()
  assert (tmp_path / "more_photos/1000.png").exists()


def test_worked_example_of_a_method(tmp_path, monkeypatch):
  names = toys.example()
  monkeypatch.setitem(methods.METHODS, "smoothing", names["METHOD"])
  # Equal counts leave no doubt: plain cross-entropy.
  logits = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], np.float32)
  labels = np.array([0, 2])
  plain = -logits[[0, 1], labels] + np.log(np.exp(logits).sum(-1))
  jnp = names["jnp"]
  loss = names["Smoothing"](loss_settings.Settings(), 1.0, 3)
  arguments = jnp.asarray(logits), jnp.asarray(labels)
  found = loss.losses(*arguments, counts=jnp.array([7.0, 7.0, 7.0]))
  np.testing.assert_allclose(found, plain, rtol=1e-5)
  # The largest class is doubted by a fifth, the smallest not at all.
  found = loss.losses(*arguments, counts=jnp.array([9.0, 5.0, 1.0]))
  uniform = -logits.mean(-1) + np.log(np.exp(logits).sum(-1))
  expected = 0.8 * plain[0] + 0.2 * uniform[0], plain[1]
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  config = names["get_config"]()
  config_check.check(config)
  config.embedding.epochs = 1
  summary = train.train(config, str(tmp_path / "run"), echo=lambda line: None)
  assert summary["result"]["last"]["model"] == "LAS"
  assert summary["method"] == "smoothing"


def table(title: str) -> list[list[str]]:
  """Returns the rows of the table under a title of paper_and_code.md."""
  text = (ROOT / "docs" / "paper_and_code.md").read_text()
  text = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
  rows = [line for line in text.splitlines() if line.startswith("|")]
  return [[c.strip() for c in row.strip("|").split("|")] for row in rows[2:]]


@pytest.mark.parametrize(
  ("row", "name", "paper", "author"),
  [
    ("classifier, initialization", "classifier.epochs", 10, 20),
    ("Stage 2 length", "consistency.epochs", 40, 50),
    ("Stage 2 optimizer", "consistency.learning_rate", 0.1, 0.01),
    ("Stage 2 optimizer", "consistency.schedule", "cosine", "step"),
    ("Stage 2 optimizer", "consistency.milestones", (), (0.8,)),
    ("Stage 2 optimizer", "consistency.nesterov", False, True),
    ("Stage 3 length", "refit.epochs", 10, 20),
    ("Stage 3 optimizer", "refit.learning_rate", 0.1, 0.001),
    ("Stage 3 optimizer", "refit.schedule", "cosine", "constant"),
    ("heads", "shared_head", False, True),
    ("consistency loss", "consistency.weight", 1.0, 1.0),
    ("memory between loops", "consistency.memory_reset", "keep", "uniform"),
    ("images at pseudo-labelling", "pseudo_label.transform", "test", "train"),
  ],
)
def test_presets_are_those_of_the_table(row, name, paper, author):
  cells = {cells[0]: cells for cells in table("Where paper and code differ")}
  last = name.rpartition(".")[2]
  assert f"`{name}`" in cells[row][5] or f"`.{last}`" in cells[row][5]
  assert field(configs.default("paper"), name) == paper
  assert field(configs.default("author_code"), name) == author

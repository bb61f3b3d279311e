"""Every public function and class says what it is, and names its arguments."""

import ast
import pathlib
import re

import pytest

import ltjax

PACKAGE = pathlib.Path(ltjax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def public(tree: ast.AST, prefix: str = ""):
  """Yields (qualified name, node) of all public functions and classes."""
  for node in ast.iter_child_nodes(tree):
    if not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
      continue
    if node.name.startswith("_"):
      continue
    yield prefix + node.name, node
    if isinstance(node, ast.ClassDef):
      yield from public(node, f"{prefix}{node.name}.")


def arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
  """Returns the names of a signature, without self and cls."""
  spec = node.args
  names = [a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
  names += [a.arg for a in (spec.vararg, spec.kwarg) if a]
  return {n for n in names if n not in ("self", "cls")}


def section(docstring: str, title: str) -> list[str] | None:
  """Returns the names that a section of a docstring explains."""
  lines = docstring.splitlines()
  if f"{title}:" not in lines:
    return None
  names, indent = [], None
  for line in lines[lines.index(f"{title}:") + 1 :]:
    if line and not line.startswith(" "):
      break
    if not line.strip():
      continue
    width = len(line) - len(line.lstrip())
    indent = width if indent is None else indent
    if width == indent:
      found = re.match(r"\s*([*\w,\s]+?)(\s*\(.*?\))?:", line)
      names += found.group(1).replace("*", "").split(", ") if found else [line]
  return names


def problems(path: pathlib.Path) -> list[str]:
  """Returns what is wrong with the docstrings of a file."""
  wrong = []
  tree = ast.parse(path.read_text())
  if not ast.get_docstring(tree) and tree.body:
    wrong.append("module: no docstring")
  for name, node in public(tree):
    docstring = ast.get_docstring(node)
    if not docstring:
      wrong.append(f"{name}: no docstring")
      continue
    documented = section(docstring, "Args")
    init = node
    if isinstance(node, ast.ClassDef):
      inits = [
        n
        for n in node.body
        if isinstance(n, ast.FunctionDef) and n.name == "__init__"
      ]
      if not inits:
        continue
      init = inits[0]
    if documented is None:
      # A short docstring may say in its sentence what one or two are.
      if len(arguments(init)) > 2:
        wrong.append(f"{name}: no Args for {sorted(arguments(init))}")
    elif set(documented) != arguments(init):
      wrong.append(
        f"{name}: Args names {sorted(documented)}, the signature"
        f" {sorted(arguments(init))}"
      )
  return wrong


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_docstrings(path):
  assert problems(path) == []


@pytest.mark.parametrize(
  ("source", "problem"),
  [
    ("x = 1", "module: no docstring"),
    ('"""M."""\ndef f():\n  pass', "f: no docstring"),
    ('"""M."""\nclass A:\n  pass', "A: no docstring"),
    ('"""M."""\nclass A:\n  """A."""\n  def f(self):\n    pass', "A.f: no"),
    ('"""M."""\ndef f(a, *, b, **c):\n  """F."""', "f: no Args for ['a', 'b'"),
    (
      '"""M."""\ndef f(a, b):\n  """F.\n\n  Args:\n    a: one.\n  """',
      "f: Args names ['a'], the signature ['a', 'b']",
    ),
    (
      '"""M."""\nclass A:\n  """A.\n\n  Args:\n    b: one.\n  """\n'
      "  def __init__(self, a):\n    pass",
      "A: Args names ['b'], the signature ['a']",
    ),
  ],
)
def test_what_counts_as_wrong(tmp_path, source, problem):
  path = tmp_path / "module.py"
  path.write_text(source)
  (found,) = problems(path)
  assert found.startswith(problem)


def test_what_counts_as_right(tmp_path):
  path = tmp_path / "module.py"
  path.write_text(
    '"""M."""\n'
    "def f(a, b, *, c, **rest):\n"
    '  """F.\n\n  Args:\n    a, b (int): two\n      lines: here.\n'
    "    c: one.\n    **rest: others.\n\n  Returns:\n    d: none.\n"
    '  """\n'
    "def _g(a, b, c):\n  pass\n"
  )
  assert problems(path) == []

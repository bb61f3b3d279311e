"""The examples in the docstrings of losses and schedules run as written."""

import doctest
import importlib
import inspect
import pkgutil
import re

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses
from ltjax.optim import schedules

MODULES = [schedules] + [
  importlib.import_module(found.name)
  for found in pkgutil.iter_modules(losses.__path__, "ltjax.losses.")
]
# Functions of arrays, and makers of such.
FUNCTIONS = {
  f"{module.__name__.split('.')[-1]}.{name}": (module, function)
  for module in MODULES
  for name, function in inspect.getmembers(module, inspect.isfunction)
  if function.__module__ == module.__name__
  and (name == "make" or function.__annotations__["return"] == "jax.Array")
  and not name.startswith("_")
}


class Numbers(doctest.OutputChecker):
  """Compares numbers to the digits that are written, two at least."""

  def check_output(self, want, got, optionflags):
    number = re.compile(r"-?\d+\.\d*")
    digits = max([2, *(len(n.split(".")[1]) for n in number.findall(want))])
    one, other = (re.sub(r"\s", "", number.sub("#", x)) for x in (want, got))
    values = [np.array(number.findall(x), float) for x in (want, got)]
    return one == other and np.allclose(*values, rtol=0, atol=0.6 / 10**digits)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_examples(name):
  module, function = FUNCTIONS[name]
  scope = {"jnp": jnp, name.split(".")[0]: module}
  (found,) = doctest.DocTestFinder(recurse=False).find(function, globs=scope)
  assert found.examples and found.examples[-1].want
  said = []
  runner = doctest.DocTestRunner(Numbers(), verbose=False)
  assert not runner.run(found, out=said.append).failed, "".join(said)


def test_a_wrong_digit_is_seen():
  same = Numbers().check_output
  assert same("Array([0.13, 2.  ])", "Array([0.1269, 2.0001])", 0)
  assert not same("Array([0.13])", "Array([0.14])", 0)
  assert not same("Array([2.])", "Array([2.01])", 0)
  assert not same("Array([2.])", "Array([2., 2.])", 0)

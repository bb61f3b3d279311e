"""Methods and their settings: `python -m ltjax.config [METHOD]`.

Without a method, the table of all; with one, what it reads: each setting with
its default, its range, what it needs and a line of help, and its rows.
"""

import argparse
import sys

from ltjax.methods import registry


def main(argv: list[str] | None = None) -> int:
  """Prints what the command line asks for; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ltjax.config", description="Methods and their settings."
  )
  parser.add_argument("method", nargs="?", help="one of them; else all")
  chosen = parser.parse_args(argv).method
  try:
    print(registry.help_of(chosen) if chosen else registry.table())
  except ValueError as error:
    print(error, file=sys.stderr)
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(main())

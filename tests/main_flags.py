"""The flags of `ltjax.main`, for tests that call it without a command line."""

import types

from absl import flags

from ltjax import main

USUAL = {
  "config": None,
  "workdir": "x",
  "data_dir": None,
  "dry_run": False,
  "check": False,
  "seeds_at_once": 0,
  "compilation_cache": "off",
  "distributed": False,
  "coordinator": None,
  "processes": None,
  "process_id": None,
  "peer_timeout": 100,
}


def put(monkeypatch, **values):
  """Sets all flags: those named, and the others as usual."""
  assert not values.keys() - USUAL.keys()
  for name, value in (USUAL | values).items():
    flag = types.SimpleNamespace(value=value)
    monkeypatch.setattr(main, f"_{name.upper()}", flag)
  monkeypatch.setattr(flags.FLAGS["config"], "present", 1)
  monkeypatch.setattr(main.logging, "set_verbosity", lambda level: None)

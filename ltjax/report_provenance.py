"""The section of a report on how to run it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
import pathlib
import shlex
from typing import Any


def reproduce(summary: Mapping[str, Any], workdir: pathlib.Path) -> list[str]:
  """The command, the split, the config and the environment."""
  parts = ["## Reproduce\n"]
  environment = _last_session(workdir / "environment.json")
  command = environment.pop("command", None)
  if command:
    parts.append(f"```sh\n{_shell(command)}\n```\n")
  if "split_hash" in summary:
    parts.append(
      f"`split.json` lists every image used; its hash is "
      f"`{summary['split_hash']}`.\n"
    )
  parts.append(_block("Config", summary["config"]))
  if environment:
    parts.append(_block("Environment", environment))
  return parts


def _last_session(path: pathlib.Path) -> dict[str, Any]:
  """Where the run ended: a resumed run has a session for each start."""
  if not path.exists():
    return {}
  sessions = json.loads(path.read_text(encoding="utf-8")).get("sessions", [])
  return dict(sessions[-1]) if sessions else {}


def _shell(command: Sequence[str]) -> str:
  """An argument vector as one types it, `python -m` instead of a path."""
  script, *arguments = command
  path = pathlib.PurePath(script)
  if path.suffix == ".py" and path.parent.name == "ltjax":
    return shlex.join(["python", "-m", f"ltjax.{path.stem}", *arguments])
  return shlex.join(["python", script, *arguments])


def _block(title: str, value: Any) -> str:
  return f"{title}:\n\n```json\n{json.dumps(value, indent=2)}\n```\n"

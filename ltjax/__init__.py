"""Semi-supervised long-tailed image recognition in JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from ltjax.api import Trained, fit, load

__version__ = "0.1.0"
__all__ = ["Trained", "fit", "load"]


def __getattr__(name: str) -> Any:
  """Imports the API when it is asked for: `import ltjax` stays light."""
  if name in __all__:
    from ltjax import api

    return getattr(api, name)
  raise AttributeError(f"module 'ltjax' has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])

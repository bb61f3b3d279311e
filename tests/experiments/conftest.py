"""`experiments` lies beside the package, in the root of the repository."""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[2]))

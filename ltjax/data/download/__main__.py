"""Puts a set into the data folder: `python -m ltjax.data.download NAME`."""

import sys

from ltjax.data.download import prepare

sys.exit(prepare.main())

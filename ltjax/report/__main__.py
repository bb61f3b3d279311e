"""Reports of runs: `python -m ltjax.report FOLDER...`."""

import sys

from ltjax.report import page

sys.exit(page.main())

"""`python -m pipelines` runs the `scriptorium` command."""

import sys

from pipelines.cli import main

sys.exit(main())

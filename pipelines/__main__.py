"""`python -m pipelines` is the `scriptorium` command."""

import sys

from pipelines.cli import main

sys.exit(main())

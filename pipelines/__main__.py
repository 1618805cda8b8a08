"""`python -m pipelines` runs the `scriptorium` command."""

import os
import sys

# The working directory must be off the path before anything is imported, even `actors.process.import_path`,
# which explains why. This package itself may be in it.
if os.path.realpath(os.curdir) != os.path.dirname(os.path.dirname(os.path.realpath(__file__))):
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != os.path.realpath(os.curdir)]

from pipelines.cli import main

if __name__ == "__main__":
    sys.exit(main())

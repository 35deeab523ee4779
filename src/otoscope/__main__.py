"""`python -m otoscope`, the command line."""

import sys

from otoscope.cli import main

if __name__ == "__main__":
    sys.exit(main())

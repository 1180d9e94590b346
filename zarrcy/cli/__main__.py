"""``python -m zarrcy.cli``: the command line."""

import sys

from zarrcy.cli import main

if __name__ == "__main__":
    sys.exit(main())

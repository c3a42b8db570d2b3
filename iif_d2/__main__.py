"""python -m iif_d2 <command>; each command has --help."""

import sys

from .commands import main

if __name__ == "__main__":
    sys.exit(main())

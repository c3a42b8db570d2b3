"""python -m iif_d2 <command>; each command has --help."""

import sys

from .commands import main
from .quiet import quieten

if __name__ == "__main__":
    quieten()
    sys.exit(main())

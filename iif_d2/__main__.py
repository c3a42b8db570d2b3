"""python -m iif_d2 <command>, which is also installed as iif-d2; each command has --help."""

import sys

from .commands import main
from .quiet import quieten


def run() -> None:
    """The program: one command, and its exit code."""
    quieten()
    sys.exit(main())


if __name__ == "__main__":
    run()

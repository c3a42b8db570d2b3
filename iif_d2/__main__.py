"""python -m iif_d2 <command>, which is also installed as iif-d2; each command has --help."""

import sys

from .commands import main
from .quiet import quieten

if __name__ == "__main__":
    quieten()
    sys.exit(main())

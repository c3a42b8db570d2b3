"""python -m tests.faults [MODULE...]: break things in every module, or in these; print figures."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from importlib.util import find_spec

MODULES = ("kill_resume", "storage", "numbers", "processes", "soak", "bad_input")


def main(names: list[str]) -> int:
    """Run the modules that are there; 1 if one of them failed."""
    failed = False
    for name in names or MODULES:
        if not names and find_spec(f"tests.faults.{name}") is None:
            continue
        start = time.time()
        try:
            lines = import_module(f"tests.faults.{name}").run()
        except AssertionError as error:
            lines, failed = [f"FAILED: {error}"], True
        for line in lines:
            print(f"{name}: {line}")
        print(f"{name}: {time.time() - start:.0f} s", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""python -m tests.stress [MODULE...]: break things in every module, or in these; print figures."""

from __future__ import annotations

import sys
import time
from importlib import import_module

MODULES = ("kill_resume", "storage", "numbers", "processes", "soak", "bad_input")


def main(names: list[str]) -> int:
    """Run the modules; 1 if one of them failed."""
    tried, failed, begin = 0, [], time.time()
    for name in names or MODULES:
        print(f"{name}: starts at {time.strftime('%H:%M:%S')}", flush=True)
        start = time.time()
        try:
            outcome = import_module(f"tests.stress.{name}").run()
            figures, tried = outcome.figures, tried + outcome.tried
        except AssertionError as error:
            figures = [f"FAILED: {error}"]
            failed.append(name)
        for line in figures:
            print(f"{name}: {line}")
        print(f"{name}: {time.time() - start:.0f} s", flush=True)
    lost = f"lost in {', '.join(failed)}" if failed else "lost 0"
    print(f"faults: tried {tried:,}, {lost}, in {(time.time() - begin) / 60:.0f} minutes")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

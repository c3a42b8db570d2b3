#!/usr/bin/env python3
"""Install and test the package with other Pythons and other versions of torch, a cell at a time.

python projects/compatibility/run.py                 every cell; `make matrix` is the same
python projects/compatibility/run.py py312 oldest    some; rows of earlier runs stay in the table

A cell copies the working tree into a temporary folder, replaces some pins of requirements.txt, runs
`make` there as a user would, then the tests, and is deleted: 7 GB of disk while it runs. It needs
the Pythons as python3.10 ... on the PATH (pyenv: `export PYENV_VERSION=3.10.13:3.11.7:...`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "output" / "compatibility"

# Name: Python, and the pins that take the place of those in requirements.txt. Detectron2 is always
# the registry's cp310 wheel: compiled where Python is 3.10 and torch is the wheel's own, else its
# Python alone.
_OLD = {"numpy": "numpy<2", "opencv-python-headless": "opencv-python<4.12"}
CELLS = {
    "compiled": ("3.10", {"torch": "torch==2.3.1", "torchvision": "torchvision==0.18.1", **_OLD}),
    "py310": ("3.10", {}),
    "py311": ("3.11", {}),
    "py312": ("3.12", {}),
    "py313": ("3.13", {}),
    "oldest": ("3.11", {"torch": "torch==2.3.0", "torchvision": "torchvision==0.18.0", **_OLD}),
    "newest": ("3.13", {"torch": "torch", "torchvision": "torchvision"}),
}
# What differs between versions: models, checkpoints, data, evaluation, the command line. What is
# left out is mathematics of one method each, and the classification project.
TESTS = ["tests/test_config.py", "tests/test_files.py", "tests/test_frequency.py",
         "tests/test_imports.py", "tests/test_tables.py", "tests/annotations", "tests/data",
         "tests/checkpoint", "tests/engine", "tests/evaluation", "tests/modeling",
         "tests/commands", "tests/methods/test_every_method.py",
         "tests/methods/test_iif.py"]  # fmt: skip
COLUMNS = ("cell", "Python", "torch", "torchvision", "numpy", "Detectron2", "tests", "minutes")
_PROBE = """
import json, numpy, platform, torch, torchvision
try:
    from detectron2 import _C
    kind = "compiled"
except ImportError:
    kind = "plain Python"
print(json.dumps({"Python": platform.python_version(), "torch": torch.__version__,
    "torchvision": torchvision.__version__, "numpy": numpy.__version__, "Detectron2": kind}))
"""


def main() -> int:
    """0 if every cell that was asked for passed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cells", nargs="*", help=f"of {', '.join(CELLS)}; default: all")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="pytest's arguments")
    args = parser.parse_args()
    cells = args.cells or list(CELLS)
    if unknown := set(cells) - set(CELLS):
        parser.error(f"unknown cell {unknown.pop()!r}; known: {', '.join(CELLS)}")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for name in cells:
        row = run_cell(name, args.tests)
        (OUTPUT / f"{name}.json").write_text(json.dumps(row))
        print(f"{name}: {row['tests']}; log in {OUTPUT / f'{name}.log'}", flush=True)
    rows = [json.loads(path.read_text()) for name in CELLS
            if (path := OUTPUT / f"{name}.json").is_file()]  # fmt: skip
    print(table(rows))
    return int(not all(row["passed"] for row in rows if row["cell"] in cells))


def run_cell(name: str, tests: list[str]) -> dict:
    """Install and test one cell; its row of the table."""
    python, pins = CELLS[name]
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"iif_d2-{name}-") as folder, \
            open(OUTPUT / f"{name}.log", "w") as log:  # fmt: skip
        source = Path(folder) / "source"
        copy_tree(source)
        requirements = source / "requirements.txt"
        requirements.write_text(replace_pins(requirements.read_text(), pins))

        def run(*words: str) -> int:
            environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
            return subprocess.run(words, cwd=source, env=environment, stdin=subprocess.DEVNULL,
                                  stdout=log, stderr=subprocess.STDOUT).returncode  # fmt: skip

        row = dict.fromkeys(COLUMNS, "-") | {"cell": name, "Python": python, "passed": False}
        if shutil.which(f"python{python}") is None or run(f"python{python}", "--version"):
            return row | {"tests": f"not run: no python{python} on the PATH"}
        if run("make", f"PYTHON=python{python}", ".venv/.ready"):
            return row | {"tests": "does not install"}
        venv = str(source / ".venv" / "bin" / "python")
        probe = subprocess.run([venv, "-W", "ignore", "-c", _PROBE], cwd=folder,
                               capture_output=True, text=True)  # fmt: skip
        if probe.returncode:
            log.write(probe.stderr)
            return row | {"tests": "does not import"}
        failed = run(venv, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *tests)
        log.flush()
        last = (OUTPUT / f"{name}.log").read_text().strip().splitlines()[-1]
    counts = re.findall(r"\d+ (?:passed|failed|skipped|errors?)", last)
    minutes = f"{(time.monotonic() - start) / 60:.0f}"
    return row | json.loads(probe.stdout) | {
        "tests": ", ".join(counts) or "did not end", "minutes": minutes, "passed": not failed,
    }  # fmt: skip


def copy_tree(target: Path) -> None:
    """The working tree's files that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def replace_pins(requirements: str, pins: dict[str, str]) -> str:
    """requirements.txt with every line of a package in `pins` replaced."""
    kept = [line for line in requirements.splitlines()
            if re.split(r"[=<> ;#]", line, maxsplit=1)[0] not in pins]  # fmt: skip
    return "\n".join([*kept, *pins.values(), ""])


def table(rows: list[dict]) -> str:
    """Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join(lines + [f"| {' | '.join(row[c] for c in COLUMNS)} |" for row in rows])


if __name__ == "__main__":
    sys.exit(main())

"""Install and test the package with other Pythons and other versions of torch, a cell at a time.

nox -f projects/compatibility/noxfile.py               every cell; `make matrix` is the same
nox -f projects/compatibility/noxfile.py -k py312      one; what follows -- is given to pytest

A cell copies the working tree into a temporary folder, replaces some pins of requirements.txt, runs
`make` there as a user would, then the tests, and is deleted: 7 GB of disk while it runs.
"""

import re
import shutil
import tempfile
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parents[2]
nox.options.envdir = str(ROOT / "build" / "cells")
# Python, and the pins that take the place of those in requirements.txt. Detectron2 is always the
# registry's cp310 wheel: compiled where Python is 3.10 and torch is the wheel's own, else its
# Python alone.
_OLD = ["numpy<2", "opencv-python<4.12"]
CELLS = [
    nox.param("3.10", ["torch==2.3.1", "torchvision==0.18.1", *_OLD], id="compiled"),
    nox.param("3.10", [], id="py310"),
    nox.param("3.11", [], id="py311"),
    nox.param("3.12", [], id="py312"),
    nox.param("3.13", [], id="py313"),
    nox.param("3.11", ["torch==2.3.0", "torchvision==0.18.0", *_OLD], id="oldest"),
    nox.param("3.13", ["torch", "torchvision"], id="newest"),
]
# What differs between versions: models, checkpoints, data, evaluation, the command line. What is
# left out is mathematics of one method each, and the classification project.
TESTS = """
    tests/test_config.py tests/test_frequency.py tests/test_imports.py tests/annotations
    tests/checkpoint tests/commands tests/data tests/engine tests/evaluation tests/files
    tests/modeling tests/ops tests/methods/test_every_method.py tests/methods/test_iif.py
""".split()
_PROBE = """
import numpy, platform, torch, torchvision
try:
    from detectron2 import _C
    kind = "compiled"
except ImportError:
    kind = "plain Python"
versions = (torch.__version__, torchvision.__version__, numpy.__version__, kind)
print("|", " | ".join([platform.python_version(), *versions]), "|")
"""


@nox.session(reuse_venv=False)
@nox.parametrize("python, pins", CELLS)
def cell(session: nox.Session, pins: list[str]) -> None:
    """Install by make, say the versions, and test."""
    environment = {"PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="iif_d2-") as folder:
        copy_tree(session, Path(folder))
        session.chdir(folder)
        requirements = Path("requirements.txt")
        requirements.write_text(replace_pins(requirements.read_text(), pins))
        make = ["make", f"PYTHON={Path(session.bin) / 'python'}", ".venv/.ready"]
        session.run(*make, env=environment, external=True)
        python = [".venv/bin/python", "-W", "ignore"]
        session.run(*python, "-c", _PROBE, env=environment, external=True)
        tests = ["-m", "pytest", "-q", "-n", "2", *(session.posargs or TESTS)]
        session.run(*python, *tests, env=environment, external=True)
        session.chdir(ROOT)


def copy_tree(session: nox.Session, target: Path) -> None:
    """The working tree's files that git does not ignore."""
    session.chdir(ROOT)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = session.run(*command, external=True, silent=True)
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file() or source.is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)


def replace_pins(requirements: str, pins: list[str]) -> str:
    """requirements.txt with every line of a package in `pins` replaced; OpenCV is one package."""

    def package(line: str) -> str:
        return re.split(r"[=<> ;#]", line, maxsplit=1)[0].removesuffix("-headless")

    replaced = {package(pin) for pin in pins}
    kept = [line for line in requirements.splitlines() if package(line) not in replaced]
    return "\n".join([*kept, *pins, ""])

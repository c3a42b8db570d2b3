"""The examples of docstrings run and print what they say, and each name of the API page has one."""

from __future__ import annotations

import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

import pytest

import iif_d2

ROOT = Path(__file__).parents[2]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples() -> list[doctest.DocTest]:
    """Of every docstring of the package that has `>>>`."""
    found = []
    for path in sorted((ROOT / "iif_d2").glob("**/*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = import_module(".".join(parts).removesuffix(".__init__"))
            found += [test for test in doctest.DocTestFinder().find(module) if test.examples]
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_it_runs_and_prints_what_it_says(example, given):
    example.globs = {**given, **example.globs}
    said: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.append)
    assert not failed, "".join(said)


def test_every_name_of_the_api_page_has_an_example():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = re.findall(r"^::: (\S+)", text, re.MULTILINE)
    assert set(iif_d2.__all__) < {name.rpartition(".")[2] for name in names}
    without = [name for name in names if ">>> " not in (inspect.getdoc(resolve_name(name)) or "")]
    assert not without

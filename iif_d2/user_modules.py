"""`--import MODULE`: a user's own module, which registers data, methods or other parts."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from importlib import import_module

from .errors import ConfigError


def add_import_argument(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Give the parser `--import MODULE`, kept in `imports`; returns the parser."""
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="MODULE",
        help="import this first, such as a my_data.py here that registers your data; repeatable",
    )  # fmt: skip
    return parser


def import_modules(names: Iterable[str]) -> None:
    """Import modules by name; the working directory is searched, too.

    Raises:
        ConfigError: there is no such module, or one that it imports is missing.
    """
    for name in names:
        if os.getcwd() not in sys.path:  # a console script does not look there
            sys.path.insert(0, os.getcwd())
        try:
            import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"--import {name}: {error}; give a module's name, without .py, that Python finds "
                f"from {os.getcwd()}"
            ) from error

"""`python -m iif_d2 config`: every config key, with its default and what it means."""

from __future__ import annotations

import argparse
import inspect
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config import Key


EXAMPLE = "iif-d2 config IIF"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", nargs="?", help="a method, for its keys alone; default: all keys")


def run(args: argparse.Namespace) -> str:
    """The keys of one method, or all keys."""
    return describe_keys(args.method)


def describe_keys(method: str | None = None) -> str:
    """The keys of this method, or those of the package and of every method that has options.

    Raises:
        UnknownNameError: no such method.

    Examples:
        >>> print(describe_keys("EBL"))
        EBL: CE(softmax(z + ln s), y), where s_c is class c's mean score so far; test softmax(z).
        MODEL.LONG_TAIL.EBL.MOMENTUM = 0.9
            the share of s that a batch leaves, in [0, 1); 0.9 in the paper.
    """
    from ..config import KEYS
    from ..methods import METHOD_REGISTRY, find_method

    names = [method] if method else [name for name, _ in METHOD_REGISTRY]
    parts = [] if method else ["\n".join(map(_entry, KEYS))]
    for name in names:
        entries = "\n".join(map(_entry, _keys(name))) or "no options"
        if method or entries != "no options":
            parts.append(f"{name}: {inspect.getdoc(find_method(name)).splitlines()[0]}\n{entries}")
    return "\n\n".join(parts)


def _keys(name: str) -> Iterator[Key]:
    """A method's keys: of this package's configs, or of classification's where it is for that."""
    from ..config import Key
    from ..methods import default_options, find_method, option_meanings

    method = find_method(name)
    root = "MODEL.LONG_TAIL" if method.supports_background else "METHOD"
    meanings = option_meanings(method)
    for option, default in default_options(method).items():
        yield Key(f"{root}.{name}.{option.upper()}", default, meanings[option])


def _entry(key: Key) -> str:
    indent = " " * 4
    meaning = textwrap.fill(key.meaning, 96, initial_indent=indent, subsequent_indent=indent)
    return f"{key.name} = {key.default!r}\n{meaning}"

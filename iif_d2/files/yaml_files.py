"""Config files looked at before they are loaded: those that would never end are refused."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ..errors import ConfigError

_MOST_FILES = 100  # with bases
_MOST_BYTES = 1 << 20
_MOST_NODES = 100_000


def check_yaml(path: str, defaults: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a yaml, or a `_BASE_` of it, that is a bomb, a loop or no mapping.

    A yaml of a few lines can stand for billions of values by its aliases, and a `_BASE_` can lead
    back to its file, or to as many files as 2^N. One from an address is refused: what comes from
    there is looked at by nobody, and where it is kept is up to the address.

    Args:
        defaults: the config that it is merged into; its nodes stay nodes.

    Raises:
        ConfigError: see above; it is not valid yaml; it cannot be read.
        OSError: it is not there.
    """
    _check(path, defaults, (), itertools.count(1))


def _check(
    path: str, defaults: Mapping[str, Any], seen: tuple[str, ...], files: Iterator[int]
) -> None:
    where = os.path.realpath(path)
    if where in seen:
        raise ConfigError(f"config {path} is its own _BASE_, by way of {seen[-1]}; break the loop")
    if next(files) > _MOST_FILES:
        raise ConfigError(f"config {seen[0]} stands on {_MOST_FILES} files and more; use fewer")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigError(f"config {path} is no file; check the path")
    if os.path.getsize(path) > _MOST_BYTES:
        raise ConfigError(f"config {path} has more than {_MOST_BYTES:,} bytes; that is no config")
    try:
        with open(path, encoding="utf-8") as file:
            content = parse_yaml(file.read(), f"config {path}")
    except UnicodeDecodeError as error:
        raise ConfigError(f"config {path} cannot be read: {error}; save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(
            f"config {path} cannot be read: {error.strerror}; check its permissions"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"config {path} is not valid yaml: {error}; correct it there") from None
    _check_version(path, content)
    _check_sections(path, content, defaults)
    bases = content.get("_BASE_", [])
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or not base.strip():
            raise ConfigError(f"config {path}: _BASE_ is {base!r}; name a file")
        if "://" in base:
            raise ConfigError(
                f"config {path}: _BASE_ {base} is an address; download it, look at it, and name "
                f"the file"
            )
        base = os.path.join(os.path.dirname(path), os.path.expanduser(base))
        if not os.path.isfile(base):
            raise ConfigError(f"config {path}: _BASE_ {base} is no file; correct the name")
        _check(base, defaults, (*seen, where), files)


def parse_yaml(text: str, where: str) -> dict[Any, Any]:
    """The mapping that a yaml text is, of plain values.

    Raises:
        ConfigError: a bomb, or no mapping; begins with `where`.
        yaml.YAMLError: it is not valid yaml, or names what is no plain value.
    """
    try:
        nodes = _count(yaml.compose(text, Loader=yaml.SafeLoader), {})
    except RecursionError:
        raise ConfigError(f"{where} is nested too deeply; write it flat") from None
    if nodes > _MOST_NODES:
        raise ConfigError(f"{where} stands for {nodes:,} values by its aliases; write it out")
    content = yaml.safe_load(text)
    if not isinstance(content, dict):
        raise ConfigError(f"{where} has no KEY: VALUE; see the package's configs")
    return content


def _check_version(path: str, content: Mapping[Any, Any]) -> None:
    """Detectron2 converts version 1 and fails at others with what says nothing."""
    version = content.get("VERSION", 2)
    if version not in (1, 2) or isinstance(version, (bool, float)):
        raise ConfigError(f"config {path}: VERSION is {version!r}; write 2, or 1 for an old one")


def _check_sections(
    path: str, content: Mapping[Any, Any], defaults: Mapping[str, Any], parent: str = ""
) -> None:
    for key, value in content.items():
        if not isinstance(key, str):
            raise ConfigError(
                f"config {path}: {parent}{key!r} is a {type(key).__name__}; keys are words"
            )
        node, name = defaults.get(key), f"{parent}{key}"
        if not isinstance(node, dict):
            continue
        if not isinstance(value, dict):
            raise ConfigError(
                f"config {path}: {name} is {repr(value)[:80]}, and other keys belong under it; "
                f"write one of {name}.{', '.join(list(node)[:3])}, ... or leave it out"
            )
        _check_sections(path, value, node, f"{name}.")


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Values that a node stands for, those behind aliases each time; infinite in a loop."""
    if id(node) not in known:
        known[id(node)] = _MOST_NODES + 1  # what is met again while it is counted holds itself
        children = [child for item in (node.value if isinstance(node, yaml.CollectionNode) else ())
                    for child in (item if isinstance(item, tuple) else (item,))]  # fmt: skip
        known[id(node)] = 1 + sum(_count(child, known) for child in children)
    return known[id(node)]

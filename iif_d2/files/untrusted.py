"""Checkpoints, model-zoo pickles and configs that anybody may have written.

Nothing that a file holds is run, and reading one takes no more memory than its size warrants. Time
is not bounded: a checkpoint made for it, with nested tuples as keys, keeps its reader busy.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import yaml

from ..errors import CheckpointError, ConfigError

_ZIP = b"PK\x03\x04"
_MOST_FILES = 100  # that a config stands on
_MOST_CHARACTERS = 1 << 20
_MOST_ALIASES = 100


def load_tensors(path: str, mapped: bool = False) -> Any:
    """What a file of torch's holds, on the CPU, as far as `weights_only` admits it.

    Args:
        mapped: leave the tensors in the file until they are looked at.

    Raises:
        CheckpointError: it would grow when read.
        Exception: it is damaged or holds something else; the kind depends on where reading stops.
    """
    import torch

    with open(path, "rb") as file:
        zipped = file.read(len(_ZIP)) == _ZIP
        if zipped:
            with zipfile.ZipFile(file) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > os.path.getsize(path):
                raise CheckpointError(
                    f"checkpoint {path} would grow to {size:,} bytes when read; torch compresses "
                    f"nothing, so it was not written by torch"
                )
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and zipped)


def load_plain_pickle(path: str | os.PathLike) -> Any:
    """What a pickle of numpy arrays, dicts, lists, tuples, strings and numbers holds.

    Text of Python 2 is read as latin-1, as Detectron2 does for Caffe2's files.

    Raises:
        pickle.UnpicklingError: it is damaged or holds anything else.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        return _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a damaged pickle can break the machine that reads it anywhere
        raise pickle.UnpicklingError(
            f"only whole numpy arrays and plain containers are admitted ({error!r})"
        ) from None


class _PlainUnpickler(pickle._Unpickler):
    """Calls only what `_ADMITTED` names. In C a single instruction could allocate 64 GB."""

    dispatch = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code not in b"".join((pickle.EMPTY_SET, pickle.FROZENSET, pickle.ADDITEMS,
                                 pickle.EXT1, pickle.EXT2, pickle.EXT4))
    }  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        try:
            # numpy 2 moved its insides to numpy._core
            return _ADMITTED[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, and only numpy arrays and plain containers are admitted"
            ) from None

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], (_Array, _DType)):  # a function would be changed for good
            raise pickle.UnpicklingError("only arrays are admitted to have a state")
        super().load_build()

    def load_bytearray8(self) -> None:
        """Python's own makes room for as much as the pickle says before it reads."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    dispatch |= {pickle.BUILD[0]: load_build, pickle.BYTEARRAY8[0]: load_bytearray8}


class _DType:
    """A number type while its pickle is read; numpy's own would take a forged state."""

    def __init__(self, kind: str, *_flags: Any) -> None:
        self._name = kind

    def __setstate__(self, state: tuple) -> None:
        self._name = state[1] + self._name  # the byte order

    def resolve(self) -> np.dtype:
        if not re.fullmatch(r"[<>=|]?[biufc]\d\d?", self._name):
            raise pickle.UnpicklingError(f"arrays of type {self._name!r} are not admitted")
        return np.dtype(self._name)


class _Array(np.ndarray):
    """An array that checks its state before numpy trusts it."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran_order, raw = state
        dtype, raw = dtype.resolve(), _bytes(raw)
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise pickle.UnpicklingError(f"an array of {shape} has {len(raw)} bytes")
        super().__setstate__((1, tuple(shape), dtype, bool(fortran_order), raw))


def _reconstruct(*_: Any) -> np.ndarray:
    return np.ndarray.__new__(_Array, (0,), "b")


def _from_buffer(raw: Any, dtype: _DType, shape: tuple, order: str) -> np.ndarray:
    array = np.frombuffer(raw, dtype.resolve()).reshape(shape, order=order)
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # as torch needs it


def _scalar(dtype: _DType, raw: bytes | str) -> np.generic:
    (value,) = np.frombuffer(_bytes(raw), dtype.resolve())
    return value


def _bytes(value: Any) -> bytes:
    """Of a number, `bytes` would make as many zeros."""
    if not isinstance(value, (bytes, bytearray, str)):
        raise pickle.UnpicklingError(f"an array's content is a {type(value).__name__}")
    return value.encode("latin1") if isinstance(value, str) else bytes(value)


_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): None,  # the first argument of _reconstruct
    ("numpy", "dtype"): _DType,
    ("collections", "OrderedDict"): OrderedDict,
    # how Python 3 writes bytes for Python 2, those of no length by the second
    ("_codecs", "encode"): lambda text, _latin1: text.encode("latin1"),
    ("__builtin__", "bytes"): lambda: b"",
}


def check_yaml(
    path: str,
    defaults: Mapping[str, Any],
    packaged: Callable[[str], str] | None = None,
    above: tuple[str, ...] = (),
    files: Iterator[int] | None = None,
) -> dict[str, Any]:
    """What a config file says with all that its `_BASE_` names, looked at before it is merged.

    Args:
        defaults: the config that it is merged into; its sections have to stay sections.
        packaged: where the package has a config of this name; a base that does not lie beside its
            file is looked up there.
        above, files: of a base, the files that lead to it, and the count of files so far.

    Raises:
        ConfigError: no valid yaml, no mapping, a base that is a loop or an address (nobody has
            looked at what comes from there), or more of something than a config needs.
        OSError: it cannot be read.
    """
    where, files = os.path.realpath(path), files or itertools.count(1)
    if where in above:
        raise ConfigError(f"config {path} is its own _BASE_, by way of {above[-1]}; break the loop")
    if next(files) > _MOST_FILES:
        raise ConfigError(f"config {above[0]} stands on {_MOST_FILES} files and more; use fewer")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_MOST_CHARACTERS + 1)
    except ValueError as error:
        raise ConfigError(f"config {path} is not valid yaml: {error}; correct it there") from None
    content = _parsed(text, f"config {path}", defaults)
    bases, merged = content.pop("_BASE_", []), {}
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or not base.strip():
            raise ConfigError(f"config {path}: _BASE_ is {base!r}; name a file")
        if "://" in base:
            raise ConfigError(
                f"config {path}: _BASE_ {base} is an address; download it, look at it, and name "
                f"the file"
            )
        beside = os.path.join(os.path.dirname(path), os.path.expanduser(base))
        places = [beside] if packaged is None else [beside, packaged(base)]
        places = [place for place in places if os.path.isfile(place)]
        if not places:
            among = "" if packaged is None else ", nor is it among the package's configs"
            raise ConfigError(f"config {path}: _BASE_ {beside} is no file{among}; correct the name")
        _merge(check_yaml(places[0], defaults, packaged, (*above, where), files), merged)
    _merge(content, merged)
    return merged


def check_yaml_text(text: str, where: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What the text of a config says that came without a file: it stands on no other one.

    Args:
        where: what messages call it.
        defaults: see `check_yaml`.

    Raises:
        ConfigError: see `check_yaml`; or it names a base.
    """
    content = _parsed(text, where, defaults)
    if "_BASE_" in content:
        raise ConfigError(f"{where}: it names a _BASE_, a file; write out all that it has")
    return content


def _parsed(text: str, where: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a config's text."""
    try:
        content = parse_yaml(text, where)
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{where} is not valid yaml: {error}; correct it there") from None
    version = content.get("VERSION", 2)  # Detectron2 converts 1, and fails obscurely at others
    if version not in (1, 2) or isinstance(version, (bool, float)):
        raise ConfigError(f"{where}: VERSION is {version!r}; write 2, or 1 for an old one")
    _check_sections(where, content, defaults)
    return content


def _merge(content: Mapping[str, Any], into: dict[str, Any]) -> None:
    """Section by section, as Detectron2 does with a base and the file that stands on it."""
    for key, value in content.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(value, into[key])
        else:
            into[key] = value


def _check_sections(
    where: str, content: Mapping[Any, Any], defaults: Mapping[str, Any], parent: str = ""
) -> None:
    for key, value in content.items():
        if not isinstance(key, str):
            raise ConfigError(f"{where}: {parent}{key!r} is a {type(key).__name__}; keys are words")
        node, name = defaults.get(key), f"{parent}{key}"
        if isinstance(node, dict):
            if not isinstance(value, dict):
                raise ConfigError(
                    f"{where}: {name} is {repr(value)[:80]}, and other keys belong under it; "
                    f"write one of {name}.{', '.join(list(node)[:3])}, ... or leave it out"
                )
            _check_sections(where, value, node, f"{name}.")


def parse_yaml(text: str, where: str) -> dict[Any, Any]:
    """The mapping that a yaml text is, of plain values.

    Raises:
        ConfigError: too long, too deep, or no mapping; begins with `where`.
        yaml.YAMLError: it is not valid yaml, has aliases that could multiply, or names what is no
            plain value.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ConfigError(f"{where} has more than {_MOST_CHARACTERS:,} bytes; that is no config")
    try:
        content = yaml.load(text, _Loader)  # noqa: S506  (a SafeLoader)
    except RecursionError:
        raise ConfigError(f"{where} is nested too deeply; write it flat") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{where} has no KEY: VALUE; see the package's configs")
    return content


def yaml_node(text: str) -> yaml.Node | None:
    """The root of a yaml text, of which each scalar is the text as written and knows its line.

    Raises:
        yaml.YAMLError: no valid yaml, nested too deeply, or aliases that could multiply.
    """
    try:
        return yaml.compose(text, _Loader)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


class _Loader(yaml.SafeLoader):
    """Refuses aliases that could multiply: forty lines of them can stand for 2^40 values.

    A few aliases of written-out values are read, since Detectron2's own dumps have them.
    """

    anchored = aliases = 0  # open nodes with an anchor; aliases so far

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        alias = isinstance(event, yaml.AliasEvent)
        self.aliases += alias
        if alias and (self.anchored or self.aliases > _MOST_ALIASES):
            problem = "an alias in what has an anchor, or too many of them: write the value out"
            raise yaml.MarkedYAMLError(None, None, problem, event.start_mark)
        anchored = event.anchor is not None and not alias
        self.anchored += anchored
        node = super().compose_node(parent, index)
        self.anchored -= anchored
        return node

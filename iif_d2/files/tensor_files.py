"""Files that torch has written, read without running what is in them, or waiting for ever."""

from __future__ import annotations

import os
import pickletools
import zipfile
from typing import Any, BinaryIO

from ..errors import CheckpointError

_ZIP = b"PK\x03\x04"
_LEGACY_PICKLES = 5  # of torch's files before they were zips
_MOST_PARTS = 1_000_000
_PUT, _GET = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def load_tensors(path: str) -> Any:
    """What one of torch's files holds, on the CPU; nothing in it is run.

    Raises:
        CheckpointError: it would grow when read.
        Exception: it is damaged; of which kind is up to where it breaks.
    """
    import torch

    with open(path, "rb") as file:
        if file.read(len(_ZIP)) == _ZIP:
            _check_zip(path, file)
        else:
            file.seek(0)
            for _ in range(_LEGACY_PICKLES):
                _refuse_endless_tuples(file)
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_zip(path: str, file: BinaryIO) -> None:
    """torch stores its tensors as they are."""
    with zipfile.ZipFile(file) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > os.path.getsize(path):
            raise CheckpointError(
                f"checkpoint {path} would grow to {size:,} bytes when read; torch compresses "
                f"nothing, so it was not written by torch"
            )
        entries = {entry.filename.lower(): entry for entry in archive.infolist()}
        if len(entries) < len(archive.infolist()):  # torch would read one, and we another
            raise CheckpointError(f"checkpoint {path} has two entries of one name; copy it again")
        for name, entry in entries.items():
            if name.endswith(".pkl"):
                with archive.open(entry) as content:
                    _refuse_endless_tuples(content)


def _refuse_endless_tuples(file: BinaryIO) -> None:
    """Raise `ValueError` where a tuple of the pickle at the file's place has too many parts.

    A few bytes a level make a tuple that holds the one before it twice; the hash of N levels, as
    the key of a dict, visits 2^N parts. `weights_only` admits such keys. Nothing is made here: the
    pickle's stack is followed with a number of parts in place of each value.
    """
    stack: list[int] = []
    marks: list[int] = []  # places in the stack
    memo: dict[int, int] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name in _GET:
            stack.append(memo[argument])
        elif name in _PUT:
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE" or name in _TUPLES:
            count = len(stack) - marks.pop() if name == "TUPLE" else _TUPLES[name]
            parts = _last(stack, count)
            stack.append(1 + sum(parts))
            if stack[-1] > _MOST_PARTS:
                raise ValueError(f"a tuple in it has more than {_MOST_PARTS:,} parts")
        else:
            before = opcode.stack_before
            if pickletools.markobject in before:
                del stack[marks.pop() :]
                before = before[: before.index(pickletools.markobject)]
            _last(stack, len(before))
            stack.extend([1] * len(opcode.stack_after))


def _last(stack: list[int], count: int) -> list[int]:
    place = len(stack) - count
    if place < 0:
        raise ValueError("it takes from an empty stack")
    parts = stack[place:]
    del stack[place:]
    return parts

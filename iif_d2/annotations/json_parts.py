"""A json file whose one long list, "annotations", is decoded some megabytes at a time.

Why a part of the list is decoded right: a part begins where a record does and ends before a comma.
If it decodes as whole records, then that comma stands between two records, since what is open at a
place of a json text follows from what is before it. The rest of the file is decoded with one known
record in place of the list, which must come out as the list of the whole file.
"""

from __future__ import annotations

import itertools
import mmap
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

__all__ = ["Part", "list_parts", "opening", "record_spans", "rest_of_file"]

_PART = 1 << 19  # bytes decoded at a time; what numpy makes of them stays in a processor's cache
_LIST = re.compile(rb'"annotations"\s*:\s*\[\s*(?=\{)')
_BETWEEN = re.compile(rb"\}\s*,\s*(?=\{)")
_LAST = re.compile(rb"\}\s*(?=\])")


class Part(NamedTuple):
    """Some records of the list, from the start of the first to the end of the last.

    Attributes:
        records: as they are decoded.
        text: their bytes, which the next part overwrites.
        start, end: where the text is in the file.
    """

    records: list
    text: memoryview
    start: int
    end: int


def opening(content: mmap.mmap) -> int | None:
    """Where the list's first record begins; None without a list of records."""
    found = _LIST.search(content)
    return None if found is None else found.end()


def list_parts(file: BinaryIO, start: int, record_type: Any) -> Iterator[Part]:
    """The list's records from `start`, where the first begins, until it ends.

    Raises:
        msgspec.MsgspecError: the list is of other things, or cut short.
    """
    import msgspec

    decode = msgspec.json.Decoder(list[record_type]).decode
    size, going_on = _PART, True
    while going_on:
        buffer = bytearray(size + 2)
        while going_on and size == len(buffer) - 2:
            file.seek(start)
            filled = 1 + file.readinto(memoryview(buffer)[1:-1])
            cut = _last_cut(buffer, filled)
            if cut is None and filled == size + 1:
                size *= 2  # a record as long as a part
                continue
            try:
                if cut is None:
                    raise msgspec.DecodeError("no comma between records")
                records, end = _decoded(decode, buffer, cut.start() + 1), cut.start() + 1
            except msgspec.MsgspecError:
                # The list may end in this part.
                records, end = _closed(decode, buffer, filled)
                going_on = False
            yield Part(records, memoryview(buffer)[1:end], start, start + end - 1)
            if going_on:
                start += cut.end() - 1


def record_spans(part: Part) -> np.ndarray:
    """Where each record begins and ends in the part's text, int64 (N, 2)."""
    text = np.frombuffer(part.text, dtype=np.uint8)
    starts, ends = np.flatnonzero(text == ord("{")), np.flatnonzero(text == ord("}")) + 1
    # Each record has braces of its own. With no more than those, there are no others.
    if len(starts) == len(ends) == len(part.records):
        return np.stack([starts, ends], axis=1)
    return _spans_by_record(part)


def _spans_by_record(part: Part) -> np.ndarray:
    import msgspec

    text, end, spans = bytes(part.text), 0, []
    for record in map(bytes, msgspec.json.decode(b"[%b]" % text, type=list[msgspec.Raw])):
        start = text.index(record, end)  # only white space and a comma are between
        end = start + len(record)
        spans.append((start, end))
    return np.array(spans, dtype=np.int64)


def rest_of_file(content: mmap.mmap, start: int, end: int, record: bytes) -> bytes:
    """The file's text with `record` in place of those from `start` to `end`."""
    # Some editors write a byte order mark, which json does not allow.
    first = 3 if content[:3] == b"\xef\xbb\xbf" else 0
    return content[first:start] + record + content[end:]


def _last_cut(buffer: bytearray, filled: int) -> re.Match | None:
    """The last comma between records; None if there is none."""
    reach = 1 << 12
    while True:
        found = list(_BETWEEN.finditer(buffer, max(1, filled - reach), filled))
        if found or reach >= filled:
            return found[-1] if found else None
        reach *= 8


def _closed(decode: Callable, buffer: bytearray, filled: int) -> tuple[list, int]:
    """The records to the end of the list, and where that is."""
    import msgspec

    error = msgspec.DecodeError("the list does not end")
    # A bracket after a brace that is not the list's end is rare.
    for last in itertools.islice(_LAST.finditer(bytes(buffer), 1, filled), 8):
        try:
            return _decoded(decode, buffer, last.start() + 1), last.start() + 1
        except msgspec.MsgspecError as failed:
            error = failed
    raise error


def _decoded(decode: Callable, buffer: bytearray, end: int) -> list:
    """The records in buffer[1:end] as a list."""
    following = buffer[end]
    buffer[0], buffer[end] = b"[]"
    try:
        return decode(memoryview(buffer)[: end + 1])
    finally:
        buffer[end] = following

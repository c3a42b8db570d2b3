"""What annotation tools write wrongly throughout a file, said in one message.

VIA repeats its categories, writes image ids as text, and polygons as one flat list: mended one
after the other by an error each, they would cost three attempts.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Raw, Struct

from ..errors import DataError
from .decoding import decode_json

_FLAT = re.compile(rb"\s*\[\s*-?\d")
_FIELD = re.compile(r"(images|annotations|categories)\[\d+\]\.(\w+)")


class _Named(Struct, gc=False):
    id: Any = None


class _Object(Struct, gc=False):
    image_id: Any = None
    category_id: Any = None
    segmentation: Raw = Raw(b"null")


class _File(Struct):
    images: list[_Named] = []
    categories: list[_Named] = []
    annotations: list[_Object] = []


@contextlib.contextmanager
def with_all_faults(path: str) -> Iterator[None]:
    """Inside, a `DataError` about the file also says what is wrong throughout it."""
    try:
        yield
    except DataError as error:
        found = _faults(path)
        said = _FIELD.search(str(error))
        if not found:
            raise
        texts = list(found.values())
        if not said or said.groups() not in found:
            texts.append(str(error).removeprefix(f"{path}: "))
        if len(texts) > 1:
            texts = [f"({number}) {text}" for number, text in enumerate(texts, start=1)]
        raise DataError(f"{path}: {' '.join(texts)}") from None


def _faults(path: str) -> dict[tuple[str, str], str]:
    """By list and field, what is wrong and what to do."""
    try:
        file = decode_json(path, _File, "an annotation file")
        found = {
            ("categories", "id"): _repeated([category.id for category in file.categories]),
            ("annotations", "image_id"): _other_kind(
                "image_id", "images", [a.image_id for a in file.annotations], file.images
            ),
            ("annotations", "category_id"): _other_kind(
                "category_id", "categories", [a.category_id for a in file.annotations],
                file.categories,
            ),
            ("annotations", "segmentation"): _flat([a.segmentation for a in file.annotations]),
        }  # fmt: skip
    except (DataError, TypeError):  # TypeError: an id that is a list
        return {}
    return {place: text for place, text in found.items() if text}


def _repeated(ids: Sequence) -> str | None:
    known, places = set(), []
    for place, id_ in enumerate(ids):
        if id_ in known:
            places.append(place)
        known.add(id_)
    if not places:
        return None
    return _text(
        "categories", "id", places, f"{ids[places[0]]!r} is there twice",
        "write each class once, with an id of its own",
    )  # fmt: skip


def _other_kind(field: str, where: str, ids: Sequence, records: list[_Named]) -> str | None:
    """Text where the other list has numbers, or numbers where it has text."""
    known = {record.id for record in records}
    by_text = {str(id_): id_ for id_ in known}
    places = [i for i, id_ in enumerate(ids) if id_ not in known and str(id_) in by_text]
    if not places:
        return None
    first = ids[places[0]]
    return _text(
        "annotations", field, places, f"is {first!r}, where '{where}' has {by_text[str(first)]!r}",
        "write both as numbers, without quotes",
    )  # fmt: skip


def _flat(masks: list[Raw]) -> str | None:
    places = [place for place, mask in enumerate(masks) if _FLAT.match(bytes(mask))]
    if not places:
        return None
    return _text(
        "annotations", "segmentation", places, "is one flat list of numbers",
        "put each polygon into a list of its own, [[x1, y1, x2, y2, ...]]",
    )  # fmt: skip


def _text(where: str, field: str, places: Sequence[int], problem: str, remedy: str) -> str:
    more = f" (and so for {len(places) - 1} more)" if len(places) > 1 else ""
    return f"{where}[{places[0]}].{field} {problem}{more}; {remedy}."

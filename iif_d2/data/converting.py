"""Annotations in any format written as COCO json, for this package and for any other tool."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw
from tqdm import tqdm

from ..annotations.formats import find
from ..annotations.reading import read_annotations
from ..annotations.schema import Id, Image
from ..annotations.sources import decode_annotations
from ..errors import DataError
from ..files import write_atomically
from .instances import image_path

_encode = msgspec.json.Encoder().encode


class _Numbered(msgspec.Struct):
    id: Any = None


class WholeFile(msgspec.Struct):
    """All of an annotation file: records as they are written, classes and the rest with all keys.

    `read_annotations` has to have checked it.
    """

    images: list[Raw]
    categories: list[dict[str, Any]]
    annotations: list[Raw] = []
    info: Any = None
    licenses: Any = None

    def save(self, path: str) -> None:
        """Write it as json, whole or not at all.

        Raises:
            DataError: the place cannot be written.
        """
        about = {"info": self.info, "licenses": self.licenses}
        head = b"".join(b'"%b":%b,' % (k.encode(), _encode(v)) for k, v in about.items() if v)
        lists = b",".join(self.images), b",".join(self.annotations), _encode(self.categories)
        parts = b'"images":[%b],"annotations":[%b],"categories":%b' % lists
        write_atomically(path, b"{%b%b}" % (head, parts))


def convert_annotations(source: str, output: str) -> str:
    """Write annotations in any format as COCO json; says what was written.

    Names, order and counts of the classes stay, and whatever else a json has. Ids become whole
    numbers where they are not; an LVIS image also gets the `file_name` that its address ends in.

    Args:
        source: a COCO or LVIS json, a YOLO data.yaml, Pascal VOC xml, or a folder of one of them;
            of several splits `PATH:SPLIT`.
        output: the json, written whole or not at all.

    Raises:
        DataError: a file cannot be read as its format says (names the file, the line and the
            remedy), or the output not be written.

    Examples:
        >>> said = convert_annotations("my/train.json", "my/copy.json")
    """
    check_output(source, [output])
    checked = read_annotations(source)
    file = decode_annotations(source, WholeFile)
    classes, categories = _whole_ids([category.id for category in checked.categories])
    by_id = {record["id"]: record for record in file.categories}
    file.categories = [
        {**by_id[category.id], "id": number, "name": category.name}
        for category, number in zip(checked.categories, categories)
    ]
    parsed = [msgspec.json.decode(text, type=Image) for text in file.images]
    images, numbers = _whole_ids([image.id for image in parsed])
    federated = bool(checked.negatives.any())
    for place, (image, number) in enumerate(zip(parsed, numbers)):
        record = {**msgspec.json.decode(file.images[place]), "id": number}
        record |= {"width": image.width, "height": image.height}
        record["file_name"] = image_path(checked.path, place, image, "", federated)
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            if record.get(key):
                record[key] = [classes.get(one, one) for one in record[key]]
        file.images[place] = Raw(_encode(record))
    file.annotations = _objects(file.annotations, images, classes)
    file.save(output)
    return (
        f"{output}: {len(file.images):,} images, {len(file.annotations):,} objects, "
        f"{len(file.categories):,} classes, in COCO's format; {said_root(source)}"
    )


def said_root(source: str) -> str:
    """Where the pictures are, in words."""
    found = find(source)
    if found.kind == "json":
        return "its pictures start from the image root that they had"
    return f"its pictures start from {found.root}, the image root"


def images_option(source: str) -> str:
    """What `--images` of another command has to be."""
    found = find(source)
    return "IMAGE_ROOT" if found.kind == "json" else found.root


def check_output(source: str, outputs: Iterable[str]) -> None:
    """Refuse to write over what is read.

    Raises:
        DataError: an output is the source.
    """
    for output in outputs:
        if os.path.exists(output) and os.path.exists(source) and os.path.samefile(output, source):
            raise DataError(f"{output} is what is read; write to another name")


def _whole_ids(ids: Sequence[Id]) -> tuple[dict[Id, int], list[int]]:
    """A whole number for each: itself where all are whole, else 1, 2, ... in their order."""
    whole = all(not isinstance(one, str) and one == one // 1 for one in ids)
    numbers = [int(one) for one in ids] if whole else list(range(1, len(ids) + 1))
    return dict(zip(ids, numbers)), numbers


def _objects(texts: list[Raw], images: dict[Id, int], classes: dict[Id, int]) -> list[Raw]:
    """Each with all that COCO's tools ask for; numbered anew unless their numbers are unique."""
    ids = [msgspec.json.decode(text, type=_Numbered).id for text in texts]
    own = all(type(one) is int and one > 0 for one in ids) and len(set(ids)) == len(ids)
    made = []
    bar = tqdm(zip(texts, ids), "converting", len(texts), delay=2, unit="object")
    for number, (text, id_) in enumerate(bar, start=1):
        record = msgspec.json.decode(text)
        record.pop("source", None)  # a message's
        box = record["bbox"] if None not in record["bbox"] else [0, 0, 0, 0]
        record |= {
            "id": id_ if own else number,
            "image_id": images[record["image_id"]],
            "category_id": classes[record["category_id"]],
            "bbox": box,
            "iscrowd": int(bool(record.get("iscrowd"))),
            "segmentation": record.get("segmentation") or [],
        }
        if record.get("area") is None:
            record["area"] = box[2] * box[3]
        made.append(Raw(_encode(record)))
    return made

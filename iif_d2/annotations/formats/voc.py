"""Pascal VOC: an xml a picture.

Boxes are of whole pixels counted from 1, both ends included, as the VOC development kit and
Detectron2 take them: x = xmin - 1, width = xmax - xmin + 1. A box at 0 is of a tool that counts
from there, and starts at 0. A `difficult` object gets LVIS's field `ignore`: Detectron2 trains on
it, LVIS's protocol does not score it, and COCO's, which scores other formats here, does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, ParseError, TreeBuilder  # noqa: S405  (defusedxml parses)

from tqdm import tqdm

from ...errors import DataError, IIFError
from ...files.pictures import picture_head
from .building import JsonText
from .texts import PICTURES, inside, names_in, read_text

CLASS_FILE = "classes.txt"
_FOLDERS = ("JPEGImages", "images", "Images")
_LONGEST_SIDE = 1 << 17  # pixels
_LINE = "iif_d2:line"  # of an element, among its attributes


class _Object(NamedTuple):
    name: str
    box: tuple[float, float, float, float]  # x, y, width, height
    polygon: list[float]
    difficult: bool
    source: str


class _Picture(NamedTuple):
    path: str
    size: tuple[int, int] | None
    objects: list[_Object]


def read_voc(name: str, root: str, files: Sequence[str], others: Sequence[str] = ()) -> bytes:
    """The xml files as COCO json.

    Classes are those that `classes.txt` in `root` lists, a line each, else the names of all
    objects, sorted.

    Args:
        name: what messages call the data set.
        root: the folder that the pictures' paths start from.
        files: the xml files to read.
        others: of other splits, which have the same classes.

    Raises:
        DataError: a file cannot be read; names it, the line and the remedy.
        IIFError: defusedxml is not installed.
    """
    pictures = []
    for path in tqdm(files, desc=f"reading {name}", unit="file", delay=2):
        pictures.append(_read(path, root))
    names = {found.name for picture in pictures for found in picture.objects}
    listed = os.path.join(root, CLASS_FILE)
    if os.path.isfile(listed):
        classes = [line.strip() for line in read_text(listed).splitlines() if line.strip()]
    else:
        for path in tqdm(others, desc="reading the names of classes", unit="file", delay=2):
            names.update(found.name for found in _read(path, root).objects)
        classes = sorted(names)
    if not classes:
        raise DataError(f"{name}: no xml has an object, and so there is no class; add {listed}")
    numbers = {text: place for place, text in enumerate(classes)}
    if len(numbers) < len(classes):
        raise DataError(f"{listed} has a class twice; write each once")
    made, seen = JsonText(classes), dict[str, str]()
    for path, picture in zip(files, pictures):
        if seen.setdefault(picture.path, path) != path:
            raise DataError(
                f"{path} and {seen[picture.path]} are both of picture {picture.path}; remove one"
            )
        full = os.path.join(root, picture.path)
        size = picture.size or picture_head(full, f"picture {full}")[:2]
        made.add_image(picture.path, *size)
        for found in picture.objects:
            if found.name not in numbers:
                raise DataError(
                    f"{found.source}: class {found.name!r} is not in {listed}; add it there, or "
                    f"correct the name"
                )
            more = {"ignore": 1} if found.difficult else {}
            if found.polygon:
                box = {"bbox": list(found.box)}
                made.add_polygon(numbers[found.name], found.polygon, found.source, **box, **more)
            else:
                made.add_box(numbers[found.name], found.box, found.source, **more)
    return made.content()


def _read(path: str, root: str) -> _Picture:
    top = _parsed(path)
    if top.tag != "annotation":
        raise DataError(f"{path}: <{top.tag[:40]}> is no <annotation> of Pascal VOC; give its file")
    size, stated = None, top.find("size")
    if stated is not None:
        width, height = (_number(path, stated, key) for key in ("width", "height"))
        if not all(side in range(_LONGEST_SIDE + 1) for side in (width, height)):
            raise DataError(
                f"{_at(path, stated)}: width {width:g} and height {height:g} are no size; correct "
                f"them"
            )
        if width and height:  # some tools write 0
            size = int(width), int(height)
    objects = [_object(path, element) for element in top.findall("object")]
    return _Picture(_picture(path, top, root, size is not None), size, objects)


def _picture(path: str, top: Element, root: str, sized: bool) -> str:
    """Where the picture is, from the root; where it would be, if it is not there."""
    folder = os.path.dirname(path)
    places = [os.path.join(root, name) for name in _FOLDERS] + [folder, root]
    stem = os.path.splitext(os.path.basename(path))[0]
    element, name = top.find("filename"), ""
    if element is not None and (element.text or "").strip():
        name = (element.text or "").strip()
        name = inside(root, name, f"{_at(path, element)}: filename")
    candidates = [name] if name else []
    candidates += [stem + suffix for suffix in (*PICTURES, *map(str.upper, PICTURES))]
    for candidate in candidates:
        for place in places:
            if os.path.isfile(os.path.join(place, candidate)):
                return os.path.relpath(os.path.join(place, candidate), root)
    if not name or not sized:
        raise DataError(
            f"{path}: its picture is not there, in none of {', '.join(dict.fromkeys(places))}; put "
            f"it there"
        )
    place = next((place for place in places if os.path.isdir(place)), root)
    return os.path.relpath(os.path.join(place, name), root)


def _object(path: str, element: Element) -> _Object:
    source, box = _at(path, element), element.find("bndbox")
    name = element.find("name")
    if name is None or not (name.text or "").strip():
        raise DataError(f"{source}: the object has no <name>; give it one")
    if box is None:
        raise DataError(f"{source}: the object has no <bndbox>; add it, or remove the object")
    left, top, right, bottom = (_number(path, box, k) for k in ("xmin", "ymin", "xmax", "ymax"))
    x, y = max(left - 1, min(left, 0)), max(top - 1, min(top, 0))
    difficult = element.find("difficult")
    return _Object(
        (name.text or "").strip(),
        (x, y, right - x, bottom - y),
        _polygon(path, element.find("polygon")),
        difficult is not None and (difficult.text or "").strip().lower() in ("1", "true"),
        source,
    )


def _polygon(path: str, element: Element | None) -> list[float]:
    """<x1>, <y1>, <x2>, ..., as Roboflow and supervision write corners; they count from 1."""
    if element is None or not len(element):
        return []
    if len(element) < 6 or len(element) % 2:
        raise DataError(
            f"{_at(path, element)}: the polygon has {len(element)} numbers; write three or more "
            f"pairs <x1>, <y1>, ..."
        )
    keys = [f"{axis}{number}" for number in range(1, len(element) // 2 + 1) for axis in "xy"]
    return [_number(path, element, key) - 1 for key in keys]


def _number(path: str, element: Element | None, key: str) -> float:
    found = element.find(key) if element is not None else None
    if element is None or found is None:
        where = path if element is None else _at(path, element)
        raise DataError(f"{where}: <{key}> is missing; add it")
    try:
        value = float(found.text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{_at(path, found)}: <{key}> is {found.text!r}; write a number")
    return value


def _at(path: str, element: Element) -> str:
    return f"{path}, line {element.get(_LINE)}"


class _WithLines(TreeBuilder):
    """Notes of each element the line it starts in."""

    parser: Any = None

    def start(self, tag: Any, attrs: Any) -> Element:
        return super().start(tag, {**attrs, _LINE: str(self.parser.CurrentLineNumber)})


def _parsed(path: str) -> Element:
    try:
        from defusedxml.common import DefusedXmlException
        from defusedxml.ElementTree import DefusedXMLParser
    except ImportError:
        raise IIFError(f"reading {path} needs defusedxml: pip install defusedxml") from None
    builder = _WithLines()
    parser = DefusedXMLParser(target=builder, forbid_dtd=False, forbid_entities=True)
    builder.parser = parser.parser
    try:
        parser.feed(read_text(path))
        return parser.close()
    except ParseError as error:
        raise DataError(f"{path} is not valid xml: {error}; correct it, or copy it again") from None
    except DefusedXmlException:
        raise DataError(
            f"{path} defines entities, which could grow without end and are not read; write plain "
            f"elements"
        ) from None


def split_lists(root: str) -> dict[str, str]:
    """The lists of ImageSets/Main that are splits, by name; of others, each is of one class."""
    folder = os.path.join(root, "ImageSets", "Main")
    names = names_in(folder, [".txt"])
    known = ("train.txt", "val.txt", "trainval.txt", "test.txt", "valid.txt")
    return {name[:-4]: os.path.join(folder, name) for name in names if name in known}

"""Pictures in, drawn pictures out: which files, what they are called, and nothing written over.

A png that is drawn says so inside (`_MARK`): it is drawn anew where it would be in the way, and any
other file stays.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from glob import glob
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..files import write_atomically

if TYPE_CHECKING:
    import numpy as np


_MARK = {"Software": "iif_d2"}


def picture_files(names: Sequence[str], remedy: str) -> list[str]:
    """Each picture once, of files, patterns of them, and folders.

    Args:
        remedy: what to do where nothing is named.

    Raises:
        ConfigError: a name stands for no picture.
    """
    if not names:
        raise ConfigError(f"no pictures: {remedy}")
    files: list[str] = []
    for name in map(os.path.expanduser, names):
        # A file's own name may have brackets, which a pattern reads in its way.
        found = [name] if os.path.exists(name) else sorted(glob(name))
        found = [path for place in found for path in _pictures_of(place)]
        if not found:
            raise ConfigError(
                f"no pictures: {name} is no file, no folder with some, and no pattern of any; "
                f"check the path"
            )
        files += found
    once: dict[str, str] = {}
    for path in files:
        once.setdefault(os.path.realpath(path), path)
    return list(once.values())


def _pictures_of(place: str) -> list[str]:
    """The file itself, or what a folder has whose name ends as a picture's."""
    if not os.path.isdir(place):
        return [place]
    from PIL import Image

    known = Image.registered_extensions()
    names = (name for name in sorted(os.listdir(place)) if not name.startswith("."))
    return [os.path.join(place, n) for n in names if os.path.splitext(n)[1].lower() in known]


def drawn_names(pictures: Sequence[str], folder: str, taken: Sequence[str]) -> list[str]:
    """A name for each drawn picture: no two alike, and none of a picture that is `taken`, or of a
    file there that was not drawn here.

    On some drives case does not tell names apart.
    """
    parts = [os.path.splitext(os.path.abspath(path))[0].split(os.sep) for path in pictures]
    depths = [1] * len(parts)
    while True:
        names = ["_".join(own[-depth:]) for own, depth in zip(parts, depths)]
        often = Counter(name.casefold() for name in names)
        shared = [
            place
            for place, name in enumerate(names)
            if often[name.casefold()] > 1 and depths[place] < len(parts[place])
        ]
        if not shared:
            break
        for place in shared:
            depths[place] += 1
    here = os.path.realpath(folder)
    folders = {path: os.path.realpath(path) for path in set(map(os.path.dirname, taken))}
    beside = [path for path in taken if folders[os.path.dirname(path)] == here]
    end = "_drawn" if beside else ""
    gone = {os.path.basename(path).casefold() for path in beside}
    there = {name.casefold(): name for name in os.listdir(folder)} if os.path.isdir(folder) else {}

    def in_the_way(name: str) -> bool:
        other = there.get(name.casefold())
        return other is not None and not _is_drawn(os.path.join(folder, other))

    found = []
    for name in names:
        own, number = f"{name}{end}.png", 1
        while own.casefold() in gone or in_the_way(own):  # a.jpg and a.png of one folder
            number += 1
            own = f"{name}{end}_{number}.png"
        gone.add(own.casefold())
        found.append(own)
    return found


def _is_drawn(path: str) -> bool:
    """Whether `save_picture` wrote it."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return _MARK.items() <= picture.info.items()
    except (OSError, ValueError, SyntaxError):
        return False


def keep_apart(outputs: dict[str, str | None], others: Iterable[str]) -> None:
    """Raise `ConfigError` where an option names a file that is read, or written by another."""
    there = {os.path.realpath(path) for path in others}
    for option, path in outputs.items():
        if path and os.path.realpath(path) in there:
            raise ConfigError(
                f"{option} {path} is a file that is read or drawn here; choose another name"
            )
        if path:
            there.add(os.path.realpath(path))


def save_picture(path: str, pixels: np.ndarray) -> None:
    """As a picture of the kind that the name ends in."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    content, mark = io.BytesIO(), PngInfo()
    for key, value in _MARK.items():
        mark.add_text(key, value)
    try:
        kind = Image.registered_extensions()[os.path.splitext(path)[1].lower()]
        Image.fromarray(pixels).save(content, kind, pnginfo=mark)  # other kinds ignore it
    except (KeyError, OSError, ValueError):
        raise ConfigError(f"{path} is no name of a picture; end it in .png or .jpg") from None
    write_atomically(path, content.getvalue())

"""What Detectron2 makes of a picture without a word, looked at before it is read."""

from __future__ import annotations

import os
import stat

from PIL import Image

from ..errors import DataError
from .paths import local_path

_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "mirrored and turned by 180 degrees",
    5: "mirrored and turned by 90 degrees",
    6: "turned by 90 degrees",
    7: "mirrored and turned by 90 degrees",
    8: "turned by 90 degrees",
}
REMEDY = (
    "where the boxes were drawn on the pixels as stored, remove the orientation from the files "
    "(exiftool -Orientation= FILES)"
)


def look_at(path: str, where: str) -> str | None:
    """How the picture's EXIF orientation turns it when it is read; None if it does not.

    Reads the head of the file alone.

    Args:
        where: what messages call the picture.

    Raises:
        DataError: an address, a pipe that would be waited for, or pixels of 16 or 32 bits, of which
            Pillow makes 255 wherever they are larger.
        Exception: it cannot be read; the kind depends on what is wrong.
    """
    local_path(path, where)
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{where} is no file; check the image root")
    with Image.open(path) as image:
        check_depth(image, where)
        # Asked for EXIF, a png without it would be decoded whole.
        if image.format == "PNG" and "exif" not in image.info:
            return None
        try:
            return _TURNS.get(image.getexif().get(_EXIF_ORIENTATION))
        except Exception:  # Detectron2 reads a picture with damaged EXIF as it is stored
            return None


def picture_head(path: str, where: str) -> tuple[int, int, str | None]:
    """Width and height of the picture as Detectron2 reads it, and how EXIF has turned it by then.

    Reads the head of the file alone.

    Args:
        where: what messages call the picture.

    Raises:
        DataError: it cannot be read.
    """
    try:
        turn = look_at(path, where)
        with Image.open(path) as image:
            width, height = image.size
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{where} is not there; check the image root") from None
    except Exception as error:  # as many kinds as there are ways to break a file
        raise DataError(f"{where} cannot be read: {error}; copy it again") from None
    return (height, width, turn) if turn and "90" in turn else (width, height, turn)


def size_words(turn: str | None, width: int | None, height: int | None) -> str | None:
    """What to do about a picture that EXIF turns and whose size differs from its annotation's.

    Args:
        turn: what `look_at` says of the picture.
        width, height: of the annotation.
    """
    if not turn or "90" not in turn:
        return None
    return (
        f"it is {turn} when it is read, as its EXIF orientation says, and its annotation has "
        f"width {width} and height {height} as stored; {REMEDY}; where they were drawn on the "
        f"turned picture, exchange width and height"
    )


def turn_words(turn: str | None, width: int | None, height: int | None) -> str | None:
    """What to say of a turned picture whose size is right; None where nothing is to be said.

    A quarter turn that the sizes of the annotation follow was there when the boxes were drawn.
    """
    if not turn or ("90" in turn and width != height):
        return None
    return f"is {turn} when it is read, as its EXIF orientation says, and others may be; {REMEDY}"


def check_depth(image: Image.Image, where: str) -> None:
    """Refuse pixels that an 8-bit image cannot hold.

    Raises:
        DataError: they have 16 or 32 bits.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        raise DataError(
            f"{where} has pixels of {16 if '16' in image.mode else 32} bits (Pillow's mode "
            f"{image.mode}), and would be read as white wherever they are above 255; scale its "
            f"values to 0-255, and save 8 bits"
        )

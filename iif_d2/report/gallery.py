"""A page of drawn pictures side by side, with the numbers that belong to them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..errors import ConfigError
from ..evaluation.detect import read_picture
from ..files import write_atomically
from .pictures import Picture, picture_url
from .templates import render_template


def pictures_page(
    output: str,
    title: str,
    columns: Sequence[str],
    pictures: Sequence[Sequence[str | os.PathLike | np.ndarray]],
    *,
    captions: Sequence[str] = (),
    alts: Sequence[Sequence[str]] = (),
    threshold: float = 0.3,
    table: Sequence[Sequence[str | float]] = (),
    table_caption: str = "Average precision in percent.",
    paragraphs: Sequence[str] = (),
    links: Sequence[tuple[str, str]] = (),
    commands: Sequence[tuple[str, str]] = (),
) -> str:
    """Write one html file that needs no other: pictures in rows, one a column, below a table.

    Pictures become JPEGs of at most 480 pixels' width, some 40 kB each. What looks like the report
    is the report's: light and dark, phones, print, and readers who cannot see it.

    Args:
        output: the html file.
        title: what came out, such as "IIF against Softmax: APr +5.2".
        columns: names of what is side by side, such as "Ground truth", "Softmax" and "IIF".
        pictures: rows of drawn pictures, one a column: files, or uint8 RGB (H, W, 3).
        captions: one a row, such as "Image 12"; by default none.
        alts: words for each picture, for those who cannot see it, such as `describe` gives; by
            default the column and the caption.
        threshold: least score of what is drawn; the page says so.
        table: rows; the first is the head, and numbers are shown with one digit.
        table_caption: says what the numbers are.
        paragraphs: said below the title.
        links: (text, address) of other files, such as the report beside the page.
        commands: (what for, command) of what to do next.

    Returns:
        A sentence that says where the page is.

    Raises:
        ConfigError: a row has not as many pictures as there are columns.
        DataError: a picture that cannot be read.

    Examples:
        >>> drawn = np.zeros((64, 64, 3), np.uint8)  # or the file of a picture
        >>> said = pictures_page(
        ...     "demo.html", "IIF finds rare classes", ["Ground truth", "Softmax", "IIF"],
        ...     [[drawn, drawn, drawn]],
        ...     table=[["method", "AP", "APr"], ["Softmax", 29.2, 0.7], ["IIF", 42.5, 23.8]],
        ... )
    """  # fmt: skip
    for what, rows in (("pictures", pictures), ("alts", alts)):
        for row in rows:
            if len(row) != len(columns):
                raise ConfigError(f"a row has {len(row)} {what} for {len(columns)} columns")
    for what, some in (("captions", captions), ("alts", alts)):
        if some and len(some) != len(pictures):
            raise ConfigError(f"there are {len(some)} {what} for {len(pictures)} rows of pictures")
    captions = list(captions) or [""] * len(pictures)
    shown = []
    for place, (caption, row) in enumerate(zip(captions, pictures)):
        words = alts[place] if alts else [": ".join(filter(None, (c, caption))) for c in columns]
        panels = [
            Picture(column, alt, *picture_url(_opened(picture)))
            for column, alt, picture in zip(columns, words, row)
        ]
        shown.append((caption, panels))
    html = render_template(
        "gallery.html",
        title=title,
        paragraphs=paragraphs,
        links=links,
        columns=table[0] if table else (),
        rows=table[1:],
        table_caption=table_caption,
        threshold=threshold,
        pictures=shown,
        commands=commands,
    )
    write_atomically(output, html)
    size = os.path.getsize(output) / 1e6
    return f"{output} ({size:.1f} MB): {len(shown)} rows of pictures; open it in a browser"


def _opened(picture: str | os.PathLike | np.ndarray) -> Image.Image:
    if isinstance(picture, np.ndarray):
        return Image.fromarray(picture)
    return Image.fromarray(read_picture(os.fspath(picture)))

"""Still figures by matplotlib, without a screen, written whole."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ..files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is compared, in every figure and on the page: the first is what there was, a pale grey, the
# second what is new. Neither is a group's colour. On white, and on black.
FIRST, SECOND = ("#818a94", "#98a2ad"), ("#6f2da8", "#d2a8ff")


def figure_of(
    width: float, height: float, rows: int = 1, columns: int = 1, **kwargs: Any
) -> tuple[Figure, Any]:
    """(figure, axes) of so many inches; kwargs as of `Figure.subplots`."""
    from matplotlib.figure import Figure  # no pyplot: no display, no state

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **kwargs)


def plain(text: str) -> str:
    """The text as matplotlib shows it letter by letter: what a user named may hold a `$`.

    Two of them would start and end a formula, and most such formulas are none.
    """
    return text.replace("$", r"\$")


def save_figure(figure: Figure, path: str, kind: str = "png", dpi: int = 130) -> None:
    """Write a figure as a file of this kind."""
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, dpi=dpi)
    write_atomically(path, picture.getvalue())

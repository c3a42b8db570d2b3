"""Still figures by matplotlib, without a screen, written whole."""

from __future__ import annotations

import io

from ..files import write_atomically

GROUP_NAMES = {"r": "rare", "c": "common", "f": "frequent"}


def figure_of(width: float, height: float):
    """(figure, axes) of so many inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def save_figure(figure, path: str) -> None:
    """Write a figure as png."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    write_atomically(path, picture.getvalue())

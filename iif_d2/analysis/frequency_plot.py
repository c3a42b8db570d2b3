"""The long tail as a picture: training images of each class, most first."""

from __future__ import annotations

import io

import numpy as np

from ..files import write_atomically
from ..frequency import ClassFrequency

_COLORS = {"r": "tab:red", "c": "tab:orange", "f": "tab:blue"}


def plot_frequency(frequency: ClassFrequency, path: str, title: str) -> None:
    """Write a png of the sorted image counts, on a logarithmic scale, coloured by group.

    Raises:
        DataError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = np.argsort(-frequency.image_count, kind="stable")
    count, groups = frequency.image_count[order], frequency.groups()[order]
    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for group, name in (("f", "frequent"), ("c", "common"), ("r", "rare")):
        rank = np.flatnonzero(groups == group)
        label = f"{name}: {len(rank)} classes"
        axes.bar(rank, count[rank], width=1.0, color=_COLORS[group], label=label)
    axes.set(title=title, xlabel="class, most images first", ylabel="training images", yscale="log")
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_atomically(path, buffer.getvalue())

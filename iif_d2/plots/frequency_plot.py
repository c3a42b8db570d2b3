"""The long tail as a picture: how often each class occurs, and the weights it gets."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from ..errors import ConfigError
from ..frequency import ClassFrequency
from ..groups import GROUPS
from .plotting import figure_of, plain, save_figure

FORMATS = ("png", "svg", "pdf")


def plot_frequency(
    frequency: ClassFrequency,
    path: str,
    title: str,
    weights: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write a plot of the classes by their rank, the most frequent first.

    Args:
        path: ends in .png, .svg or .pdf.
        title: above the plot.
        weights: (C,) by name, drawn below the counts.

    Raises:
        ConfigError: another kind of file.
        DataError: it cannot be written.
    """
    kind = os.path.splitext(path)[1].lower().removeprefix(".")
    if kind not in FORMATS:
        raise ConfigError(f"{path}: a plot is written as {', '.join(FORMATS)}")
    from matplotlib.patches import Patch

    order = np.argsort(-frequency.image_count, kind="stable")
    rank = np.arange(1, len(order) + 1)
    size = (9, 7, 2) if weights else (9, 4, 1)
    figure, axes = figure_of(*size, sharex=True, squeeze=False)
    axes = axes[:, 0]
    groups, handles = frequency.groups()[order], []
    for letter, group in GROUPS.items():
        here = groups == letter
        heights, label = (
            frequency.image_count[order][here],
            f"{group.name} ({here.sum() or 'no class'})",
        )
        axes[0].bar(rank[here], heights, 1.0, color=group.color)
        handles.append(Patch(color=group.color, label=label))  # bars of no class have no colour
    if frequency.instance_count is not None:
        instances = frequency.instance_count[order]
        handles += axes[0].plot(
            rank, instances, ".", color="black", markersize=3, label="instances"
        )
    axes[0].set_yscale("symlog", linthresh=1)
    axes[0].set_ylabel("training images")
    axes[0].set_title(plain(title), fontsize="medium", wrap=True)
    axes[0].legend(handles=handles)
    if weights:
        for number, (name, values) in enumerate(weights.items()):
            # Ever thinner: raw, rel and gombit nearly coincide on a long tail.
            axes[1].plot(rank, values[order], linewidth=4 - 0.5 * number, label=name)
        axes[1].set_ylabel("class weight")
        axes[1].legend(ncols=2)
    axes[-1].set_xlabel("classes, the most frequent first")
    save_figure(figure, path, kind, dpi=150)

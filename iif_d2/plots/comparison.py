"""A comparison's plots: AP beside AP of the rarest classes, and AP over models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..evaluation.comparison import Run
from ..groups import GROUPS
from .plotting import figure_of, save_figure

# A label beside its point: right of it, left of it, and higher and lower on either side, in points.
_PLACES = tuple((5 * x, 6 * y) for y in (0, 1, -1, 2, -2, 3, -3) for x in (1, -1))


def plot_rows(path: str, runs: Sequence[Run], dataset: str) -> bool:
    """Each row's AP and its AP on the rarest group that has one; whether there was one to draw."""
    task, ap, tail = _axes(runs)
    if not tail:
        return False
    figure, axes = figure_of(7, 5.5)
    overall, rare = _means(runs, ap), _means(runs, tail)
    runs = [run for run in runs if ap in run.results]  # another row's model may have no masks
    for run in runs:
        axes.plot(run.results[ap], run.results[tail], ".", color="0.75", zorder=1)
    for row in overall:
        color = "#d55e00" if "IIF" in row else "#0072b2"
        axes.plot(overall[row], rare[row], "o", color=color, zorder=2)
    group = tail[-1]
    axes.set_xlabel(f"{task} AP, {dataset} (percent)")
    axes.set_ylabel(f"{task} AP{group}: {GROUPS[group].name} classes")
    axes.set_title("Means over seeds; grey: single runs", fontsize=9)
    axes.margins(x=0.15)
    _label_points(figure, axes, {row: (overall[row], rare[row]) for row in overall})
    save_figure(figure, path)
    return True


def plot_models(path: str, runs: Sequence[Run], models: Sequence[tuple[str, str, str]]) -> bool:
    """AP of softmax and IIF over models, the poster's figure (a); whether there was one to draw.

    Args:
        models: label, softmax's row and IIF's row of each model.
    """
    task, column, _ = _axes(runs)
    ap = _means(runs, column)
    there = [model for model in models if model[1] in ap and model[2] in ap]
    if not there:
        return False
    figure, axes = figure_of(1.5 + 1.3 * len(there), 3.5)
    for side, (name, color) in enumerate((("Softmax", "#0072b2"), ("IIF raw", "#d55e00"))):
        heights = [ap[model[1 + side]] for model in there]
        bars = axes.bar(np.arange(len(there)) + 0.4 * side - 0.2, heights, 0.38, color=color)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
        bars.set_label(name)
    axes.set_xticks(range(len(there)), [model[0] for model in there])
    axes.set_ylabel(f"{task} AP (percent)")
    axes.margins(y=0.25)
    axes.legend(fontsize=8, loc="upper right", ncols=2)
    save_figure(figure, path)
    return True


def _axes(runs: Sequence[Run]) -> tuple[str, str, str]:
    """Mask or box, the column of its AP, and that of its rarest group ("" if there is none)."""
    task, prefix = ("mask", "") if any("AP" in run.results for run in runs) else ("box", "box ")
    for group in GROUPS:
        column = f"{prefix}AP{group}"
        if any(math.isfinite(run.results.get(column, math.nan)) for run in runs):
            return task, f"{prefix}AP", column
    return task, f"{prefix}AP", ""


def _means(runs: Sequence[Run], column: str) -> dict[str, float]:
    """The mean over seeds of each row that has this column."""
    values: dict[str, list[float]] = {}
    for run in runs:
        if column in run.results:
            values.setdefault(run.row, []).append(run.results[column])
    return {row: float(np.mean(of_row)) for row, of_row in values.items()}


def _label_points(figure: Any, axes: Any, points: dict[str, tuple[float, float]]) -> None:
    """Names beside points, each where it hides no other, if there is such a place."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).draw()  # without it nobody knows where a point will be
    taken: list[Any] = []
    for name, point in points.items():
        for dx, dy in _PLACES:
            label = axes.annotate(
                name, point, (dx, dy), textcoords="offset points", fontsize=7, va="center",
                ha="left" if dx > 0 else "right",
            )  # fmt: skip
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            if (dx, dy) != _PLACES[-1]:
                label.remove()

"""A comparison's plots: AP beside AP of the rarest classes, and AP over models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..evaluation.comparison import SeedRun
from ..groups import GROUPS
from .plotting import FIRST, SECOND, figure_of, plain, save_figure

_MOST = 3  # rows whose name is bold: the best of the rare classes
# A label beside its point, in points: right, left, and farther up and down on either side, above
# and below it.
_PLACES = tuple(
    (x, y) for reach in (8, 22, 40) for y in (0, 9, -9, 18, -18, 30, -30, 45, -45)
    for x in (reach, -reach)
)  # fmt: skip


def plot_rows(path: str, runs: Sequence[SeedRun], dataset: str) -> bool:
    """Each row's AP and its AP on the rarest group that has one; whether there was one to draw."""
    task, ap, tail = _axes(runs)
    if not tail:
        return False
    figure, axes = figure_of(9, 6.5)
    runs = [run for run in runs if ap in run.results]  # another row's model may have no masks
    points = {row: (_spread(runs, row, ap), _spread(runs, row, tail)) for row in _rows(runs)}
    for row, ((x, dx), (y, dy)) in points.items():
        color = SECOND[0] if "IIF" in row else "0.45"
        axes.errorbar(x, y, dy, dx, "o", color=color, ecolor=color, elinewidth=0.8, alpha=0.9)
    group = GROUPS[tail[-1]].name
    axes.set_xlabel(f"{task} AP in percent, {plain(dataset)}")
    axes.set_ylabel(f"{task} AP of {group} classes in percent")
    axes.set_title(f"{plain(_best_rows(points, group))}\n", weight="bold", fontsize=11)
    axes.text(
        0, 1.01, "means over seeds; bars: standard deviation of several; purple: with IIF",
        transform=axes.transAxes, fontsize=8.5, color="0.3",
    )  # fmt: skip
    axes.margins(x=0.12, y=0.1)
    axes.grid(alpha=0.25)
    _label_points(figure, axes, points)
    save_figure(figure, path)
    return True


def plot_models(path: str, runs: Sequence[SeedRun], models: Sequence[tuple[str, str, str]]) -> bool:
    """AP of softmax and IIF over models, the poster's figure (a); whether there was one to draw.

    Args:
        models: label, softmax's row and IIF's row of each model.
    """
    task, column, _ = _axes(runs)
    runs = [run for run in runs if column in run.results]
    known = set(_rows(runs))
    there = [model for model in models if model[1] in known and model[2] in known]
    if not there:
        return False
    figure, axes = figure_of(max(5.0, 1.5 + 1.3 * len(there)), 4)
    means = []
    for side, (name, color) in enumerate((("Softmax", FIRST[0]), ("IIF raw", SECOND[0]))):
        spreads = [_spread(runs, model[1 + side], column) for model in there]
        means.append([mean for mean, _ in spreads])
        bars = axes.bar(
            np.arange(len(there)) + 0.4 * side - 0.2, means[-1], 0.38, color=color, label=name,
            yerr=[deviation for _, deviation in spreads], capsize=3, ecolor="0.2",
        )  # fmt: skip
        axes.bar_label(bars, fmt="%.1f", fontsize=9, padding=2)
    better = sum(second > first for first, second in zip(*means))
    axes.set_title(
        f"IIF has the higher {task} AP in {better} of {len(there)} pair{'s' * (len(there) > 1)}",
        weight="bold",
    )
    axes.set_xticks(range(len(there)), [plain(model[0]) for model in there])
    axes.set_ylabel(f"{task} AP in percent")
    axes.margins(y=0.25)
    axes.legend(fontsize=9, loc="upper right", ncols=2)
    save_figure(figure, path)
    return True


def _axes(runs: Sequence[SeedRun]) -> tuple[str, str, str]:
    """Mask or box, the column of its AP, and that of its rarest group ("" if there is none)."""
    task, prefix = ("mask", "") if any("AP" in run.results for run in runs) else ("box", "box ")
    for group in GROUPS:
        column = f"{prefix}AP{group}"
        if any(math.isfinite(run.results.get(column, math.nan)) for run in runs):
            return task, f"{prefix}AP", column
    return task, f"{prefix}AP", ""


def _rows(runs: Sequence[SeedRun]) -> list[str]:
    return list(dict.fromkeys(run.row for run in runs))


def _spread(runs: Sequence[SeedRun], row: str, column: str) -> tuple[float, float]:
    """The mean over a row's seeds, and the standard deviation of several; nan of one."""
    values = [run.results[column] for run in runs if run.row == row]
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return float(np.mean(values)), deviation


def _best_rows(points: dict, group: str) -> str:
    """Which rows are the highest, in words; a row of one seed says so."""
    finite = {row: point for row, point in points.items() if math.isfinite(sum(map(_mean, point)))}
    overall, rare = (max(finite, key=lambda row: _mean(finite[row][axis])) for axis in (0, 1))
    said = {
        row: row + ("" if math.isfinite(finite[row][0][1]) else " (one seed)")
        for row in (overall, rare)
    }
    if rare == overall:
        return f"{said[rare]} is the best, overall and on {group} classes"
    return f"{said[rare]} is the best on {group} classes, {said[overall]} overall"


def _mean(spread: tuple[float, float]) -> float:
    return spread[0]


def _label_points(figure: Any, axes: Any, points: dict[str, tuple]) -> None:
    """Names beside points, each where it hides no other, no point and no bar, if there is a place.

    Args:
        points: of each row, x and y as (mean, standard deviation).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # without it nobody knows where a point will be
    finite = {row: point for row, point in points.items() if math.isfinite(sum(map(_mean, point)))}
    order = sorted(finite, key=lambda row: -_mean(finite[row][1]))
    lines, taken, names = [], [], []
    for (x, dx), (y, dy) in finite.values():
        dx, dy = np.nan_to_num((dx, dy))
        for reach in ((dx, 0), (0, dy)):
            ends = axes.transData.transform(
                [(x - reach[0], y - reach[1]), (x + reach[0], y + reach[1])]
            )
            lines.append(Bbox(ends).padded(2))
        taken.append(Bbox(axes.transData.transform([(x, y)] * 2)).padded(6))
    for name in order:
        point = tuple(map(_mean, finite[name]))
        here = axes.transData.transform(point)
        for place, (dx, dy) in enumerate((*_PLACES, *_PLACES)):
            far = abs(dx) > 8 or dy
            label = axes.annotate(
                plain(name), point, (dx, dy), textcoords="offset points", fontsize=8, va="center",
                ha="left" if dx > 0 else "right", zorder=4,
                weight="bold" if name in order[:_MOST] else "normal",
                arrowprops={"arrowstyle": "-", "color": "0.55", "lw": 0.6} if far else None,
            )  # fmt: skip
            label.update_positions(canvas.get_renderer())
            box = Text.get_window_extent(label)  # without its line
            there = (box.x0 + box.width / 2, box.y0 + box.height / 2)
            steps = np.linspace(here, there, 40)[4:] if far else ()  # along its line
            leader = [Bbox((step, step)).padded(1) for step in steps]
            # Better on a line than nowhere.
            avoided = taken + lines if place < len(_PLACES) else taken
            free = not any(box.overlaps(other) for other in avoided)
            if place < len(_PLACES):
                free &= not any(part.overlaps(other) for part in leader for other in names)
            if free and axes.bbox.contains(*box.p0) and axes.bbox.contains(*box.p1):
                taken.append(box)
                names.append(box)
                lines += leader
                break
            if place < 2 * len(_PLACES) - 1:
                label.remove()

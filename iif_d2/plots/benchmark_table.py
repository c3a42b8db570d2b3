"""The benchmark's runs as csv, as a Markdown table and as plots."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..annotations.decoding import decode_json
from ..errors import DataError
from ..evaluation.results import load_results
from ..files import csv_text, write_atomically
from .plotting import figure_of, save_figure

# Column: task and metric in results.json. Mask AP first, as in the paper's tables.
COLUMNS = {
    "AP": ("segm", "AP"),
    "APr": ("segm", "APr"),
    "APc": ("segm", "APc"),
    "APf": ("segm", "APf"),
    "box AP": ("bbox", "AP"),
    "box APr": ("bbox", "APr"),
}
COSTS = ("cpu_seconds", "wall_seconds", "peak_mb")
COST_FILE = "cost.json"
# A label beside its point: right of it, left of it, and higher and lower on either side, in points.
_PLACES = tuple((5 * x, 6 * y) for y in (0, 1, -1, 2, -2, 3, -3) for x in (1, -1))


@dataclass(frozen=True)
class Run:
    """One row and seed; `results` (columns) and `cost` are None where it was not run to the end."""

    row: str
    seed: int
    folder: str
    results: dict[str, float] | None
    cost: dict[str, float] | None


def read_run(row: str, seed: int, folder: str) -> Run:
    """What a run left in its OUTPUT_DIR."""
    path = os.path.join(folder, "inference", "results.json")
    if not os.path.isfile(path):
        return Run(row, seed, folder, None, None)
    (tasks,) = load_results(path).values()
    results = {
        column: tasks.get(task, {}).get(metric, math.nan)
        for column, (task, metric) in COLUMNS.items()
    }
    return Run(row, seed, folder, results, read_cost(folder))


def read_cost(folder: str) -> dict[str, float] | None:
    """COSTS of the run in this OUTPUT_DIR so far; None where nothing was kept."""
    path = os.path.join(folder, COST_FILE)
    return decode_json(path, dict[str, float], "a run's cost") if os.path.isfile(path) else None


def read_table(path: str) -> dict[tuple[str, int], Run]:
    """The finished runs of a results.csv that `write_tables` wrote, by row and seed.

    Raises:
        DataError: the file cannot be read or is no such table.
    """
    runs = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                row, seed = line["row"], int(line["seed"])
                if line["AP"] == "not run":
                    continue
                numbers = {name: float(line[name]) for name in (*COLUMNS, *COSTS)}
                costs = {name: numbers.pop(name) for name in COSTS}
                cost = None if math.isnan(costs["cpu_seconds"]) else costs
                runs[row, seed] = Run(row, seed, "", numbers, cost)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} is no results.csv of this benchmark: {type(error).__name__} {error}"
        ) from None
    return runs


def write_tables(
    output: str, runs: Sequence[Run], models: Sequence[tuple[str, str, str]]
) -> list[str]:
    """Write results.csv, table.md and the plots that the runs allow; the table, and where they lie.

    Args:
        models: label, softmax's row and IIF's row of each model in the plot of models.
    """
    table = markdown(runs)
    written = {"results.csv": _csv(runs), "table.md": table + "\n"}
    for name, content in written.items():
        write_atomically(os.path.join(output, name), content)
    names = list(written)
    done = [run for run in runs if run.results is not None]
    if done:
        _plot_rows(os.path.join(output, "ap_apr.png"), done)
        names.append("ap_apr.png")
    if _plot_models(os.path.join(output, "models.png"), done, models):
        names.append("models.png")
    return [table, "", *(os.path.join(output, name) for name in names)]


def markdown(runs: Sequence[Run]) -> str:
    """A line a row: means over its seeds, with the standard deviation where there are several."""
    head = ["method", *COLUMNS, "seeds", "CPU min", "peak GB"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in dict.fromkeys(run.row for run in runs):
        of_row = [run for run in runs if run.row == row and run.results is not None]
        if not of_row:
            lines.append(f"| {row} | not run |{' |' * (len(head) - 2)}")
            continue
        cells = [_spread([run.results[column] for run in of_row]) for column in COLUMNS]
        cells.append(", ".join(str(run.seed) for run in of_row))
        costs = [run.cost for run in of_row if run.cost]
        for key, unit in (("cpu_seconds", 60), ("peak_mb", 1024)):
            cells.append(f"{np.mean([c[key] for c in costs]) / unit:.1f}" if costs else "-")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.1f}"


def _csv(runs: Sequence[Run]) -> str:
    table: list[list] = [["row", "seed", *COLUMNS, *COSTS]]
    for run in runs:
        if run.results is None:
            table.append([run.row, run.seed, "not run"])
            continue
        cost = run.cost or {}
        numbers = [*run.results.values(), *(cost.get(key, math.nan) for key in COSTS)]
        table.append([run.row, run.seed, *(f"{number:.3f}" for number in numbers)])
    return csv_text(table)


def _means(runs: Sequence[Run], column: str) -> dict[str, float]:
    rows = dict.fromkeys(run.row for run in runs)
    return {r: np.mean([run.results[column] for run in runs if run.row == r]) for r in rows}


def _plot_rows(path: str, done: Sequence[Run]) -> None:
    figure, axes = figure_of(7, 5.5)
    ap, apr = _means(done, "AP"), _means(done, "APr")
    for run in done:
        axes.plot(run.results["AP"], run.results["APr"], ".", color="0.75", zorder=1)
    for row in ap:
        ours = "IIF" in row
        axes.plot(ap[row], apr[row], "o", color="#d55e00" if ours else "#0072b2", zorder=2)
    axes.set_xlabel("mask AP, mini_lvis_val (percent)")
    axes.set_ylabel("mask APr: classes of 3 to 10 training images")
    axes.set_title("Means over seeds; grey: single runs", fontsize=9)
    axes.margins(x=0.15)
    _label_points(figure, axes, {row: (ap[row], apr[row]) for row in ap})
    save_figure(figure, path)


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


def _plot_models(path: str, done: Sequence[Run], models: Sequence[tuple[str, str, str]]) -> bool:
    """AP of softmax and IIF over models, the poster's figure (a); whether there was one to draw."""
    ap = _means(done, "AP")
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
    axes.set_ylabel("mask AP (percent)")
    axes.margins(y=0.25)
    axes.legend(fontsize=8, loc="upper right", ncols=2)
    save_figure(figure, path)
    return True

"""The runs of a comparison: what each left behind, as csv and as a Markdown table."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..annotations.decoding import decode_json
from ..errors import DataError
from ..files import csv_text
from ..files.tables import spread
from .results import load_results

# Column: task and metric in results.json. Mask AP first, as in the paper's tables.
MASK_COLUMNS = {
    "AP": ("segm", "AP"),
    "APr": ("segm", "APr"),
    "APc": ("segm", "APc"),
    "APf": ("segm", "APf"),
    "box AP": ("bbox", "AP"),
    "box APr": ("bbox", "APr"),
}
BOX_COLUMNS = {f"box {metric}": ("bbox", metric) for metric in ("AP", "APr", "APc", "APf")}
# Student's t, 97.5 %, by degrees of freedom; with more than ten it is taken for ten, a wider one.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
COSTS = ("cpu_seconds", "wall_seconds", "peak_mb")
COST_FILE = "cost.json"


@dataclass(frozen=True)
class SeedRun:
    """One row and seed of a comparison.

    Attributes:
        results: percent by column, `MASK_COLUMNS` or, without masks, `BOX_COLUMNS`; None where it
            was not run to the end.
        cost: by `COSTS`; None where nothing was kept.
    """

    row: str
    seed: int
    results: dict[str, float] | None
    cost: dict[str, float] | None


def read_run(row: str, seed: int, folder: str) -> SeedRun:
    """What a run left in its OUTPUT_DIR, on the first of its DATASETS.TEST."""
    path = os.path.join(folder, "inference", "results.json")
    if not os.path.isfile(path):
        return SeedRun(row, seed, None, None)
    tasks = next(iter(load_results(path).values()), {})
    columns = MASK_COLUMNS if "segm" in tasks else BOX_COLUMNS
    results = {
        column: tasks.get(task, {}).get(metric, math.nan)
        for column, (task, metric) in columns.items()
    }
    return SeedRun(row, seed, results, read_cost(folder))


def read_cost(folder: str) -> dict[str, float] | None:
    """`COSTS` of the run in this OUTPUT_DIR so far; None where nothing was kept."""
    path = os.path.join(folder, COST_FILE)
    return decode_json(path, dict[str, float], "a run's cost") if os.path.isfile(path) else None


def read_table(path: str) -> dict[tuple[str, int], SeedRun]:
    """The finished runs of a results.csv, by row and seed.

    Raises:
        DataError: the file cannot be read or is no such table.
    """
    runs = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                row, seed = line.pop("row"), int(line.pop("seed"))
                if "not run" in line.values():
                    continue
                numbers = {name: float(value) for name, value in line.items()}
                costs = {name: numbers.pop(name) for name in COSTS}
                cost = None if math.isnan(costs["cpu_seconds"]) else costs
                runs[row, seed] = SeedRun(row, seed, numbers, cost)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} is no results.csv of a comparison: {type(error).__name__} {error}"
        ) from None
    return runs


def table_columns(runs: Sequence[SeedRun]) -> list[str]:
    """The columns that any of the runs has."""
    results = [run.results for run in runs if run.results is not None]
    return list(dict.fromkeys(column for row in results or [MASK_COLUMNS] for column in row))


def comparison_csv(runs: Sequence[SeedRun]) -> str:
    """A line a run, which `read_table` reads."""
    columns = table_columns(runs)
    table: list[list] = [["row", "seed", *columns, *COSTS]]
    for run in runs:
        if run.results is None:
            table.append([run.row, run.seed, "not run"])
            continue
        numbers = [run.results.get(column, math.nan) for column in columns]
        numbers += [(run.cost or {}).get(key, math.nan) for key in COSTS]
        table.append([run.row, run.seed, *(f"{number:.3f}" for number in numbers)])
    return csv_text(table)


def comparison_table(runs: Sequence[SeedRun]) -> str:
    """Markdown, a line a row: means over its seeds, with the standard deviation of several."""
    columns = table_columns(runs)
    head = ["method", *columns, "seeds", "CPU min", "peak GB"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in dict.fromkeys(run.row for run in runs):
        of_row = [run for run in runs if run.row == row and run.results is not None]
        if not of_row:
            lines.append(f"| {row} | not run |{' |' * (len(head) - 2)}")
            continue
        values = ([run.results.get(name, math.nan) for run in of_row] for name in columns)
        cells = [spread(of_column) for of_column in values]
        cells.append(", ".join(str(run.seed) for run in of_row))
        costs = [run.cost for run in of_row if run.cost]
        for key, unit in (("cpu_seconds", 60), ("peak_mb", 1024)):
            cells.append(f"{np.mean([c[key] for c in costs]) / unit:.1f}" if costs else "-")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def paired_difference(
    runs: Sequence[SeedRun], row: str, base: str, column: str
) -> tuple[float, float, list[int]]:
    """The mean of row - base over the seeds of both, and half the width of its 95 % interval.

    The interval is Student's t over one difference a seed.

    Returns:
        Percent, percent (nan of a single seed), and the seeds; nan, nan, [] without one.

    Examples:
        >>> pairs = [("A", 0, 12.0), ("A", 1, 14.0), ("B", 0, 10.0), ("B", 1, 11.0)]
        >>> runs = [SeedRun(row, seed, {"AP": ap}, None) for row, seed, ap in pairs]
        >>> mean, half, seeds = paired_difference(runs, "A", "B", "AP")
        >>> f"{mean} +- {half:.1f}", seeds
        ('2.5 +- 6.4', [0, 1])
    """
    of_row, of_base = (
        {run.seed: run.results[column] for run in runs
         if run.row == name and run.results and column in run.results}
        for name in (row, base)
    )  # fmt: skip
    seeds = sorted(of_row.keys() & of_base.keys())
    if not seeds:
        return math.nan, math.nan, []
    differences = np.array([of_row[seed] - of_base[seed] for seed in seeds])
    if len(seeds) == 1:
        return float(differences[0]), math.nan, seeds
    quantile = _T[min(len(seeds) - 1, len(_T)) - 1]
    error = differences.std(ddof=1) / math.sqrt(len(seeds))
    return float(differences.mean()), float(quantile * error), seeds


def differences_table(runs: Sequence[SeedRun], pairs: Sequence[tuple[str, str]]) -> str:
    """Markdown, a line a pair (row, base) of at least two common seeds; "" without any."""
    columns = table_columns(runs)[:2]
    lines = []
    for row, base in pairs:
        cells = []
        for column in columns:
            mean, half, seeds = paired_difference(runs, row, base, column)
            cells.append(f"{mean:+.1f} [{mean - half:.1f}, {mean + half:.1f}]")
        if len(seeds) > 1:
            cells.append(", ".join(map(str, seeds)))
            lines.append(f"| {row} | {base} | {' | '.join(cells)} |")
    if not lines:
        return ""
    head = ["method", "over", *columns, "seeds"]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines])

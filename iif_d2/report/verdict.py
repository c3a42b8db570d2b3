"""What the page says first: who is better, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..evaluation import METRICS
from ..evaluation.results import Results
from ..groups import GROUPS
from .diagnosis import Change

_GROUP_METRICS = [f"AP{letter}" for letter in GROUPS]
# What a narrow screen has room for comes first.
COLUMNS = ["AP", *_GROUP_METRICS, *(n for n in METRICS if n not in ("AP", *_GROUP_METRICS))]
_TASKS = {"bbox": "box", "segm": "mask"}

Row = tuple[str, Mapping[str, float]]


def results_rows(runs: Sequence[tuple[str, Results]]) -> list[tuple[str, list[Row]]]:
    """(data set, rows) of the runs' results: a run and task each, and two runs' difference."""
    tables = []
    for name in dict.fromkeys(name for _, results in runs for name in results):
        rows: list[Row] = []
        for task in dict.fromkeys(t for _, results in runs for t in results.get(name, {})):
            what = _TASKS.get(task, task)
            found = [(run, r[name][task]) for run, r in runs if task in r.get(name, {})]
            rows += [(f"{run}, {what}", row) for run, row in found]
            if len(found) == 2:
                (_, first), (_, second) = found
                rows.append(
                    (f"difference, {what}", {k: second[k] - first[k] for k in second if k in first})
                )
        tables.append((name, rows))
    return tables


def headline(
    names: Sequence[str],
    metrics: Sequence[Change],
    results: Sequence[tuple[str, list[Row]]],
    dataset: str,
) -> str:
    """Whose page it is and what came out: "IIF against Softmax: AP +7.5 [6.6, 8.8], APr ...".

    Args:
        names: of the runs, one or two.
        metrics: what changed, where there are two.
        results: see `results_rows`; what is said of one run.
        dataset: the one that the page is about.
    """
    wanted = ("AP", _GROUP_METRICS[0])
    if len(names) == 2:
        said = [_signed(change) for name in wanted for change in metrics if change.name == name]
        return f"{names[1]} against {names[0]}" + (f": {', '.join(said)}" if said else "")
    rows = dict(results).get(dataset) or [("", {})]
    row = rows[0][1]
    said = [f"{name} {row[name]:.1f}" for name in wanted if math.isfinite(row.get(name, math.nan))]
    return names[0] + (f": {', '.join(said)}" if said else "")


def about(num_runs: int, intervals: bool, num_images: int, dataset: str) -> str:
    """What the numbers of the headline are."""
    what = "Difference in box AP points" if num_runs == 2 else "Box AP in percent"
    text = f"{what} on {num_images:,} images of {dataset}"
    return text + (
        "; in brackets the 95 % interval of a bootstrap over them." if intervals else "."
    )


def verdict(metrics: Sequence[Change]) -> str:
    """Which metrics are higher, lower, or undecided by their intervals; "" without any."""
    sure = [(change.name, change.interval) for change in metrics if change.interval]
    parts = {
        "Higher": [n for n, i in sure if i[0] > 0],
        "Lower": [n for n, i in sure if i[1] < 0],
        "Undecided, for 0 is in the interval": [n for n, i in sure if i[0] <= 0 <= i[1]],
    }
    return " ".join(f"{what}: {', '.join(some)}." for what, some in parts.items() if some)


def _signed(change: Change) -> str:
    difference, *interval = (
        round(value, 1) + 0.0 for value in (change.difference, *(change.interval or ()))
    )  # + 0.0: no "-0.0"
    between = f" [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else ""
    return f"{change.name} {difference:+.1f}{between}"

"""The results of an evaluation as a file, and as a table to read."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from ..annotations.decoding import decode_json
from ..files import write_atomically

COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
Results = Mapping[str, Mapping[str, Mapping[str, float]]]  # data set, then task, then metric


def save_results(path: str | os.PathLike, results: Results) -> None:
    """Write {data set: {"bbox": {"AP": ...}}} as json; what is nan becomes null."""
    import msgspec

    finite = {
        name: {
            task: {key: value if math.isfinite(value) else None for key, value in row.items()}
            for task, row in tasks.items()
        }
        for name, tasks in results.items()
    }
    write_atomically(path, msgspec.json.format(msgspec.json.encode(finite), indent=1))


def load_results(path: str | os.PathLike) -> Results:
    """Read what `save_results` wrote; null becomes nan.

    Raises:
        DataError: the file is missing or something else.
    """
    content = decode_json(path, dict[str, dict[str, dict[str, float | None]]], "a results file")
    return {
        name: {
            task: {key: math.nan if value is None else value for key, value in row.items()}
            for task, row in tasks.items()
        }
        for name, tasks in content.items()
    }


def results_table(results: Results) -> str:
    """Markdown, a row for each data set and task, in percent; "-" where there is no number."""
    head = ("data set", "task", *COLUMNS)
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, tasks in results.items():
        for task, row in tasks.items():
            values = (row.get(column, math.nan) for column in COLUMNS)
            cells = ("-" if math.isnan(value) else f"{value:.1f}" for value in values)
            lines.append(f"| {name} | {task} | {' | '.join(cells)} |")
    return "\n".join(lines)

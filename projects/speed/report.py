"""Rows to a Markdown table, and the growth of those that belong to a series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

HEAD = ("step", "on", "beside", "theirs", "ours", "ratio", "memory theirs / ours", "identical")


def table(rows: Sequence[dict]) -> str:
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    return "\n".join([*lines, *(line(row) for row in rows)])


def line(row: dict) -> str:
    theirs, ours = row["theirs"], row["ours"]
    ratio = f"{median(theirs) / median(ours):.3g}" if theirs else "-"
    peaks = (row["theirs_memory"], row["ours_memory"])
    memory = " / ".join("-" if peak is None else f"{peak:,.0f} MiB" for peak in peaks)
    identical = {None: "-", True: "yes", False: "**no**"}[row["identical"]]
    cells = (
        row["case"], row["size"], row["reference"] or "-", seconds(theirs), seconds(ours), ratio,
        memory if row["ours_memory"] is not None else "-", identical,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def seconds(values: Sequence[float]) -> str:
    """Median and, of several, the range."""
    if not values:
        return "-"
    text = duration(median(values))
    return text if len(values) == 1 else f"{text} ({duration(min(values))}-{duration(max(values))})"


def duration(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"


def growth(rows: Sequence[dict]) -> str:
    """For each series and side the p of time ~ x^p, by least squares of the logarithms."""
    lines = ["| cost against | side | from | to | exponent of time | exponent of memory |"]
    lines += [f"|{'---|' * 6}"]
    for series in dict.fromkeys(row["series"] for row in rows if row["series"]):
        members = [row for row in rows if row["series"] == series]
        for side in ("ours", "theirs"):
            timed = [row for row in members if row[side]]
            if len(timed) < 2:
                continue
            x = [row["x"] for row in timed]
            time = f"{exponent(x, [median(row[side]) for row in timed]):.2f}"
            peaks = [row[f"{side}_memory"] for row in timed]
            memory = f"{exponent(x, peaks):.2f}" if None not in peaks else "-"
            name = "ours" if side == "ours" else timed[0]["reference"]
            lines.append(f"| {series} | {name} | {x[0]:,} | {x[-1]:,} | {time} | {memory} |")
    return "\n".join(lines)


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    logs = [(math.log(a), math.log(max(b, 1e-9))) for a, b in zip(x, y)]
    mean_x, mean_y = (sum(column) / len(logs) for column in zip(*logs))
    return sum((a - mean_x) * (b - mean_y) for a, b in logs) / sum(
        (a - mean_x) ** 2 for a, _ in logs
    )

"""The poster's claim about false positives: how many a method has at equal recall, by group."""

from __future__ import annotations

import csv
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from ..evaluation.equal_recall import BACKGROUND, AtRecall
from ..files import csv_text, write_atomically
from ..groups import GROUPS
from .plotting import SECOND, figure_of, plain, save_figure

# The counts of each row's seeds.
Counts = Mapping[str, Mapping[int, Sequence[AtRecall]]]

_COLUMNS = (
    "method", "seed", "group", "images", "objects", "highest_recall", "recall", "threshold",
    "false_positives", "on_background",
)  # fmt: skip
_NOT_REACHED = "not reached"
_NAME, _TITLE = 22, 110  # letters a line


def write_false_positives(paths: tuple[str, str], counts: Counts) -> None:
    """The csv, a line for each row, seed, group and recall, and the png."""
    table: list[list] = [list(_COLUMNS)]
    for method, by_seed in counts.items():
        for seed, lines in by_seed.items():
            for line in lines:
                values = (
                    _NOT_REACHED if math.isnan(value) else f"{value:.8g}"
                    for value in astuple(line)[1:]
                )
                table.append([method, seed, line.group, *values])
    write_atomically(paths[0], csv_text(table))
    draw_false_positives(paths[1], counts)


def read_false_positives(path: str) -> dict[str, dict[int, list[AtRecall]]]:
    """What `write_false_positives` wrote."""
    counts: dict[str, dict[int, list[AtRecall]]] = {}
    with open(path, encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            images, objects, *rest = (
                math.nan if line[key] == _NOT_REACHED else float(line[key]) for key in _COLUMNS[3:]
            )
            of_row = counts.setdefault(line["method"], {})
            lines = of_row.setdefault(int(line["seed"]), [])
            lines.append(AtRecall(line["group"], int(images), int(objects), *rest))
    return counts


def common_recall(counts: Counts, group: str) -> float:
    """The highest recall of the group that every row reaches in every seed.

    A row that reaches none of the recalls decides nothing. nan where no row reaches one.
    """
    highest = []
    for by_seed in counts.values():
        reached = [
            {line.recall for line in _of(lines, group) if not math.isnan(line.threshold)}
            for lines in by_seed.values()
        ]
        if of_all := set.intersection(*reached):
            highest.append(max(of_all))
    return min(highest, default=math.nan)


def draw_false_positives(path: str, counts: Counts) -> None:
    """Bars of each row by group: all false positives, and those of them on background.

    Each group has the highest recall that all rows reach; see `common_recall`. The title names the
    row with the fewest, and those within its standard deviation over seeds.
    """
    every = [line for by_seed in counts.values() for lines in by_seed.values() for line in lines]
    groups = [g for g in GROUPS if any(line.objects and line.group == g for line in every)]
    columns = max(1, len(groups))
    figure, panels = figure_of(
        3.4 * columns + 1.6, 2.6 + 0.6 * len(counts), 2, columns, squeeze=False
    )
    fewest: dict[str, tuple[str, ...]] = {}
    total, alone = 0.0, 0.0
    for (above, below), group in zip(panels.T, groups):
        recall = common_recall(counts, group)
        spreads = [_spreads(counts, group, recall, of) for of in ("false_positives", "background")]
        _bars(above, counts, group, spreads[0])
        _bars(below, counts, group, {row: (100 * m, 100 * d) for row, (m, d) in spreads[1].items()})
        if spreads[0]:
            fewest[group] = _fewest(spreads[0])
        total, alone = (
            so_far + sum(mean for mean, _ in of.values())
            for so_far, of in zip((total, alone), spreads)
        )
        said = "no recall is reached" if math.isnan(recall) else f"recall {recall:.0%}"
        above.set_title(
            f"{GROUPS[group].name} classes, {said}", color=GROUPS[group].light, fontsize=10
        )
        above.set_xlabel("false positives an image", fontsize=9)
        below.set_xlabel("on background, in 100 images", fontsize=9)
        for axes in (above, below):
            axes.set_yticks(range(len(counts)), _names(counts) if group == groups[0] else [])
            axes.tick_params(labelsize=9)
    share = f"{alone / total:.1%} of the false positives" if total else "none"
    figure.suptitle(_in_words(fewest), weight="bold", fontsize=11)
    figure.supxlabel(
        "Boxes at IoU 0.5; means over seeds, bars: standard deviation; purple: with IIF. "
        f"On background (IoU below {BACKGROUND:g} with every object): {share}.",
        fontsize=8.5, color="0.3",
    )  # fmt: skip
    save_figure(figure, path)


def _spreads(
    counts: Counts, group: str, recall: float, field: str
) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation per image of the rows that reach the recall in every seed."""
    spreads = {}
    for row, by_seed in counts.items():
        at = [line for lines in by_seed.values() for line in _of(lines, group)]
        values = [getattr(line, field) / line.images for line in at if line.recall == recall]
        if values and not any(map(math.isnan, values)):
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            spreads[row] = float(np.mean(values)), deviation
    return spreads


def _bars(
    axes: Any, counts: Counts, group: str, spreads: Mapping[str, tuple[float, float]]
) -> None:
    """A bar a row, with its number, or why there is none."""
    for place, (row, by_seed) in enumerate(counts.items()):
        if row not in spreads:
            highest = [line.highest for lines in by_seed.values() for line in _of(lines, group)]
            axes.text(
                0.02, place, _not_reached(highest), fontsize=8, va="center", style="italic",
                color="0.3", transform=axes.get_yaxis_transform(),
            )  # fmt: skip
            continue
        mean, deviation = spreads[row]
        axes.barh(
            place, mean, 0.7, color=SECOND[0] if "IIF" in row else "0.62",
            xerr=deviation or None, error_kw={"elinewidth": 0.9, "ecolor": "0.2", "capsize": 2},
        )  # fmt: skip
        axes.annotate(
            f"{mean:.2g}" if mean < 100 else f"{mean:.0f}", (mean + deviation, place), (4, 0),
            textcoords="offset points", fontsize=8, va="center",
        )  # fmt: skip
    longest = max(map(sum, spreads.values()), default=0)
    if longest:
        axes.set_xlim(0, 1.25 * longest)
    else:
        axes.set(xlim=(0, 1), xticks=[])
    axes.set_ylim(len(counts) - 0.4, -0.6)


def _not_reached(highest: Sequence[float]) -> str:
    if not highest or any(map(math.isnan, highest)):
        return "no object"
    least, most = f"{min(highest):.0%}", f"{max(highest):.0%}"
    return f"not reached: finds {least if least == most else f'{least} to {most}'}"


def _fewest(spreads: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """The row with the lowest mean, and those whose mean is within its deviation."""
    best = min(spreads, key=lambda row: spreads[row])
    return tuple(row for row, (mean, _) in spreads.items() if mean <= sum(spreads[best]))


def _names(counts: Counts) -> list[str]:
    several = max(map(len, counts.values())) > 1
    names = [
        name + (" (one\N{NO-BREAK SPACE}seed)" if several and len(by_seed) == 1 else "")
        for name, by_seed in counts.items()
    ]
    return [plain(textwrap.fill(name, _NAME)) for name in names]


def _in_words(fewest: Mapping[str, tuple[str, ...]]) -> str:
    """Which rows have the fewest false positives, of {group: rows}."""
    if not fewest:
        return "No recall is reached"
    rows = {
        group: " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
        for group, names in fewest.items()
    }
    said = "; ".join(f"{names} on {GROUPS[group].name} classes" for group, names in rows.items())
    if len(set(rows.values())) == 1:
        said = rows[next(iter(rows))]
    return plain(textwrap.fill(f"Fewest false positives at equal recall: {said}", _TITLE))


def _of(lines: Sequence[AtRecall], group: str) -> list[AtRecall]:
    return [line for line in lines if line.group == group]

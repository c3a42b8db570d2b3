"""`python -m iif_d2 frequency`: a data set's long tail, and the weights IIF gives it."""

from __future__ import annotations

import argparse

import numpy as np

from ..data.frequency import annotation_file, count_class_frequency
from ..errors import ConfigError
from ..files import csv_text, read_ahead, write_atomically
from ..frequency import ClassFrequency
from ..methods import NORMALIZERS, STATISTICS, VARIANTS, iif_weights
from ..plots.frequency_plot import plot_frequency
from ..plots.plotting import GROUP_NAMES

_ENDS = 5  # classes shown of the head and of the tail


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", help="a registered data set, an LVIS or COCO json, or a table of labels"
    )
    parser.add_argument("--output", help="save the counts, for MODEL.LONG_TAIL.FREQUENCY")
    parser.add_argument("--csv", help="save counts and weights of every class")
    parser.add_argument("--plot", help="draw them, as png, svg or pdf")
    parser.add_argument("--all", action="store_true", help="print every class, not the ends only")
    parser.add_argument("--statistic", choices=STATISTICS, default="image", help="default image")
    parser.add_argument("--normalizer", choices=NORMALIZERS, default="sum", help="default sum")


def run(args: argparse.Namespace) -> str:
    """The counts and weights as a table; says what was written where."""
    path = annotation_file(args.source)
    if path:
        read_ahead(path)
    frequency = count_class_frequency(args.source)
    weights, refused = _weights(frequency, args.statistic, args.normalizer)
    groups = frequency.groups()
    lines = [
        f"{args.source}: {frequency.describe()}",
        ", ".join(f"{(groups == group).sum()} {name}" for group, name in GROUP_NAMES.items()),
        "",
        *_table(frequency, weights, args.all),
        *refused,
    ]
    if args.output:
        frequency.save(args.output)
        lines.append(f"counts written to {args.output}")
    if args.csv:
        write_atomically(args.csv, csv_text([_head(weights), *_rows(frequency, weights)]))
        lines.append(f"every class written to {args.csv}")
    if args.plot:
        title = f"{args.source}: {frequency.describe()}"
        plot_frequency(frequency, args.plot, title, weights)
        lines.append(f"plot written to {args.plot}")
    return "\n".join(lines)


def _weights(
    frequency: ClassFrequency, statistic: str, normalizer: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The weights of every variant, and a line for each that this data set cannot have."""
    weights, refused = {}, []
    for variant in VARIANTS:
        try:
            weights[variant] = iif_weights(frequency, variant, statistic, normalizer)
        except ConfigError as error:
            refused.append(f"{variant}: {error}")
    return weights, refused


def _head(weights: dict[str, np.ndarray]) -> list[str]:
    return ["class", "group", "images", "instances", *weights]


def _rows(frequency: ClassFrequency, weights: dict[str, np.ndarray]) -> list[list]:
    """A row a class, the most frequent first."""
    groups = frequency.groups()
    instances = frequency.instance_count
    order = np.argsort(-frequency.image_count, kind="stable")
    return [
        [
            frequency.class_names[index],
            groups[index],
            frequency.image_count[index],
            "" if instances is None else instances[index],
            *(f"{values[index]:.5f}" for values in weights.values()),
        ]
        for index in order
    ]


def _table(frequency: ClassFrequency, weights: dict[str, np.ndarray], whole: bool) -> list[str]:
    """Markdown, aligned."""
    rows = [[str(cell) for cell in row] for row in _rows(frequency, weights)]
    if not whole and len(rows) > 2 * _ENDS:
        rows = [*rows[:_ENDS], ["..."] * len(rows[0]), *rows[-_ENDS:]]
    rows.insert(0, _head(weights))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines

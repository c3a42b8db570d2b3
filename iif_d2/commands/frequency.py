"""`python -m iif_d2 frequency`: a data set's long tail, and the weights IIF gives it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError, UnknownNameError
from ..files import csv_text, read_ahead, write_atomically
from ..files.tables import markdown_table
from ..groups import GROUP_LIMITS, check_group_limits, group_sizes, sparse_groups
from .arguments import add_group_limits

if TYPE_CHECKING:
    import numpy as np

    from ..frequency import ClassFrequency

_ENDS = 5  # classes shown of the head and of the tail


EXAMPLE = "iif-d2 frequency train.json --plot tail.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        help="a registered data set, annotations in any format (COCO or LVIS json, YOLO's "
        "data.yaml, a folder of Pascal VOC; PATH:SPLIT of several), or a table of labels",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="save the counts, for MODEL.LONG_TAIL.FREQUENCY"
    )
    parser.add_argument("--csv", help="save counts and weights of every class")
    parser.add_argument("--plot", help="draw them, as png, svg or pdf")
    parser.add_argument("--all", action="store_true", help="print every class, not the ends only")
    parser.add_argument(
        "--dimension", action="store_true", help="measure where each class lies, too, for FRACAL"
    )
    parser.add_argument("--statistic", default="image", help="image (default) or instance")
    parser.add_argument("--normalizer", default="sum", help="sum (default) or images")
    add_group_limits(parser)


def run(args: argparse.Namespace) -> str:
    return describe_frequency(
        args.source,
        output=args.output,
        csv=args.csv,
        plot=args.plot,
        whole=args.all,
        statistic=args.statistic,
        normalizer=args.normalizer,
        dimension=args.dimension,
        group_limits=args.group_limits,
    )


def describe_frequency(
    source: str,
    *,
    output: str | None = None,
    csv: str | None = None,
    plot: str | None = None,
    whole: bool = False,
    statistic: str = "image",
    normalizer: str = "sum",
    dimension: bool = False,
    group_limits: Sequence[int] = GROUP_LIMITS,
) -> str:
    """Counts and weights as an aligned Markdown table; says what was written where.

    Args:
        source: a registered data set, annotations in any format, or a table of labels.
        output: json for the counts, which `ClassFrequency.load` reads.
        csv: file for counts and weights of every class.
        plot: png, svg or pdf for a picture of them.
        whole: show every class, not the ends only.
        statistic: see `iif_weights`.
        normalizer: see `iif_weights`.
        dimension: see `count_class_frequency`.
        group_limits: as MODEL.LONG_TAIL.GROUP_LIMITS; saved with the counts.

    Raises:
        DataError: the source cannot be counted, or a file not be written.

    Examples:
        >>> print(describe_frequency("my/train.json", plot="tail.png"))
        my/train.json: 4 classes, ...
        plot written to tail.png
    """
    from ..data.frequency import annotation_file, count_class_frequency
    from ..methods import VARIANTS, iif_weights
    from ..plots.frequency_plot import plot_frequency

    path = annotation_file(source)
    if path:
        read_ahead(path)
    check_group_limits("--group-limits", group_limits)
    counted = count_class_frequency(source, dimension=dimension)
    frequency = counted.grouped(*group_limits)
    weights, refused = {}, []  # of a variant that this data set cannot have, the reason
    for variant in VARIANTS:
        try:
            weights[variant] = iif_weights(frequency, variant, statistic, normalizer)
        except UnknownNameError:
            raise
        except ConfigError as error:
            refused.append(f"{variant}: {error}")
    measured = {"dimension": frequency.dimension} if dimension else {}
    title, groups = f"{source}: {frequency.describe()}", frequency.groups()
    rows = _rows(frequency, {**weights, **measured})
    lines = [title, sparse_groups(groups) or group_sizes(groups), "", *_table(rows, whole)]
    lines += refused
    if output:
        # LVIS's limits are nobody's choice: a config may have others.
        (counted if tuple(group_limits) == GROUP_LIMITS else frequency).save(output)
        lines.append(f"counts written to {output}; next: MODEL.LONG_TAIL.FREQUENCY {output}")
    if csv:
        write_atomically(csv, csv_text(rows))
        lines.append(f"every class written to {csv}")
    if plot:
        plot_frequency(frequency, plot, title, weights)
        lines.append(f"plot written to {plot}")
    return "\n".join(lines)


def _rows(frequency: ClassFrequency, weights: dict[str, np.ndarray]) -> list[list]:
    """The head, then a row a class, the most frequent first."""
    import numpy as np

    groups, instances = frequency.groups(), frequency.instance_count
    rows: list[list] = [["class", "group", "images", "instances", *weights]]
    for index in np.argsort(-frequency.image_count, kind="stable"):
        counts = frequency.image_count[index], "" if instances is None else instances[index]
        values = (f"{values[index]:.5f}" for values in weights.values())
        rows.append([frequency.labels[index], groups[index], *counts, *values])
    return rows


def _table(rows: list[list], whole: bool) -> list[str]:
    """Markdown, aligned."""
    head, *rows = [[str(cell) for cell in row] for row in rows]
    if not whole and len(rows) > 2 * _ENDS:
        rows = [*rows[:_ENDS], ["..."] * len(head), *rows[-_ENDS:]]
    return markdown_table([head, *rows])

"""`python -m iif_d2 frequency`: count a data set's classes and save the counts."""

from __future__ import annotations

import argparse

from ..frequency import count_class_frequency


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a registered data set, an LVIS or COCO json, or a table of labels")
    parser.add_argument("--output", help="save the counts, for MODEL.LONG_TAIL.FREQUENCY")


def run(args: argparse.Namespace) -> str:
    """The counts in a few lines; says what was written where."""
    frequency = count_class_frequency(args.source)
    groups = frequency.groups()
    lines = [
        f"{args.source}: {frequency.describe()}",
        ", ".join(
            f"{(groups == group).sum()} {name}"
            for group, name in (("r", "rare"), ("c", "common"), ("f", "frequent"))
        ),
    ]
    if args.output:
        frequency.save(args.output)
        lines.append(f"counts written to {args.output}")
    return "\n".join(lines)

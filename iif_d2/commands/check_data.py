"""`iif-d2 check-data`: what of a data set is on disk, and whether it is the right one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from ..errors import DataError

EXAMPLE = "iif-d2 check-data lvis_v1_train lvis_v1_val"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="such as lvis_v1_train")
    parser.add_argument("--plot", metavar="FOLDER", help="write <NAME>_frequency.png there")


def run(args: argparse.Namespace) -> str:
    return check_data(args.names, args.plot)


def check_data(names: Sequence[str], plot: str | None = None) -> str:
    """A report for each registered data set.

    Args:
        names: such as lvis_v1_train.
        plot: folder for a picture of each training set's counts.

    Raises:
        DataError: something is missing or not as published; the message is the whole report.
    """
    from ..data.on_disk import OnDisk
    from ..plots.frequency_plot import plot_frequency

    parts, wrong = [], 0
    for name in names:
        found = OnDisk(name)
        lines = list(found.lines)
        if plot and found.frequency is not None:
            path = os.path.join(plot, f"{name}_frequency.png")
            plot_frequency(found.frequency, path, name)
            lines.append(f"  plot written to {path}")
        parts.append("\n".join(lines))
        wrong += found.wrong
    text = "\n\n".join(parts)
    if wrong:
        raise DataError(f"{wrong} things are missing or wrong\n{text}")
    return text

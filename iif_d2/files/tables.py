"""Tables as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any


def markdown_table(rows: Iterable[Sequence[Any]]) -> list[str]:
    """Lines of Markdown, aligned; the first row names the columns.

    Examples:
        >>> print("\\n".join(markdown_table([["class", "images"], ["cat", 7]])))
        | class | images |
        |-------|--------|
        | cat   | 7      |
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        for row in texts
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The mean, ± the standard deviation of several values; "-" where one is nan.

    Examples:
        >>> spread([10.0, 20.0]), spread([10.0], digits=2)
        ('15.0 ± 7.1', '10.00')
    """
    import numpy as np  # not for --help

    if any(map(math.isnan, values)):
        return "-"
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"

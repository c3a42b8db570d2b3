"""Tables as text."""

from __future__ import annotations

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

"""The templates of the pages, and how numbers and names look in them."""

from __future__ import annotations

import math
from typing import Any

from ..errors import IIFError
from .colors import PAGE_COLORS


def render_template(name: str, **values: Any) -> str:
    """A page of this folder as one html text, which loads nothing.

    Raises:
        IIFError: Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise IIFError(f"the report needs {error.name}: pip install 'iif_d2[report]'") from None
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["number"] = number
    environment.filters["breaks"] = _breaks
    return environment.get_template(name).render(colors=PAGE_COLORS, **values)


def number(value: float | None, digits: int = 1) -> str:
    """So many digits, or a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{round(float(value), digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.0"


def _breaks(key: str) -> Any:
    """A dotted key that may go on in the next line after a dot, and nowhere else."""
    from markupsafe import Markup, escape

    return Markup(".<wbr>").join(escape(part) for part in key.split("."))

"""Checks of the options that methods take."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import ConfigError, UnknownNameError


def require_at_least(method: object, lowest: float, **options: float) -> None:
    """Raise ConfigError for the first option below `lowest`, or no finite number."""
    for name, value in options.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not lowest <= value < math.inf:
            raise ConfigError(
                f"{type(method).__name__}: {name} must be {lowest} or more, not {value!r}"
            )


def require_one_of(method: object, known: Sequence[str], **options: str) -> None:
    """Raise UnknownNameError for the first option that is none of the `known` names."""
    for name, value in options.items():
        if value not in known:
            raise UnknownNameError.of(f"{type(method).__name__} {name}", value, known)

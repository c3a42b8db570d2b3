"""The names a config may give a method, and the one function that builds from them."""

from __future__ import annotations

import inspect
from typing import Any

from fvcore.common.registry import Registry

from ..errors import ConfigError, UnknownNameError
from ..frequency import ClassFrequency
from .base import DeferredFrequency, LongTailMethod

METHOD_REGISTRY = Registry("METHOD")
METHOD_REGISTRY.__doc__ = "Subclasses of `LongTailMethod`, by the name that METHOD takes."


def build_method(
    name: str,
    frequency: ClassFrequency | DeferredFrequency,
    background: bool = True,
    **options: Any,
) -> LongTailMethod:
    """The method of this name over these class frequencies.

    Args:
        name: a key of METHOD_REGISTRY, such as "IIF".
        frequency: the training set's counts, or a promise of them.
        background: whether the last class is a background (detection) or there is none.
        options: the method's own, named as in its paper.

    Raises:
        UnknownNameError: no such method.
        ConfigError: an option the method does not have, or one it cannot work with.
    """
    if name not in METHOD_REGISTRY:
        raise UnknownNameError.of("method", name, [key for key, _ in METHOD_REGISTRY])
    method = METHOD_REGISTRY.get(name)
    known = set(inspect.signature(method).parameters) - {"frequency", "background"}
    for option in options:
        if option not in known:
            raise ConfigError(
                f"{name} has no option {option!r}; it has: {', '.join(sorted(known)) or 'none'}"
            )
    return method(frequency, background, **options)

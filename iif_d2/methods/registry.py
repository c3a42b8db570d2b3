"""The names a config may give a method, its options there, and the function that builds it."""

from __future__ import annotations

import inspect
import re
from typing import Any

from ..errors import ConfigError, UnknownNameError
from ..frequency import FrequencySource
from .base import METHOD_REGISTRY, LongTailMethod


def find_method(name: str) -> type[LongTailMethod]:
    """The class of this name.

    Raises:
        UnknownNameError: no such method.
    """
    if name not in METHOD_REGISTRY:
        raise UnknownNameError.of("method", name, [key for key, _ in METHOD_REGISTRY])
    return METHOD_REGISTRY.get(name)


def build_method(
    name: str, frequency: FrequencySource, background: bool = True, **options: Any
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

    Examples:
        >>> method = build_method("IIF", count_class_frequency("lvis_v1_train"), variant="base10")
        >>> logits, labels = torch.zeros(2, method.num_logits), torch.tensor([0, 1203])
        >>> method.loss(logits, labels)  # ln 1204, the background being the last class
        tensor(7.0934)
        >>> method.probabilities(logits).shape
        torch.Size([2, 1204])
    """
    method = find_method(name)
    known = _parameters(method)
    for option in options:
        if option not in known:
            raise ConfigError(
                f"{name} has no option {option!r}; it has: {', '.join(sorted(known)) or 'none'}"
            )
    return method(frequency, background, **options)


def default_options(method: type[LongTailMethod]) -> dict[str, Any]:
    """The options that a config may set, with the defaults of the method's `__init__`."""
    given = method.given_by_model
    return {name: value for name, value in _parameters(method).items() if name not in given}


def option_meanings(method: type[LongTailMethod]) -> dict[str, str]:
    """What the `Args` of its docstring, or of a parent's, say of each of these options."""
    said: dict[str, str] = {}
    for kind in reversed(method.__mro__):
        _, _, args = inspect.cleandoc(kind.__doc__ or "").partition("\nArgs:\n")
        for name, text in re.findall(r"^ {4}(\w+): (.+(?:\n {5,}.+)*)", args, re.MULTILINE):
            said[name] = " ".join(text.split())
    return {name: said.get(name, "") for name in default_options(method)}


def config_node(method: type[LongTailMethod]) -> dict[str, Any]:
    """A config's node for a method: its options as keys; empty where it has none."""
    return {name.upper(): value for name, value in default_options(method).items()}


def method_options(cfg: Any, *names: str) -> dict[str, Any]:
    """The options of the method that MODEL.LONG_TAIL names, as `build_method` takes them.

    A method that stands on another, its `base`, gets the options of that one's node as
    `base_options`.

    Args:
        names: of another method than MODEL.LONG_TAIL's: itself, behind those that stand on it.

    Raises:
        UnknownNameError: no such method.
        ConfigError: a method stands on itself.
    """
    *above, name = names or (cfg.MODEL.LONG_TAIL.METHOD,)
    if name in above:
        raise ConfigError(
            f"MODEL.LONG_TAIL: {' over '.join([*above, name])}, which has no end; name another "
            f"method in MODEL.LONG_TAIL.{above[-1]}"
        )
    options = {key.lower(): value for key, value in cfg.MODEL.LONG_TAIL.get(name, {}).items()}
    for key in find_method(name).given_by_model:
        if key == "max_iter":
            options[key] = cfg.SOLVER.MAX_ITER
        elif key.endswith("_options"):
            options[key] = method_options(cfg, *above, name, options[key.removesuffix("_options")])
    return options


def _parameters(method: type[LongTailMethod]) -> dict[str, Any]:
    parameters = inspect.signature(method).parameters
    shared = ("frequency", "background")
    return {name: p.default for name, p in parameters.items() if name not in shared}

"""IIF and every method it is compared with, as modules over logits. Never imports Detectron2.

A method is a file of this folder; its module is found here, and its name is METHOD_REGISTRY's.
"""

from importlib import import_module
from pkgutil import iter_modules

from ..frequency import DeferredFrequency
from .base import METHOD_REGISTRY, LongTailMethod, Reads
from .binary import BinaryMethod
from .iif import IIF
from .registry import (
    build_method,
    config_node,
    default_options,
    find_method,
    method_options,
    option_meanings,
)
from .weights import NORMALIZERS, STATISTICS, VARIANTS, iif_weights

__all__ = [
    "BinaryMethod",
    "DeferredFrequency",
    "IIF",
    "LongTailMethod",
    "METHOD_REGISTRY",
    "NORMALIZERS",
    "Reads",
    "STATISTICS",
    "VARIANTS",
    "build_method",
    "config_node",
    "default_options",
    "find_method",
    "iif_weights",
    "method_options",
    "option_meanings",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

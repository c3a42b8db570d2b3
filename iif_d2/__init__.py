"""Inverse Image Frequency for long-tailed detection on Detectron2, and the methods beside it.

Names are resolved when first used, so that `iif_d2.frequency` and `iif_d2.methods` work without
Detectron2 installed.
"""

from importlib import import_module

__version__ = "0.2.0"

_HOME = {
    "ClassFrequency": "frequency",
    "count_class_frequency": "data.frequency",
    "iif_weights": "methods",
    "add_iif_config": "config",
    "register_long_tail_instances": "data.registration",
    "apply_method": "modeling",
    "apply_class_specific": "modeling",
    "fold_checkpoint": "checkpoint",
    "load": "engine.detector",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'iif_d2' has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__])

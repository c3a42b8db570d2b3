"""The configured method: this project's own, or one of `iif_d2.methods` without a background."""

from __future__ import annotations

import inspect

from fvcore.common.config import CfgNode

from iif_d2.frequency import ClassFrequency
from iif_d2.methods import METHOD_REGISTRY, LongTailMethod, build_method

from .ride import RIDE

OWN_METHODS = {"RIDE": RIDE}  # for several experts, so of no use to a detection head


def build_configured_method(
    cfg: CfgNode, frequency: ClassFrequency, num_features: int
) -> LongTailMethod:
    """METHOD.NAME with the options of the node of that name.

    A method that takes `scale` or `feature_dim` gets the classifier's, and `deferred_epoch` comes
    from METHOD.DEFERRED_FROM, so that no number has to be written twice.

    Raises:
        UnknownNameError: no such method.
        ConfigError: an option that the method does not have or cannot work with.
    """
    name = cfg.METHOD.NAME
    options = {key.lower(): value for key, value in cfg.METHOD.get(name, {}).items()}
    known = method_options(name)
    shared = {
        "scale": cfg.MODEL.COSINE_SCALE,
        "feature_dim": num_features,
        "deferred_epoch": round(cfg.METHOD.DEFERRED_FROM * cfg.SOLVER.EPOCHS),
    }
    options.update((key, value) for key, value in shared.items() if key in known)
    if name in OWN_METHODS:
        return OWN_METHODS[name](frequency, **options)
    return build_method(name, frequency, background=False, **options)


def method_options(name: str) -> set[str]:
    """The names of a method's options; none for a name that is unknown."""
    method = OWN_METHODS.get(name)
    if method is None and name in METHOD_REGISTRY:
        method = METHOD_REGISTRY.get(name)
    if method is None:
        return set()
    return set(inspect.signature(method).parameters) - {"frequency", "background"}

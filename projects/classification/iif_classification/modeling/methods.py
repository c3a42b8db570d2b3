"""The configured method: this project's own, or one of `iif_d2.methods` without a background."""

from __future__ import annotations

from fvcore.common.config import CfgNode

from iif_d2.frequency import ClassFrequency
from iif_d2.methods import LongTailMethod, build_method, find_method

from ..methods_config import OWN_METHODS


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
    method = OWN_METHODS.get(name) or find_method(name)
    given = {
        "scale": cfg.MODEL.COSINE_SCALE,
        "feature_dim": num_features,
        "deferred_epoch": round(cfg.METHOD.DEFERRED_FROM * cfg.SOLVER.EPOCHS),
    }
    options = {key.lower(): value for key, value in cfg.METHOD.get(name, {}).items()}
    options.update({key: given[key] for key in method.given_by_model if key in given})
    if name in OWN_METHODS:
        return method(frequency, **options)
    return build_method(name, frequency, background=False, **options)

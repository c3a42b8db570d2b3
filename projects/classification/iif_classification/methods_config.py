"""The METHOD node: which method, and a sub-node of options for each, from its signature."""

from __future__ import annotations

from fvcore.common.config import CfgNode as CN

from iif_d2.methods import METHOD_REGISTRY, config_node

from .ride import RIDE

OWN_METHODS = {"RIDE": RIDE}  # for several experts, so of no use to a detection head
# What the papers' recipes for classification set, where a method's own default is another.
_RECIPE = {"IIF": {"VARIANT": "smooth"}, "DisAlign": {"RHO": 1.2}}


def add_method_config(cfg: CN) -> None:
    """Add METHOD: `python -m iif_d2 config METHOD` says what the options of one mean."""
    _C = cfg.METHOD = CN()
    # A key of iif_d2.methods.METHOD_REGISTRY that works without a background, or "RIDE" (with
    # MODEL.EXPERTS > 1). "Softmax" is plain cross-entropy. LDAM and RIDE are for the classifier
    # "normed"; DisAlign is a second stage, with MODEL.FREEZE "model".
    _C.NAME = "Softmax"
    # Part of EPOCHS, in [0, 1], from which LDAM and RIDE reweigh classes; .8 is 160 of 200 (Cao et
    # al.).
    _C.DEFERRED_FROM = 0.8
    for name, method in (*METHOD_REGISTRY, *OWN_METHODS.items()):
        if method.supports_no_background and (node := config_node(method)):
            _C[name] = CN({**node, **_RECIPE.get(name, {})})

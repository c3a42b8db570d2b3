"""Whose class frequencies a run uses: a checkpoint's or the config's; counted before it starts."""

from __future__ import annotations

import logging

import numpy as np
from detectron2.config import CfgNode
from torch import nn

from ..data import config_frequency, known_frequency
from ..errors import IIFError
from ..frequency import ClassFrequency
from ..groups import group_sizes
from ..methods import LongTailMethod

logger = logging.getLogger(__name__)


def settle_frequencies(model: nn.Module, training: bool, checkpoint: str) -> None:
    """Give every method in the model its class frequencies.

    A checkpoint brings the table its weights were trained with, and which classes were rare in it.
    Where the config's is another one, both are named: evaluation keeps the checkpoint's, training
    takes the config's. The groups of a checkpoint of version 0.1.0, which has none, are the
    config's.

    Raises:
        IIFError: the frequencies are needed and cannot be had.
    """
    told = False
    for method in model.modules():
        if not isinstance(method, LongTailMethod) or not method.uses_frequency:
            continue
        loaded = method.loaded_frequency
        if loaded is None:
            method.use_source()
            continue
        try:
            source = method.source_frequency()
        except IIFError:
            if training:
                raise
            continue  # a checkpoint alone is enough for inference
        if not loaded.same_counts(source):
            if not told:
                logger.warning(
                    "class frequencies differ: checkpoint %s has %s; %s has %s. %s are used.",
                    checkpoint, loaded.describe(), method.source_name(), source.describe(),
                    f"Those of {method.source_name()}" if training else "The checkpoint's",
                )  # fmt: skip
                told = True
            if training:
                method.use_source()
        elif loaded.class_groups is None:
            method.use_groups(source.groups())
        elif not np.array_equal(loaded.groups(), source.groups()):
            if not told:
                logger.warning(
                    "groups of classes differ: checkpoint %s has %s; %s has %s. %s are used.",
                    checkpoint, group_sizes(loaded.groups()), method.source_name(),
                    group_sizes(source.groups()),
                    f"Those of {method.source_name()}" if training else "The checkpoint's",
                )  # fmt: skip
                told = True
            if training:
                method.use_source()


def model_frequency(model: nn.Module) -> ClassFrequency | None:
    """The counts and groups that the model's method has in force; None if it needs none."""
    for method in model.modules():
        if isinstance(method, LongTailMethod) and method.uses_frequency:
            try:
                return method.frequency
            except IIFError:
                return None
    return None


def trained_frequency(cfg: CfgNode, model: nn.Module) -> ClassFrequency | None:
    """Counts and groups for all that is said of a loaded model's classes.

    Its checkpoint's, else the config's; None where neither can be had.
    """
    found = model_frequency(model)
    if found is None:
        found = known_frequency(config_frequency(cfg))
    return found and found.grouped(*cfg.MODEL.LONG_TAIL.GROUP_LIMITS)

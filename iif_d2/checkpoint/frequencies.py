"""Whose class frequencies a run uses: a checkpoint's or the config's; counted before it starts."""

from __future__ import annotations

import logging

from torch import nn

from ..errors import IIFError
from ..methods import LongTailMethod

logger = logging.getLogger(__name__)


def settle_frequencies(model: nn.Module, training: bool, checkpoint: str) -> None:
    """Give every method in the model its class frequencies.

    A checkpoint brings the table its weights were trained with. Where the config's is another
    one, both are named: evaluation keeps the checkpoint's, training takes the config's.

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

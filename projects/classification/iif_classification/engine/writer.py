"""Scalars for TensorBoard, where it is installed."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


class ScalarWriter:
    """Writes scalars under a folder; does nothing on other ranks or without TensorBoard."""

    def __init__(self, folder: str, enabled: bool) -> None:
        self._writer = None
        if not enabled:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.warning("TensorBoard is not installed; there will be no event files")
            return
        self._writer = SummaryWriter(folder)

    def add(self, scalars: dict[str, float], step: int) -> None:
        """Add each named value at this step."""
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, step)

    def __enter__(self) -> ScalarWriter:
        return self

    def __exit__(self, *exception) -> None:
        if self._writer is not None:
            self._writer.close()

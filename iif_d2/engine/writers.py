"""Weights & Biases and MLflow beside Detectron2's own writers, when a config asks for them."""

from __future__ import annotations

import os
from collections import defaultdict
from importlib import import_module
from types import ModuleType

import yaml
from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage

from ..errors import ConfigError, UnknownNameError

_WINDOW = 20  # iterations that losses are smoothed over, as for TensorBoard


class _ScalarWriter(EventWriter):
    """Gives every new scalar of the storage to `_log`, an iteration at a time."""

    def __init__(self) -> None:
        self._last = -1

    def write(self) -> None:
        new: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, step) in get_event_storage().latest_with_smoothing_hint(_WINDOW).items():
            if step > self._last:
                new[step][name] = value
        for step in sorted(new):
            self._log(new[step], step)
        self._last = max(new, default=self._last)

    def _log(self, values: dict[str, float], step: int) -> None:
        raise NotImplementedError


class WandbWriter(_ScalarWriter):
    """Weights & Biases: a run named after OUTPUT_DIR, in project "iif_d2" or $WANDB_PROJECT."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self._run = _library("wandb").init(
            project=os.environ.get("WANDB_PROJECT", "iif_d2"),
            name=_run_name(cfg),
            dir=cfg.OUTPUT_DIR,
            config=yaml.safe_load(cfg.dump()),
        )

    def _log(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


class MLflowWriter(_ScalarWriter):
    """MLflow: a run named after OUTPUT_DIR, where MLFLOW_TRACKING_URI says."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self._mlflow = _library("mlflow")
        self._mlflow.start_run(run_name=_run_name(cfg))
        self._mlflow.log_text(cfg.dump(), "config.yaml")

    def _log(self, values: dict[str, float], step: int) -> None:
        self._mlflow.log_metrics(values, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


WRITERS = {"wandb": WandbWriter, "mlflow": MLflowWriter}


def extra_writers(cfg: CfgNode) -> list[EventWriter]:
    """The writers that LOG.WRITERS names.

    Raises:
        UnknownNameError: one of them is not known.
        ConfigError: its library is not installed.
    """
    for name in cfg.LOG.WRITERS:
        if name not in WRITERS:
            raise UnknownNameError.of("LOG.WRITERS", name, WRITERS)
    return [WRITERS[name](cfg) for name in cfg.LOG.WRITERS]


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise ConfigError(
            f"LOG.WRITERS names {name}, which is not installed: pip install {name}"
        ) from None


def _run_name(cfg: CfgNode) -> str:
    return os.path.basename(os.path.abspath(cfg.OUTPUT_DIR))

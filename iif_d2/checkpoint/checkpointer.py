"""Detectron2's checkpointer, with checkpoints written whole and misfits said in plain words."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any, Optional
from urllib.parse import parse_qs

import torch
from detectron2.checkpoint import DetectionCheckpointer

from ..errors import CheckpointError, IIFError
from ..methods import LongTailMethod
from .reading import read_checkpoint

logger = logging.getLogger(__name__)


class LongTailCheckpointer(DetectionCheckpointer):
    """Saves and loads as `DetectionCheckpointer` does.

    Attributes:
        strict_shapes: refuse a checkpoint whose layers have other sizes, as resuming and evaluating
            need. Otherwise such layers keep their fresh start and are named, which is what
            fine-tuning from another data set wants.
    """

    strict_shapes = False

    def save(self, name: str, **kwargs: Any) -> None:
        """Write `<name>.pth` in one step, so that a killed run leaves no half a checkpoint."""
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data.update({key: obj.state_dict() for key, obj in self.checkpointables.items()})
        data.update(kwargs)
        path = os.path.join(self.save_dir, f"{name}.pth")
        logger.info("Saving checkpoint to %s", path)
        descriptor, temporary = tempfile.mkstemp(dir=self.save_dir, prefix=f".{name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                torch.save(data, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
            os.remove(temporary)
            raise CheckpointError(
                f"{path} cannot be written: {error}; earlier checkpoints are as they were"
            ) from None
        self.tag_last_checkpoint(f"{name}.pth")

    def load(self, path: str, checkpointables: Optional[list[str]] = None) -> dict[str, Any]:
        """Load a checkpoint or a model-zoo file.

        Raises:
            CheckpointError: it is missing or damaged, or of other sizes where that is refused.
        """
        if path and "://" not in path and not os.path.isfile(path.partition("?")[0]):
            raise CheckpointError(f"checkpoint {path} does not exist; check MODEL.WEIGHTS")
        self._path = path
        self._parsed_url_during_load = None  # Detectron2 leaves it set where a load failed
        try:
            data = super().load(path, checkpointables)
        except IIFError:
            raise
        except Exception as error:  # as many kinds as there are states to put back
            raise CheckpointError(
                f"checkpoint {path} cannot be loaded: {_first_line(error)}; "
                f"use it with the config it was trained with"
            ) from error
        self._check_folded(data)
        return data

    def _load_file(self, filename: str) -> dict[str, Any]:
        """As `DetectionCheckpointer`'s, but nothing that a file holds is run."""
        content = read_checkpoint(filename)
        query = parse_qs(self._path.partition("?")[2])
        if query.pop("matching_heuristics", None) == ["True"]:
            content["matching_heuristics"] = True
        if query:
            raise CheckpointError(
                f"MODEL.WEIGHTS {self._path} asks for {', '.join(query)}; all that may follow the "
                f"'?' is matching_heuristics=True"
            )
        return content

    def _check_folded(self, data: dict[str, Any]) -> None:
        """Weights that `fold_checkpoint` has adjusted must not be adjusted a second time."""
        methods = [m for m in self.model.modules() if isinstance(m, LongTailMethod)]
        if "folded" not in data or not any(method.uses_frequency for method in methods):
            return
        message = (
            f"checkpoint {self._path} has {data['folded']['method']} folded in already; "
            f"set MODEL.LONG_TAIL.METHOD to Softmax or Sigmoid"
        )
        if self.strict_shapes:
            raise CheckpointError(message)
        logger.warning("%s unless that is meant", message)

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        misfits = incompatible.incorrect_shapes
        if misfits:
            listing = "; ".join(f"{key} {theirs} for {ours}" for key, theirs, ours in misfits)
            classes = _class_counts(misfits)
            if self.strict_shapes:
                raise CheckpointError(
                    f"checkpoint {self._path} does not fit the model{classes} ({listing}); "
                    f"evaluate and resume with the config it was trained with"
                )
            logger.warning(
                "%s does not fit the model%s; these layers start anew: %s",
                self._path, classes, listing,
            )  # fmt: skip
        super()._log_incompatible_keys(incompatible._replace(incorrect_shapes=[]))


def _class_counts(misfits: list[tuple[str, tuple, tuple]]) -> str:
    """The two numbers of classes, where a classifier is among the misfits."""
    for key, theirs, ours in misfits:
        if key.endswith("cls_score.bias"):
            return f": it has {theirs[0] - 1} classes, MODEL.ROI_HEADS.NUM_CLASSES is {ours[0] - 1}"
    return ""


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)

"""Checkpoint files to dicts of tensors and arrays, without running anything that is in them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from ..errors import CheckpointError
from ..files.untrusted import load_plain_pickle, load_tensors


def read_checkpoint(path: str) -> dict[str, Any]:
    """A checkpoint as Detectron2 loads it: `model`, a dict of tensors or arrays, and what else.

    As in Detectron2, the name's ending says the kind: `.pkl` is Detectron2's or Caffe2's model zoo,
    `.pyth` is pycls, anything else is torch's own.

    Raises:
        CheckpointError: it is missing, damaged or no checkpoint, or holds what could run.
    """
    if not os.path.isfile(path):  # reading a pipe would never end
        raise CheckpointError(f"checkpoint {path} is no file; check MODEL.WEIGHTS")
    try:
        read = load_plain_pickle if path.endswith(".pkl") else load_tensors
        content = _as_detectron2(path, read(path))
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file raises all kinds
        raise CheckpointError(
            f"checkpoint {path} cannot be read: {_reason(error)}; it is cut short, no "
            f"checkpoint, or holds more than weights (save its weights alone where you trust it)"
        ) from None
    weights = content["model"]
    if not isinstance(weights, dict) or not weights:
        raise CheckpointError(
            f"checkpoint {path} has no dict of weights as its 'model'; give one that training or "
            f"`python -m iif_d2 convert` wrote"
        )
    for key, value in weights.items():
        if not isinstance(key, str) or not isinstance(value, (torch.Tensor, np.ndarray)):
            raise CheckpointError(
                f"checkpoint {path}: {key!r} in its 'model' is a {type(value).__name__}, where "
                f"weights are tensors or arrays under their names; give a checkpoint of a model"
            )
    return content


def _as_detectron2(path: str, content: Any) -> dict[str, Any]:
    if path.endswith(".pkl"):
        if "model" in content and "__author__" in content:
            return content
        # ImageNet models come without "blobs"
        weights, author, unwanted = content.get("blobs", content), "Caffe2", "_momentum"
    elif path.endswith(".pyth"):
        weights, author, unwanted = content["model_state"], "pycls", "num_batches_tracked"
    else:
        return content if "model" in content else {"model": content}
    weights = {key: value for key, value in weights.items() if not key.endswith(unwanted)}
    return {"model": weights, "__author__": author, "matching_heuristics": True}


def _reason(error: Exception) -> str:
    """The first sentence, without torch's advice to load the file unsafely."""
    _, _, reason = str(error).rpartition("WeightsUnpickler error: ")
    line = next(iter(reason.splitlines()), "") or type(error).__name__
    return line.partition(". ")[0]

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

    The name's end says the kind, as there: `.pkl` is Detectron2's or Caffe2's model zoo, `.pyth`
    pycls, and anything else torch's own. In a pickle only numpy arrays and plain containers are
    admitted, in torch's files what `weights_only` admits.

    Raises:
        CheckpointError: it is missing, damaged or no checkpoint, or has in it what could run.
    """
    try:
        _check_regular(path)
        if path.endswith(".pkl"):
            content = _from_zoo(load_plain_pickle(path))
        else:
            content = load_tensors(path)
            content = _from_pycls(content) if path.endswith(".pyth") else _with_model(content)
    except CheckpointError:
        raise
    except Exception as error:  # what a damaged file raises is up to where it breaks
        raise CheckpointError(
            f"checkpoint {path} cannot be read: {_first_sentence(error)}; it is cut short, no "
            f"checkpoint, or holds more than weights (save its weights alone where you trust it)"
        ) from None
    _check_weights(path, content["model"])
    return content


def _from_zoo(content: Any) -> dict[str, Any]:
    if "model" in content and "__author__" in content:
        return content
    weights = content.get("blobs", content)  # ImageNet models come without "blobs"
    weights = {key: value for key, value in weights.items() if not key.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def _from_pycls(content: Any) -> dict[str, Any]:
    weights = {
        key: value
        for key, value in content["model_state"].items()
        if not key.endswith("num_batches_tracked")
    }
    return {"model": weights, "__author__": "pycls", "matching_heuristics": True}


def _with_model(content: Any) -> dict[str, Any]:
    return content if "model" in content else {"model": content}


def _check_weights(path: str, weights: Any) -> None:
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


def _check_regular(path: str) -> None:
    """A pipe would be waited for, forever."""
    if not os.path.isfile(path):
        raise CheckpointError(f"checkpoint {path} is no file; check MODEL.WEIGHTS")


def _first_sentence(error: Exception) -> str:
    """torch advises to load without weights_only, which is what must not be done."""
    _, _, reason = str(error).rpartition("WeightsUnpickler error: ")
    line = next(iter(reason.splitlines()), "") or type(error).__name__
    return line.partition(". ")[0]

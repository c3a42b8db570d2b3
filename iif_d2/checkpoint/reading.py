"""Checkpoint files to dicts of tensors and arrays, without running anything that is in them."""

from __future__ import annotations

import os
from collections.abc import Container
from typing import Any

import numpy as np
import torch

from ..errors import CheckpointError
from ..files.state_dict import load_state_dict
from ..files.untrusted import load_plain_pickle, load_tensors
from .folder import package_notes

# Where training loops keep the weights, the plain ones before averages of them.
_CONTAINERS = (
    "model", "state_dict", "model_state_dict", "module",
    "ema_state", "model_ema", "ema", "state_dict_ema", "ema_state_dict",
)  # fmt: skip
_DEPTH = 3  # containers in one another
# What parts of a name torch's wrappers add: of ranks, torch.compile, FSDP, activation checkpoints.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_HOLDERS = ("model.", "ema_model.", "model_ema.", "ema.")  # what training loops call their model


def read_checkpoint(path: str, mapped: bool = False) -> dict[str, Any]:
    """A checkpoint as Detectron2 loads it: `model`, a dict of tensors or arrays, and what else.

    As in Detectron2, the name's ending says the kind: `.pkl` is Detectron2's or Caffe2's model zoo,
    `.pyth` is pycls, anything else but `.safetensors` is torch's own. A torch file may keep the
    weights in the usual containers of training loops, "state_dict" or "ema_state" for example.
    Beside a package's `.safetensors` lie the files with the rest; see `folder.py`.

    Args:
        mapped: leave a torch file's tensors in it until they are looked at.

    Raises:
        CheckpointError: it is missing, damaged or no checkpoint, or holds what could run.
    """
    if not os.path.isfile(path):  # reading a pipe would never end
        raise CheckpointError(f"checkpoint {path} is no file; check MODEL.WEIGHTS")
    try:
        if path.endswith(".safetensors"):
            content = {**package_notes(path), "model": load_state_dict(path)}
        elif path.endswith(".pkl"):
            content = _as_detectron2(path, load_plain_pickle(path))
        else:
            content = _as_detectron2(path, load_tensors(path, mapped))
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
        weights = inner_weights(content)
        return {"model": weights} if weights is content else {**content, "model": weights}
    weights = {key: value for key, value in weights.items() if not key.endswith(unwanted)}
    return {"model": weights, "__author__": author, "matching_heuristics": True}


def inner_weights(content: Any) -> Any:
    """What lies in the containers of training loops; without one, the content itself."""
    for _ in range(_DEPTH):
        if not isinstance(content, dict):
            break
        if "model" in content:  # this package's and Detectron2's, whatever else is there
            content = content["model"]
            continue
        inside = [content[name] for name in _CONTAINERS if isinstance(content.get(name), dict)]
        if not inside:
            break
        content = inside[0]
    return content


def plain_name(key: str) -> str:
    """A weight's name without what torch's wrappers add."""
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def unwrapped(weights: dict[str, Any], own: Container[str]) -> dict[str, Any]:
    """Weights under the model's own names, where only known wrappers keep them from it.

    Args:
        own: the names of the model's weights. A key that is one of them, or cannot be made one, is
            left alone.
    """
    names: dict[str, str] = {key: key for key in weights if key in own}  # the model's, the file's
    for holder in ("", *_HOLDERS):
        for key in weights:
            name = plain_name(key).removeprefix(holder)
            if key not in own and name in own:
                names.setdefault(name, key)
    placed = {key: name for name, key in names.items()}
    if all(key == name for key, name in placed.items()):
        return weights
    renamed = type(weights)((placed.get(key, key), value) for key, value in weights.items())
    versions = getattr(weights, "_metadata", None)  # of the modules, which torch looks at
    if versions is not None:
        renamed._metadata = type(versions)((plain_name(key), v) for key, v in versions.items())
    return renamed


def _reason(error: Exception) -> str:
    """The first sentence, without torch's advice to load the file unsafely."""
    _, _, reason = str(error).rpartition("WeightsUnpickler error: ")
    line = next(iter(reason.splitlines()), "") or type(error).__name__
    return line.partition(". ")[0]

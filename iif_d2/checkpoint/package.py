"""Writing a trained model as a folder in the Hugging Face layout; `folder.py` reads it."""

from __future__ import annotations

import os
import secrets
import shutil
from typing import Any

import msgspec
import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from .. import __version__
from ..config import without_files
from ..errors import ConfigError, DataError
from ..files import write_atomically
from ..frequency import ClassFrequency
from .checkpointer import method_records
from .folder import CARD, CONFIG_FILE, FREQUENCY_FILE, NOTES_FILE, WEIGHTS, Notes

_LARGEST_HALF = 65504.0  # in float16


def write_package(
    output: str | os.PathLike,
    model: nn.Module,
    cfg: CfgNode,
    card: str,
    *,
    class_names: list[str],
    frequency: ClassFrequency | None = None,
    folded: dict[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write the folder, all of it or nothing.

    Args:
        output: the folder, which must be new or empty.
        cfg: the model's config; what it names of files stays behind.
        card: the text of README.md.
        folded: of a folded checkpoint, see `fold_checkpoint`.
        half: write float32 weights as float16, all but a method's and those beyond its range.

    Raises:
        ConfigError: the folder has something in it, or safetensors is not installed.
        DataError: it cannot be written.
    """
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise ConfigError("safetensors is missing: pip install safetensors") from None
    output = os.path.abspath(output)
    check_new(output)
    records = method_records(model)
    kept = tuple(f"{path}." if path else "" for path in records)
    notes = Notes(
        library_version=__version__, class_names=class_names, methods=records, folded=folded
    )
    # Beside it, on the same drive, so that it can take its name in one step.
    temporary = os.path.join(
        os.path.dirname(output), f".{os.path.basename(output)}.{secrets.token_hex(4)}"
    )
    try:
        os.makedirs(temporary)
        weights = {key: _stored(value, half and not key.startswith(kept))
                   for key, value in model.state_dict().items()}  # fmt: skip
        save_file(weights, os.path.join(temporary, WEIGHTS), metadata={"format": "pt"})
        texts: dict[str, bytes | str] = {
            CONFIG_FILE: without_files(cfg).dump(),
            NOTES_FILE: msgspec.json.format(msgspec.json.encode(notes), indent=1),
            CARD: card,
        }
        if frequency is not None:
            texts[FREQUENCY_FILE] = frequency.to_json()
        for name, text in texts.items():
            write_atomically(os.path.join(temporary, name), text)
        os.replace(temporary, output)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            raise DataError(f"{output} cannot be written: {error}; make room there") from None
        raise


def check_new(output: str | os.PathLike) -> None:
    """Raise `ConfigError` unless the folder is new or empty."""
    if os.path.lexists(output) and not (os.path.isdir(output) and not os.listdir(output)):
        raise ConfigError(f"{os.fspath(output)} is there already; remove it, or choose another")


def _stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    if half and value.dtype == torch.float32 and (value.abs() <= _LARGEST_HALF).all():
        return value.half()
    return value.clone()  # safetensors refuses two names for one memory

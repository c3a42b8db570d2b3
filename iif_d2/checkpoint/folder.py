"""A folder that holds a trained model, in the Hugging Face layout: its files, and reading them."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from ..annotations.decoding import decode_json
from ..errors import CheckpointError, DataError

WEIGHTS, CONFIG_FILE, NOTES_FILE = "model.safetensors", "config.yaml", "config.json"
FREQUENCY_FILE, CARD = "class_frequency.json", "README.md"
_MOST_BYTES = 64 << 20  # of a text beside the weights; counts of 100,000 classes have 3 MB


class _Kind(msgspec.Struct):
    format: Any = None


class Notes(msgspec.Struct, tag_field="format", tag="iif_d2.package", omit_defaults=True):
    """What `config.json` says of a model beside its config.

    Attributes:
        class_names: C names, or None where they are not known.
        methods, folded: as a checkpoint has them.
    """

    library_name: str = "iif_d2"
    library_version: str = ""
    class_names: list[str] | None = None
    methods: dict[str, dict[str, str]] = {}
    folded: dict[str, Any] | None = None


def weights_file(path: str | os.PathLike) -> str:
    """The checkpoint itself, of a path to one or to a package's folder.

    Raises:
        CheckpointError: it is an address, there is nothing, or the folder is no package.
    """
    path = os.fspath(path)
    if "://" in path:
        raise CheckpointError(f"{path} is an address; download it, and give the file or the folder")
    if not os.path.exists(path):
        raise CheckpointError(
            f"{path} does not exist; give a checkpoint's file or a package's folder"
        )
    inside = os.path.join(path, WEIGHTS)
    if not os.path.isdir(path):
        return path
    if os.path.isfile(inside):
        return inside
    raise CheckpointError(
        f"{path} has no {WEIGHTS}; give a folder of `iif-d2 package`, or a checkpoint's file"
    )


def package_notes(weights: str) -> dict[str, Any]:
    """What a checkpoint of torch's would carry beside weights, of a package's `.safetensors`.

    Nothing where no package's config.json lies beside it.

    Raises:
        CheckpointError: a file of the package is damaged.
    """
    folder = os.path.dirname(os.path.abspath(weights))
    path = os.path.join(folder, NOTES_FILE)
    if not os.path.isfile(path):
        return {}
    try:
        if decode_json(path, _Kind, "a json object").format != "iif_d2.package":
            return {}  # another program's
        notes = decode_json(path, Notes, "the config.json of a package")
    except DataError as error:
        raise CheckpointError(str(error)) from None
    carried = {
        "class_names": notes.class_names,
        "methods": notes.methods,
        "folded": notes.folded,
        "config": _text(os.path.join(folder, CONFIG_FILE)),
        "class_frequency": _text(os.path.join(folder, FREQUENCY_FILE)),
    }
    return {key: value for key, value in carried.items() if value is not None}


def _text(path: str) -> str | None:
    if not os.path.isfile(path):
        return None
    try:
        if os.path.getsize(path) > _MOST_BYTES:
            raise CheckpointError(f"{path} has more than {_MOST_BYTES:,} bytes; package it again")
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; copy it again") from None

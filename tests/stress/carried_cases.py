"""Checkpoints whose own config or counts are not what they should be, for `iif_d2.load`."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .bad_cases import ODD_FILES, Case, _cases, config_cases, flipped

_WEIGHTS = {"weight": torch.ones(2, 2)}


def carried_cases() -> Iterator[Case]:
    """Every config that a file may be, carried by a checkpoint; and models of any size."""
    for case in config_cases():
        if case.kind not in ODD_FILES:
            write = partial(_carrying, case.write)
            yield case._replace(
                kind=f"carried: {case.kind}", reads="load", suffix=".pth", write=write, field=""
            )
    large = {
        "MODEL.ROI_HEADS": {"NUM_CLASSES": 10**12},
        "MODEL.ROI_BOX_HEAD": {"NUM_FC": 10**9},
        "MODEL.ROI_MASK_HEAD": {"NUM_CONV": 10**9},
        "MODEL.ANCHOR_GENERATOR": {"SIZES": [[8.0] * 50_000]},
        "MODEL.RESNETS": {"STEM_OUT_CHANNELS": 10**9},
        "MODEL.FPN": {"OUT_CHANNELS": 2**62},
    }
    texts = [f"{section.replace('.', ': {')}: {value}}}" for section, value in large.items()]
    kinds: dict[str, list] = {
        "config of a larger model": texts,
        "config of another kind": [3, [], {}, b"MODEL: {}", torch.ones(2)],
    }
    yield from _cases("load", {
        kind: [partial(_save, {"config": value}) for value in values] for kind, values in kinds.items()
    }, ".pth")  # fmt: skip
    counts = ["", "{", "[]", '{"format": "iif_d2.ClassFrequency"}', "\ud800", "null"]
    yield from _cases("load", {
        "counts of another kind": [partial(_save, {"config": "VERSION: 2", "class_frequency": v}) for v in counts],
    }, ".pth")  # fmt: skip
    buffer = io.BytesIO()
    torch.save({"model": _WEIGHTS, "config": "VERSION: 2"}, buffer)
    for suffix in (".pth", ".safetensors"):
        whole = _safetensors() if suffix == ".safetensors" else buffer.getvalue()
        yield from _cases("load", {
            "truncated model": [whole[: len(whole) * part // 8] for part in range(1, 8)],
            "model with other bytes": [flipped(whole, seed) for seed in range(8)],
            **ODD_FILES,
        }, suffix)  # fmt: skip


def _save(more: dict[str, Any], path: Path) -> None:
    torch.save({"model": _WEIGHTS, **more}, path)


def _carrying(write: Callable[[Path], Any], path: Path) -> None:
    write(path)
    text = path.read_bytes().decode("utf-8", "surrogatepass")
    _save({"config": text}, path)


def _safetensors() -> bytes:
    from safetensors.torch import save

    return save(_WEIGHTS)

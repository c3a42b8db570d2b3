"""Caches of a detector's regions that are not what they should be, for `iif-d2 retrain-head`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial

import torch

from iif_d2.engine.regions import FORMAT

from .bad_cases import ODD_FILES, Case, _cases, flipped

_GOOD = {
    "format": FORMAT,
    "made_of": {"the weights": "ab"},
    "features": torch.ones(6, 2),
    "labels": torch.zeros(6, dtype=torch.int64),
    "test_features": torch.ones(3, 2),
    "test_boxes": torch.tensor([[0.0, 0, 4, 4]]).repeat(3, 1),
    "test_images": [(1, 8, 8, 8, 8, 2), ("b", 8, 8, 8, 8, 1)],
}


def regions_cases() -> Iterator[Case]:
    """What `read_regions` refuses; a whole one works."""
    buffer = io.BytesIO()
    torch.save(_GOOD, buffer)
    whole = buffer.getvalue()
    yield from _cases("regions", {
        "whole cache": [whole],
        "truncated cache": [whole[: len(whole) * part // 4] for part in (1, 2, 3)],
        "cache with other bytes": [flipped(whole, seed) for seed in range(8)],
        **ODD_FILES,
    })  # fmt: skip
    odd = [None, 1, "x", [], torch.ones(2), torch.ones(1).expand(1 << 20, 1 << 20)]
    changes = {
        f"cache with odd {key}": [{key: value} for value in odd] for key in _GOOD if key != "format"
    }
    changes["cache of other numbers"] = [
        {"features": torch.ones(0, 2), "labels": torch.zeros(0, dtype=torch.int64)},
        {"test_images": [(1, 8, 8, 8, 8, 3, 9)]}, {"test_images": [(1, 8, 8, 8, 8, "x")]},
        {"test_images": [(1, 8, 8, 8, 8, 7)]}, {"format": "iif_d2 regions 0"}, {"more": 1},
    ]  # fmt: skip
    yield from _cases("regions", {
        kind: [partial(torch.save, {**_GOOD, **value}) for value in values]
        for kind, values in changes.items()
    })  # fmt: skip
    yield from _cases("regions", {"no cache": [partial(torch.save, v) for v in ([], 1, {}, "x")]})

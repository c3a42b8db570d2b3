"""Files that people have, or send, that are not what they should be; and who reads them."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import random
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

GOOD = {
    "images": [
        {"id": 1, "height": 8, "width": 8, "file_name": "a.png"},
        {"id": 2, "height": 8, "width": 8, "file_name": "b.png"},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0,
         "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]},
        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [0, 0, 8, 8], "area": 64, "iscrowd": 0,
         "segmentation": {"size": [8, 8], "counts": [0, 64]}},
    ],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
}  # fmt: skip
FREQUENCY = {
    "format": "iif_d2.ClassFrequency", "class_names": ["a", "b"], "image_count": [3, 1],
    "instance_count": [4, 1], "num_images": 5,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One file and its reader. `write(path)` makes it; `reads` names a function of READERS."""

    kind: str
    reads: str
    suffix: str
    write: Callable[[Path], Any]
    heavy: bool = False  # only in `make faults`
    field: str = ""  # that a refusal has to name


def text(content: str | bytes) -> Callable[[Path], Any]:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    return lambda path: path.write_bytes(data)


class Edited(bytes):
    """A file's content, and the field of it that was changed."""

    field: str


def _edited(*keys: Any, to: Any) -> Edited:
    """GOOD as json with one value replaced; text that json does not have goes in as it is."""
    content = copy.deepcopy(GOOD)
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = "@"
    value = to if isinstance(to, str) else json.dumps(to)
    edited = Edited(json.dumps(content).replace('"@"', value).encode())
    edited.field = keys[-1]
    return edited


_BOX, _MASK, _RLE = (("annotations", 0, "bbox"), ("annotations", 0, "segmentation"),
                     ("annotations", 1, "segmentation"))  # fmt: skip
_NEST = 100_000
ANNOTATIONS: dict[str, list[bytes]] = {
    "nan box": [_edited(*_BOX, to="[NaN, 0, 1, 1]")],
    "infinite box": [_edited(*_BOX, to=f"[0, 0, {v}, 1]") for v in ("1e999", "Infinity", "-1e999")],
    "box beyond numbers": [_edited(*_BOX, to=[0, 0, v, 1]) for v in (1e308, -1e308, 1e30)],
    "box of another length": [_edited(*_BOX, to=v) for v in ([], [1], [1, 2, 3], [1, 2, 3, 4, 5])],
    "empty or negative box": [_edited(*_BOX, to=v) for v in ([1, 1, 0, 0], [4, 4, -2, -2])],
    "box outside": [_edited(*_BOX, to=v) for v in ([50, 50, 4, 4], [-50, -50, 4, 4])],
    "bad area": [_edited("annotations", 0, "area", to=v) for v in (-1, "1e999", '"x"')],
    "polygon of 2 points": [_edited(*_MASK, to=[[1, 1, 2, 2]])],
    "polygon of 1, 0, odd": [_edited(*_MASK, to=[v]) for v in ([], [1, 1], [1, 1, 2, 2, 3, 3, 4])],
    "polygon far away": [_edited(*_MASK, to=[[1, 1, v, 1, 5, v]]) for v in (1e9, -1e9, 1e308)],
    "polygon of null": [_edited(*_MASK, to=[[1, None, 2, 2, 3, 3]])],
    "rle of another size": [
        _edited(*_RLE, to={"size": v, "counts": [0, 64]})
        for v in ([4, 4], [8, 9], [1 << 20, 1 << 20], [-8, -8], [0, 0])
    ],
    "rle of other counts": [
        _edited(*_RLE, to={"size": [8, 8], "counts": v})
        for v in ([], [0, 65], [0, 4_294_967_360], [-1, 65], "", "~~~", "P", "ooooooooo0", "\u00e9")
    ],
    "id repeated": [
        _edited("images", 1, "id", to=1), _edited("categories", 1, "id", to=1),
        _edited("annotations", 1, "id", to=1),
    ],
    "id unknown": [
        _edited("annotations", 0, key, to=v) for key in ("image_id", "category_id") for v in (9, 0)
    ],
    "id negative": [
        _edited("annotations", 0, "category_id", to=-1), _edited("annotations", 0, "id", to=-1),
        _edited("images", 0, "id", to=-1),
    ],
    "id huge": [
        _edited("annotations", 0, key, to=10**n)
        for key in ("id", "image_id", "category_id") for n in (18, 25, 300)
    ],
    "id of another type": [
        _edited("annotations", 0, key, to=v)
        for key in ("image_id", "category_id") for v in (None, True, 1.5, [], {}, '"1"')
    ],
    "no or odd name": [
        _edited("categories", 0, "name", to=v)
        for v in (None, 3, '""', '" "', '"\\ud800"', '"\\u0000"', '"\U0001f600"', '"a,\\"b\\n"')
    ],
    "empty list": [_edited(key, to=[]) for key in GOOD],
    "list of another type": [_edited(key, to=v) for key in GOOD for v in (None, {}, 1, [1], [None])],
    "image without size": [
        _edited("images", 0, key, to=v)
        for key in ("height", "width") for v in (0, -8, None, 10**9, 10**30, 1.5)
    ],
    "image without file": [
        _edited("images", 0, "file_name", to=v) for v in (None, '""', '"\\u0000"', 5)
    ],
    "half federated": [_edited("images", 0, "neg_category_ids", to=v) for v in ([1], [99], "1")],
    "crowd of another type": [_edited("annotations", 0, "iscrowd", to=v) for v in ('"1"', 10**30)],
    "deep nesting": [
        b"[" * _NEST, b'{"images":' * _NEST, _edited("images", 0, "x", to="[" * _NEST + "]" * _NEST)
    ],
    "byte order mark": [b"\xef\xbb\xbf" + json.dumps(GOOD).encode()],
    "crlf": [json.dumps(GOOD, indent=1).replace("\n", "\r\n").encode()],
    "other encoding": [json.dumps(GOOD).encode(e) for e in ("utf-16", "utf-32", "utf-16-le")],
    "bytes that are no text": [b"\xff\xfe\x00", bytes(range(256)), b"\x00" * 4096],
    "trailing content": [json.dumps(GOOD).encode() + t for t in (b"}", b"\x00", b"{}", b"//")],
    "another json": [b"null", b"1", b"[]", b'""', b"{}", b'{"info": {}}', json.dumps(FREQUENCY).encode()],
    "key twice": [json.dumps(GOOD).encode()[:-1] + b', "images": []}'],
}  # fmt: skip


def annotation_cases() -> Iterator[Case]:
    for reads in ("count", "instances", "truth"):
        for kind, contents in ANNOTATIONS.items():
            for content in contents:
                field = getattr(content, "field", "")
                yield Case(kind, reads, ".json", text(content), field=field)
        whole = json.dumps(GOOD).encode()
        for end in range(1, len(whole), len(whole) // 8):
            yield Case("truncated", reads, ".json", text(whole[:end]))
        yield from _odd_files(reads, ".json")
        yield Case("a million categories", reads, ".json", _many_categories, heavy=True)


def _many_categories(path: Path) -> None:
    content = {**GOOD, "categories": [{"id": i, "name": f"c{i}"} for i in range(1, 1_000_001)]}
    path.write_text(json.dumps(content))


def _odd_files(reads: str, suffix: str) -> Iterator[Case]:
    """What can be in a file's place, for every reader."""
    yield Case("empty file", reads, suffix, text(b""))
    yield Case("missing file", reads, suffix, lambda path: None)
    yield Case("directory in its place", reads, suffix, lambda path: path.mkdir())
    yield Case("symlink loop", reads, suffix, lambda path: path.symlink_to(path))
    yield Case("broken symlink", reads, suffix, lambda path: path.symlink_to("nowhere"))
    yield Case("named pipe", reads, suffix, lambda path: os.mkfifo(path))


def frequency_cases() -> Iterator[Case]:
    changes = {
        "counts of another length": [{"image_count": v} for v in ([], [1], [1, 2, 3])],
        "counts of another type": [
            {key: v} for key in ("image_count", "instance_count", "num_images")
            for v in ("x", [None, 1], [1.5, 1], {"a": 1})
        ],
        "negative counts": [{"image_count": [-1, 1]}, {"instance_count": [-4, 1]}, {"num_images": -5}],
        "impossible counts": [{"image_count": [9, 1]}, {"instance_count": [1, 1]}],
        "huge counts": [
            {"image_count": [n, 1], "instance_count": [n, 1], "num_images": n}
            for n in (2**53 + 1, 2**62, 2**63, 2**64, 10**30)
        ],
        "no classes": [{"class_names": [], "image_count": [], "instance_count": []}],
        "names of another type": [{"class_names": v} for v in (None, [1, 2], "ab")],
        "another format": [{"format": v} for v in (None, "x", 3)],
    }  # fmt: skip
    for kind, edits in changes.items():
        for edit in edits:
            content = text(json.dumps({**FREQUENCY, **edit}))
            # Without its format a file is read as annotations.
            field = "" if "format" in edit else next(iter(edit))
            yield Case(kind, "frequency", ".json", content, field=field)
    whole = json.dumps(FREQUENCY).encode()
    for end in (1, 20, 60, len(whole) - 1):
        yield Case("truncated", "frequency", ".json", text(whole[:end]))
    yield from _odd_files("frequency", ".json")


def config_cases() -> Iterator[Case]:
    bomb = "a0: &a0 [1, 2]\n" + "".join(
        f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)
    )
    kinds = {
        "yaml bomb": [bomb, bomb + "MODEL: {DEVICE: *a59}"],
        "yaml loop": ["&a [*a]", "MODEL: &m {LONG_TAIL: *m}", "_BASE_: {own}"],
        "base of another kind": [
            "_BASE_: 1", "_BASE_: ''", "_BASE_: gone.yaml", "_BASE_: [[]]", "_BASE_: {a: b}",
            "_BASE_: https://x.invalid/a.yaml", "_BASE_: file:///etc/passwd", "_BASE_: /dev/zero",
        ],
        "yaml that runs": [
            "!!python/object/apply:os.system ['true']", "MODEL: {WEIGHTS: !!python/name:os.system }",
            "MODEL: {WEIGHTS: !!python/object/new:os.system ['true']}",
        ],
        "no yaml": ["MODEL: [", "\t", "a: b: c", "%", "MODEL: {METHOD: 'x}", "---\na: 1\n---\nb: 2"],
        "not a mapping": ["", "- 1", "3", "null", "text", "MODEL: 3", "MODEL: null", "1: 2", "? [1]\n: 2"],
        "unknown key": ["A: 1", "MODEL: {A: 1}", "'': 1", "MODEL: {LONG_TAIL: {IFF: {}}}"],
        "unknown version": ["VERSION: 7", "VERSION: x", "VERSION: -1"],
        "deep nesting": ["[" * 5000, "{a: " * 5000, "a: " + "- " * 5000],
        "unicode": ["\ufeffMODEL: {DEVICE: cpu}", "MODEL: {DEVICE: '\U0001f600'}", "\ud800: 1", "\x00"],
        "crlf": ["MODEL:\r\n  DEVICE: cpu\r\n"],
    }  # fmt: skip
    fields = {"base of another kind": "_BASE_", "unknown version": "VERSION"}
    for kind, contents in kinds.items():
        for content in contents:
            yield Case(kind, "config", ".yaml", lambda path, c=content: text(
                c.replace("{own}", path.name))(path), field=fields.get(kind, ""))  # fmt: skip
    for key in ("METHOD", "COSINE_SCALE", "IIF"):
        for value in ("[]", "null", "{A: 1}", "2020-01-01", "0x", ".nan"):
            content = text(f"MODEL:\n  LONG_TAIL: {{{key}: {value}}}")
            yield Case("value of another type", "config", ".yaml", content, field=key)
    yield Case("megabytes of yaml", "config", ".yaml", text("a: [" + "1, " * 2_000_000 + "]"))
    yield from _odd_files("config", ".yaml")


def image_cases() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    for format in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"):
        buffer = io.BytesIO()
        pixels.save(buffer, format)
        whole = buffer.getvalue()
        for end in (3, len(whole) // 3, len(whole) * 2 // 3):
            yield Case("truncated image", "image", ".png", text(whole[:end]))
        for seed in range(4):
            yield Case("image with other bytes", "image", ".png", text(flipped(whole, seed)))
    yield Case(
        "image of another size", "image", ".png", lambda path: Image.new("RGB", (9, 7)).save(path)
    )
    for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"):
        format = "TIFF" if mode in ("CMYK", "F") else "PNG"
        yield Case("image of another mode", "image", ".png",
                   lambda path, m=mode, f=format: Image.new(m, (8, 8)).save(path, f))  # fmt: skip
    huge = io.BytesIO()
    Image.new("1", (1, 1)).save(huge, "PNG")
    header = huge.getvalue()[12:16] + (60_000).to_bytes(4, "big") * 2 + huge.getvalue()[24:29]
    bomb = (
        huge.getvalue()[:12] + header + zlib.crc32(header).to_bytes(4, "big") + huge.getvalue()[33:]
    )
    yield Case("image bomb", "image", ".png", text(bomb))
    yield Case("text for an image", "image", ".png", text("<svg onload='x'/>"))
    yield from (c for c in _odd_files("image", ".png") if c.kind != "named pipe")


def checkpoint_cases() -> Iterator[Case]:
    good = {"model": {"weight": torch.ones(2, 2), "bias": torch.ones(2)}}
    zoo = {"model": {"weight": np.ones((2, 2), np.float32)}, "__author__": "x"}
    buffer = io.BytesIO()
    torch.save(good, buffer)
    for suffix, whole in ((".pth", buffer.getvalue()), (".pkl", pickle.dumps(zoo))):
        for part in range(1, 8):
            yield Case(
                "truncated checkpoint", "checkpoint", suffix, text(whole[: len(whole) * part // 8])
            )
        for seed in range(8):
            yield Case(
                "checkpoint with other bytes", "checkpoint", suffix, text(flipped(whole, seed))
            )
        yield from _odd_files("checkpoint", suffix)
    contents = {
        "not a dict": [[], 1, None, "x", (1, 2)],
        "no weights": [{}, {"model": {}}, {"model": None}, {"model": {"weight": "x"}}, {"model": {1: 2}}],
        "weights of another shape": [{"model": {"weight": torch.ones(3, 3)}}, {"model": {"weight": torch.ones(())}}],
        "weights of another type": [{"model": {"weight": torch.ones(2, 2, dtype=d)}}
                                    for d in (torch.int8, torch.float64, torch.complex64)],
        "weights of no memory": [{"model": {"weight": torch.ones(1).expand(*v)}}
                                 for v in ((1 << 20, 1 << 20), (2, 1 << 40), (1 << 60,))],
        "weights not finite": [{"model": {"weight": torch.full((2, 2), float("nan"))}}],
        "state of another kind": [{**good, "optimizer": v} for v in (1, {}, {"param_groups": [], "state": 3})],
        "whole module": [torch.nn.Linear(2, 2)],
        "forged folded mark": [{**good, "folded": v} for v in (None, {"method": "IIF"})],
    }  # fmt: skip
    for kind, values in contents.items():
        for value in values:
            yield Case(kind, "checkpoint", ".pth", lambda path, v=value: torch.save(v, path))
    for value in ([], 1, {"model": 1, "__author__": "x"}, {"a": 1}, {1: np.ones(2)}, {"blobs": []}):
        yield Case("odd zoo file", "checkpoint", ".pkl", text(pickle.dumps(value)))
    yield Case("zip bomb", "checkpoint", ".pth", _zip_bomb, heavy=True)
    yield Case("pickle bomb", "checkpoint", ".pkl", text(b"\x80\x02Nr\xff\xff\xff\xff."))
    yield Case(
        "pickle bomb", "checkpoint", ".pkl", text(b"\x80\x05\x96" + b"\x00" * 5 + b"\x01\x00\x00.")
    )


def _zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("archive/data.pkl", "w", force_zip64=True) as file:
            for _ in range(4096):
                file.write(bytes(1 << 20))


def flipped(content: bytes, seed: int) -> bytes:
    """The bytes with some of them drawn anew."""
    rng = random.Random(seed)
    changed = bytearray(content)
    for _ in range(1 + len(content) // 50):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def all_cases() -> list[Case]:
    return [
        *annotation_cases(),
        *frequency_cases(),
        *config_cases(),
        *image_cases(),
        *checkpoint_cases(),
    ]

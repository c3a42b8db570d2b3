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
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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


PRETRAINED_FOR = "mobilenetv3_small_050"  # of timm's, a small one
SUFFIX = {
    "config": ".yaml",
    "image": ".png",
    "checkpoint": ".pth",
    "pretrained": ".pth",
    "regions": ".pth",
}  # of others .json


class Case(NamedTuple):
    """One file and its reader. `write(path)` makes it; `reads` names a function of READERS."""

    kind: str
    reads: str
    suffix: str
    write: Callable[[Path], Any]
    heavy: bool = False  # only in `make faults`
    field: str = ""  # that a refusal has to name


def _cases(
    reads: str, kinds: dict[str, Iterable], suffix: str = "", heavy: bool = False
) -> Iterator[Case]:
    """A case of each content: text, bytes, a function that writes, or one of them with its field."""
    for kind, contents in kinds.items():
        for content in contents:
            named, content = content if isinstance(content, tuple) else ("", content)
            write = content if callable(content) else partial(_write, content)
            yield Case(kind, reads, suffix or SUFFIX.get(reads, ".json"), write, heavy, named)


def _write(content: str | bytes, path: Path) -> None:
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    path.write_bytes(content)


def _edited(*keys: Any, to: Any) -> tuple[str, bytes]:
    """The field, and GOOD as json with its value replaced; a text goes in as it is, json or not."""
    content = copy.deepcopy(GOOD)
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = "@"
    value = to if isinstance(to, str) else json.dumps(to)
    return keys[-1], json.dumps(content).replace('"@"', value).encode()


_BOX, _MASK, _RLE = (("annotations", 0, "bbox"), ("annotations", 0, "segmentation"),
                     ("annotations", 1, "segmentation"))  # fmt: skip
_NEST = 100_000
ANNOTATIONS: dict[str, list] = {
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
    "nan and infinity in words": [
        _edited(*where, to=v) for v in ("NaN", "Infinity", "-Infinity")
        for where in (_BOX, (*_BOX, 2), ("annotations", 0, "area"), ("images", 0, "width"),
                      ("images", 0, "x"), ("categories", 0, "image_count"), ("images", 0, "id"))
    ],
    "kindred types": [
        _edited(*where, to=v) for where, values in (
            (("annotations", 0, "iscrowd"), (True, False, 1.0, 0.5)),
            (("annotations", 0, "id"), (1.0, '"1"', '"a-b"', True)),
            (("annotations", 0, "image_id"), (1.0,)), (("images", 0, "id"), (1.0,)),
            (("annotations", 0, "category_id"), (1.0,)), (("categories", 0, "id"), (1.0, '"1"')),
            (("images", 0, "width"), (8.0,)), (("categories", 0, "image_count"), (3.0, '"x"')),
            (("categories", 0, "frequency"), (0.25,)), (_MASK, ('""', {}, False, 0)),
        ) for v in values
    ],
    "box as text": [_edited(*_BOX, to=["1", "1", "4", "4"])],
    "flat polygon": [_edited(*_MASK, to=[1, 1, 5, 1, 5, 5])],
    "text for a number": [_edited("annotations", 0, key, to='"1"') for key in ("image_id", "category_id")],
    "crowds alone": [_edited("annotations", i, "iscrowd", to=1) for i in (0, 1)],
    "address for a file": [
        _edited("images", 0, "file_name", to=f'"{scheme}://127.0.0.1:9/../../a.png"')
        for scheme in ("http", "https", "ftp", "detectron2", "s3")
    ],
    "ignore of another type": [
        _edited("annotations", 0, "ignore", to=v) for v in (True, 1.5, None, '"1"', [], {"a": [1]})
    ],
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
    whole = json.dumps(GOOD).encode()
    cut = [whole[:end] for end in range(1, len(whole), len(whole) // 8)]
    for reads in ("count", "instances", "truth"):
        yield from _cases(reads, {**ANNOTATIONS, "truncated": cut, **ODD_FILES})
        yield from _cases(reads, {"a million categories": [_many_categories]}, heavy=True)


def _many_categories(path: Path) -> None:
    content = {**GOOD, "categories": [{"id": i, "name": f"c{i}"} for i in range(1, 1_000_001)]}
    path.write_text(json.dumps(content))


def validation_cases() -> Iterator[Case]:
    """Test sets whose classes are others than training's, which has those of GOOD."""
    named = [[("b", 1), ("a", 2)], [("a", 2), ("b", 1)], [("a", 1)], [("a", 1), ("b", 2), ("c", 3)],
             [("a", 1), ("c", 2)], [("c", 1), ("d", 2)]]  # fmt: skip
    yield from _cases("validation", {
        "test set of other classes": [
            _edited("categories", to=[{"id": i, "name": n} for n, i in pairs]) for pairs in named
        ],
        "truncated": [json.dumps(GOOD)[:-9]],
    })  # fmt: skip


# What can be in a file's place, for every reader.
ODD_FILES = {
    "empty file": [b""],
    "missing file": [lambda path: None],
    "directory in its place": [lambda path: path.mkdir()],
    "symlink loop": [lambda path: path.symlink_to(path)],
    "broken symlink": [lambda path: path.symlink_to("nowhere")],
    "named pipe": [lambda path: os.mkfifo(path)],
}


XML = (
    "<annotation><filename>a.png</filename><size><width>8</width><height>8</height></size>"
    "<object><name>a</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax>"
    "</bndbox></object></annotation>"
)
YAML = "train: images\nnames: [a, b]\n"


def _beside_pictures(text: str, path: Path) -> None:
    """A data.yaml with a picture and its label."""
    for folder in ("images", "labels"):
        (path.parent / folder).mkdir()
    Image.new("RGB", (8, 8)).save(path.parent / "images" / "a.png")
    (path.parent / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def format_cases() -> Iterator[Case]:
    """Annotations in other formats than json."""
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c SYSTEM "file:///etc/passwd">]>'
    odd_values = ("nan", "-1e999", "1e30", "", "x", "-5", "9" * 400, "5<b/>")
    xml = {
        "odd number in xml": [XML.replace(">5<", f">{v}<") for v in odd_values],
        "odd size in xml": [XML.replace(">8<", f">{v}<") for v in odd_values],
        "xml with entities": [bomb + XML, bomb + XML.replace(">a<", ">&b;<"), XML.replace(">a<", ">&c;<")],
        "xml of another kind": ["<a/>", XML.replace("object", "thing"), "<svg></svg>", "x", "<" * 999],
        "deep xml": ["<a>" * _NEST, XML.replace("<object>", "<a>" * 9999 + "</a>" * 9999 + "<object>")],
        "path out of the folder": [XML.replace("a.png", v) for v in ("../a.png", "/etc/a.png", "s3://a/b.png")],
        "truncated xml": [XML[:end] for end in range(1, len(XML), 40)],
    }  # fmt: skip
    yaml = {
        "odd names in yaml": [YAML.replace("[a, b]", v) for v in
                              ("[]", "a", "[[a], b]", "{0: a, 2: b}", "{a: 0}", "['', b]", "[\u2028, b]", "&x [*x]")],
        "odd split in yaml": [YAML.replace("images", v, 1) for v in
                              ("", "{a: b}", "[images, [a]]", "../..", "/etc", "http://x.org/a", "a.txt", ".")],
        "yaml of another kind": ["x", "[]", "{}", "- a", "&a [*a]", "? [a]\n: b", "!!python/name:os.system ''", "a: b: c"],
        "key twice in yaml": [YAML + "names: [c]\n"],
        "deep yaml": ["[" * _NEST, YAML + "x: " + "[" * 9999],
    }  # fmt: skip
    for reads in ("count", "instances", "truth"):
        yield from _cases(reads, {**xml, **ODD_FILES}, ".xml")
        made = {
            kind: [partial(_beside_pictures, v) for v in values] for kind, values in yaml.items()
        }
        yield from _cases(reads, {**made, **ODD_FILES}, ".yaml")


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
        "groups of another kind": [{"groups": v} for v in ("r", "rx", "rcf", 3, ["r", "c"])],
        "no classes": [{"class_names": [], "image_count": [], "instance_count": []}],
        "names of another type": [{"class_names": v} for v in (None, [1, 2], "ab")],
        "another format": [{"format": v} for v in (None, "x", 3)],
    }  # fmt: skip
    whole = json.dumps(FREQUENCY)
    for kind, edits in changes.items():
        # Without its format a file is read as annotations.
        fields = ["" if "format" in edit else next(iter(edit)) for edit in edits]
        texts = [json.dumps({**FREQUENCY, **edit}) for edit in edits]
        yield from _cases("frequency", {kind: zip(fields, texts)})
    cut = [whole[:end] for end in (1, 20, 60, len(whole) - 1)]
    yield from _cases("frequency", {"truncated": cut, **ODD_FILES})


def config_cases() -> Iterator[Case]:
    bomb = "a0: &a0 [1, 2]\n" + "".join(
        f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)
    )
    bases = ("1", "''", "gone.yaml", "[[]]", "{a: b}", "https://x.invalid/a.yaml",
             "file:///etc/passwd", "/dev/zero")  # fmt: skip
    yield from _cases("config", {
        "yaml bomb": [bomb, bomb + "MODEL: {DEVICE: *a59}"],
        "yaml loop": ["&a [*a]", "MODEL: &m {LONG_TAIL: *m}", "_BASE_: input.yaml"],
        "yaml that runs": [
            "!!python/object/apply:os.system ['true']", "MODEL: {WEIGHTS: !!python/name:os.system }",
            "MODEL: {WEIGHTS: !!python/object/new:os.system ['true']}",
        ],
        "no yaml": ["MODEL: [", "\t", "a: b: c", "%", "MODEL: {METHOD: 'x}", "---\na: 1\n---\nb: 2"],
        "not a mapping": ["", "- 1", "3", "null", "text", "MODEL: 3", "MODEL: null", "1: 2", "? [1]\n: 2"],
        "unknown key": ["A: 1", "MODEL: {A: 1}", "'': 1", "MODEL: {LONG_TAIL: {IFF: {}}}"],
        "deep nesting": ["[" * 5000, "{a: " * 5000, "a: " + "- " * 5000],
        "unicode": ["\ufeffMODEL: {DEVICE: cpu}", "MODEL: {DEVICE: '\U0001f600'}", "\ud800: 1", "\x00"],
        "crlf": ["MODEL:\r\n  DEVICE: cpu\r\n"],
        "base of another kind": [("_BASE_", f"_BASE_: {base}") for base in bases],
        "unknown version": [("VERSION", f"VERSION: {value}") for value in ("7", "x", "-1")],
        "value of another type": [
            (key, f"MODEL:\n  LONG_TAIL: {{{key}: {value}}}")
            for key in ("METHOD", "COSINE_SCALE", "GROUP_LIMITS", "IIF")
            for value in ("[]", "null", "{A: 1}", "2020-01-01", "0x", ".nan")
        ],
        "megabytes of yaml": ["a: [" + "1, " * 2_000_000 + "]"],
        **ODD_FILES,
    })  # fmt: skip


def image_cases() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
    files = [_saved(pixels, format) for format in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP")]
    modes = {mode: "TIFF" if mode in ("CMYK", "F") else "PNG"
             for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F")}  # fmt: skip
    small = _saved(Image.new("1", (1, 1)), "PNG")
    header = small[12:16] + (60_000).to_bytes(4, "big") * 2 + small[24:29]
    yield from _cases("image", {
        "truncated image": [
            whole[:end] for whole in files for end in (3, len(whole) // 3, len(whole) * 2 // 3)
        ],
        "image with other bytes": [flipped(whole, seed) for whole in files for seed in range(4)],
        "image of another size": [_saved(Image.new("RGB", (9, 7)), "PNG")],
        "image of another mode": [_saved(Image.new(m, (8, 8)), f) for m, f in modes.items()],
        "image turned by exif": [_saved(pixels.resize((8, 8 + n % 2)), "JPEG", _turned(n)) for n in range(10)],
        "image of 16 or 32 bits": [
            _saved(Image.fromarray(np.full((8, 8), 999, kind)), "TIFF")
            for kind in (np.uint16, np.int32, np.float32)
        ],
        "image bomb": [small[:12] + header + zlib.crc32(header).to_bytes(4, "big") + small[33:]],
        "text for an image": ["<svg onload='x'/>"],
        **{kind: made for kind, made in ODD_FILES.items() if kind != "named pipe"},
    })  # fmt: skip


def _saved(image: Image.Image, format: str, exif: Image.Exif | None = None) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **({"exif": exif} if exif else {}))
    return buffer.getvalue()


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def checkpoint_cases() -> Iterator[Case]:
    good = {"model": {"weight": torch.ones(2, 2), "bias": torch.ones(2)}}
    zoo = {"model": {"weight": np.ones((2, 2), np.float32)}, "__author__": "x"}
    buffer = io.BytesIO()
    torch.save(good, buffer)
    for suffix, whole in ((".pth", buffer.getvalue()), (".pkl", pickle.dumps(zoo))):
        yield from _cases("checkpoint", {
            "truncated checkpoint": [whole[: len(whole) * part // 8] for part in range(1, 8)],
            "checkpoint with other bytes": [flipped(whole, seed) for seed in range(8)],
            **ODD_FILES,
        }, suffix)  # fmt: skip
    contents = {
        "not a dict": [[], 1, None, "x", (1, 2)],
        "no weights": [{}, {"model": {}}, {"model": None}, {"model": {"weight": "x"}}, {"model": {1: 2}}],
        "weights of another shape": [{"model": {"weight": torch.ones(3, 3)}}, {"model": {"weight": torch.ones(())}}],
        "nothing that fits": [{"model": {"other.weight": torch.ones(2, 2)}}, {"ema": {"a": torch.ones(2)}},
                              {"state_dict": {"module.w": torch.ones(2)}}, {"model": {"module": {}}}],
        "weights of another type": [{"model": {"weight": torch.ones(2, 2, dtype=d)}}
                                    for d in (torch.int8, torch.float64, torch.complex64)],
        "weights of no memory": [{"model": {"weight": torch.ones(1).expand(*v)}}
                                 for v in ((1 << 20, 1 << 20), (2, 1 << 40), (1 << 60,))],
        "weights not finite": [{"model": {"weight": torch.full((2, 2), float("nan"))}}],
        "state of another kind": [{**good, "optimizer": v} for v in (1, {}, {"param_groups": [], "state": 3})],
        "whole module": [torch.nn.Linear(2, 2)],
        "class names of another kind": [{**good, "class_names": v} for v in (None, 3, "ab", [1], {}, [[]])],
        "forged folded mark": [{**good, "folded": v} for v in (None, {"method": "IIF"})],
    }  # fmt: skip
    yield from _cases("checkpoint", {
        kind: [partial(torch.save, value) for value in values] for kind, values in contents.items()
    })  # fmt: skip
    zoos = [[], 1, {"model": 1, "__author__": "x"}, {"a": 1}, {1: np.ones(2)}, {"blobs": []}]
    yield from _cases("checkpoint", {
        "odd zoo file": map(pickle.dumps, zoos),
        "pickle bomb": [b"\x80\x02Nr\xff\xff\xff\xff.", b"\x80\x05\x96" + bytes(5) + b"\x01\x00\x00."],
    }, ".pkl")  # fmt: skip
    yield from _cases("checkpoint", {"zip bomb": [_zip_bomb]}, heavy=True)


def pretrained_cases() -> Iterator[Case]:
    """For MODEL.TIMM.PRETRAINED of `PRETRAINED_FOR`."""
    buffer = io.BytesIO()
    torch.save({"conv_stem.weight": torch.ones(2, 2)}, buffer)
    for suffix in (".pth", ".safetensors"):
        yield from _cases("pretrained", {
            "truncated weights": [buffer.getvalue()[:length] for length in (1, 30, 300)],
            "weights with other bytes": [flipped(buffer.getvalue(), seed) for seed in range(4)],
            **ODD_FILES,
        }, suffix)  # fmt: skip
    scale = "bn1.weight"
    edits = {
        "whole network": [{}],
        "weights of other names": [{"x.weight": torch.ones(2)}, {1: torch.ones(2)}, {"_conv_stem.weight": torch.ones(1)}],
        "weights of another shape": [{scale: v} for v in (torch.ones(3), torch.ones(()), torch.ones(1).expand(1 << 40))],
        "weights of another type": [{scale: torch.ones(16, dtype=d)} for d in (torch.int8, torch.complex64)],
        "weights that are none": [{scale: v} for v in (None, "x", [1.0])],
    }  # fmt: skip
    yield from _cases("pretrained", {
        kind: [partial(_save_network, edit) for edit in values] for kind, values in edits.items()
    })  # fmt: skip
    whole = [[], 1, {}, {"state_dict": {}}, {"model": {"state_dict": 1}}, torch.nn.Linear(2, 2)]
    yield from _cases("pretrained", {"no state dict": [partial(torch.save, v) for v in whole]})
    yield from _cases("pretrained", {"zip bomb": [_zip_bomb]}, heavy=True)


def _save_network(edit: dict, path: Path) -> None:
    import timm

    torch.save({**timm.create_model(PRETRAINED_FOR).state_dict(), **edit}, path)


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
    from .carried_cases import carried_cases
    from .regions_cases import regions_cases

    makers = (
        annotation_cases, format_cases, validation_cases, frequency_cases, config_cases, image_cases,
        checkpoint_cases, pretrained_cases, carried_cases, regions_cases,
    )  # fmt: skip
    return [case for make in makers for case in make()]

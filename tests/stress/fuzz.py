"""hypothesis draws annotation files and configs; each is read, or refused by the package's own error."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iif_d2.config import load_config
from iif_d2.errors import IIFError

from . import Outcome
from .bad_cases import GOOD
from .bad_input import READERS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
    | st.sampled_from([1, 2, 8, -1, 1 << 63, "a.png", [0, 64], {"size": [8, 8], "counts": "PP2"}]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
ANNOTATIONS, CONFIG = ("count", "truth", "instances"), ("config",)  # who reads it


def _places(value: Any, path: tuple = ()):
    """The way to every value in a nest of dicts and lists."""
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in keys:
        yield (*path, key)
        yield from _places(value[key], (*path, key))


@st.composite
def spoilt(draw, whole) -> dict:
    """`whole` with one to three of its values replaced or removed."""
    content = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(content))
        if places:
            *way, last = draw(st.sampled_from(places))
            place = content
            for key in way:
                place = place[key]
            if draw(st.booleans()) or not isinstance(place, dict):
                place[last] = copy.deepcopy(draw(JSON))  # sampled values are shared
            else:
                del place[last]
    return content


def is_read(content: str | bytes, readers: tuple[str, ...]) -> bool:
    """Whether all readers take the content; False if one refuses it, naming the file."""
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input.json"  # yaml is read by any name
        path.write_bytes(content)
        try:
            for reads in readers:
                READERS[reads](path)
        except IIFError as error:
            assert str(path) in str(error), error
            return False
    return True


def fuzz(examples: int) -> list[str]:
    """So many examples of each kind; figures."""
    defaults = yaml.safe_load(load_config("").dump())
    some = {key: defaults[key] for key in ("MODEL", "SOLVER", "DATASETS", "TEST", "VERSION")}
    some["MODEL"] = {key: some["MODEL"][key] for key in ("LONG_TAIL", "DEVICE", "ROI_HEADS")}
    kinds = {
        "annotation files": (spoilt(GOOD).map(json.dumps), ANNOTATIONS),
        "bytes for annotation files": (st.binary(max_size=200), ANNOTATIONS),
        "configs": (spoilt(some).map(yaml.safe_dump), CONFIG),
        "texts for configs": (st.text(st.characters(codec="utf-8"), max_size=80), CONFIG),
    }
    lines = []
    for name, (strategy, readers) in kinds.items():
        ends = _ends(strategy, readers, examples)
        lines.append(f"{len(ends)} fuzzed {name}: {sum(ends)} read, the others refused in words")
    return lines


def _ends(strategy: st.SearchStrategy, readers: tuple[str, ...], examples: int) -> list[bool]:
    ends = []

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(strategy)
    def check(content):
        ends.append(is_read(content, readers))

    check()
    return ends


def run() -> Outcome:
    lines = fuzz(1000)
    return Outcome(1000 * len(lines), lines)

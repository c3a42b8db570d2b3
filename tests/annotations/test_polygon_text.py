"""Masks judged as text: as decoding them would."""

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from iif_d2.annotations.polygon_text import coordinate_bounds

NUMBERS = st.one_of(
    st.floats(0, 999.99).map(lambda value: round(value, 2)),
    st.integers(0, 1200),
    st.floats(0, 120_000),
    st.sampled_from([-1, -0.5, 1e-7, 1e20, 999.99999, 1000, 9999.5, 10000, 0, 0.0001]),
)
POLYGONS = st.lists(NUMBERS, min_size=5, max_size=10)
LISTS = st.lists(POLYGONS, max_size=3)
NESTED = st.recursive(
    st.one_of(NUMBERS, st.sampled_from(["[[", "]", "1,2", None, True])),
    lambda inner: st.lists(inner, max_size=8),
    max_leaves=20,
)
MASKS = st.one_of(LISTS, NESTED, st.just({"size": [4, 4], "counts": [0, 16]}), st.just(None))


def is_plain(mask) -> bool:
    """A list of polygons of three points or more without a sign."""
    return (
        isinstance(mask, list)
        and all(isinstance(polygon, list) for polygon in mask)
        and all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask)
        and all(type(v) in (int, float) and v >= 0 for polygon in mask for v in polygon)
    )


@settings(max_examples=400, deadline=None)
@given(st.lists(MASKS, max_size=6), st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", ":")]))
def test_bounds_hold_and_are_given_to_plain_polygons_alone(masks, separators):
    texts = [Raw(json.dumps(mask, separators=separators).encode()) for mask in masks]
    for mask, bound in zip(masks, coordinate_bounds(texts).tolist()):
        if bound == 0:
            assert not mask
        elif bound < math.inf:
            assert is_plain(mask) and max(map(max, mask)) < bound


def test_usual_polygons_are_judged_without_decoding():
    usual = [[[1.5, 2, 300.25, 4, 5, 6]], [[1, 2, 3, 4, 5, 6], [7.125, 8, 9, 10, 11, 999]]]
    texts = [Raw(json.dumps(mask).encode()) for mask in usual]
    assert coordinate_bounds(texts).tolist() == [1000, 1000]
    assert coordinate_bounds([Raw(b"[[1,2,3,4,5,1000.5]]")]).tolist() == [10_000]
    assert coordinate_bounds([Raw(b""), Raw(b"[]"), Raw(b"null")]).tolist() == [0, 0, 0]
    assert coordinate_bounds([]).tolist() == []

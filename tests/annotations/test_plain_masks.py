"""Masks judged as text: as decoding them would."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from iif_d2.annotations.masks import PLAIN_BELOW, plain_masks

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
def test_what_is_not_decoded_is_no_mask_or_plain_polygons(masks, separators):
    texts = [Raw(json.dumps(mask, separators=separators).encode()) for mask in masks]
    for mask, there in zip(masks, plain_masks(texts).tolist(), strict=True):
        if there >= 0:
            assert there == bool(mask)
        if there > 0:
            assert is_plain(mask) and max(map(max, mask)) < PLAIN_BELOW


def test_usual_masks_are_judged_without_decoding():
    usual = [[[1.5, 2, 300.25, 4, 5, 6]], [[1, 2, 3, 4, 5, 6], [7.125, 8, 9, 10, 11, 999]]]
    texts = [Raw(json.dumps(mask).encode()) for mask in usual]
    texts += [Raw(b"null"), Raw(b"[[1,2,3,4,5,1000.5]]"), texts[0]]
    assert plain_masks(texts).tolist() == [1, 1, 0, -1, 1]
    assert plain_masks([]).tolist() == []

"""Masks and sizes that no library should be given."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from iif_d2.annotations.masks import covers
from iif_d2.annotations.reading import read_annotations
from iif_d2.errors import DataError


def test_run_lengths_in_both_spellings_cover_their_pixels():
    rng = np.random.default_rng(0)
    for _ in range(200):
        shape = tuple(int(n) for n in rng.integers(1, 40, 2))
        mask = (rng.random(shape) < rng.choice([0, 0.1, 0.5, 1])).astype(np.uint8)
        changes = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0))
        plain = np.diff([0, *changes, mask.size]).tolist()
        text = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
        for counts in (plain, text):
            assert covers(counts, mask.size)
            assert not covers(counts, mask.size + 1)
        assert not covers(text[:-1] + "o", mask.size), "a letter says that more follow"


def written(path, **changes) -> str:
    """A json of one object in an image of 8 x 8, with changes to it or the image's width."""
    annotation = {"image_id": 7, "category_id": 1, "bbox": [0.0, 0.0, 4.0, 4.0], "id": 5, **changes}
    image = {"id": 7, "height": 8, "width": annotation.pop("width", 8), "file_name": "a.png"}
    content = {
        "images": [image],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "a"}],
    }
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"width": 0}, r"images\[0\] \(id 7\) has height 8 and width 0"),
        ({"width": 1 << 40}, "width 1099511627776"),
        ({"bbox": [0.0, 1e300, 1.0, 1.0]}, r"annotations\[0\].bbox .*1e\+300.*id 5, image_id 7"),
        ({"area": -1.0}, "area is -1"),
        ({"segmentation": [[0.0, 0.0, 1e9, 0.0, 1.0, 1.0]]}, "far outside the image"),
        (
            {"segmentation": {"size": [1 << 20, 1 << 20], "counts": [1 << 40]}},
            "in an image of height 8 and width 8",
        ),
        ({"segmentation": {"size": [8, 8], "counts": [0, 63]}}, "not the runs of 64 pixels"),
        ({"segmentation": {"size": [8, 8], "counts": "~"}}, "not the runs of 64 pixels"),
    ],
)
def test_what_cannot_be_drawn_is_named(tmp_path, changes, message):
    path = written(tmp_path / "a.json", **changes)
    with pytest.raises(DataError, match=message):
        read_annotations(path)


@pytest.mark.parametrize(
    "segmentation",
    [None, [], [[]], [[0.0, 0.0, 9.5, 0.0, 9.5, 9.5]], {"size": [8, 8], "counts": [0, 64]}],
)
def test_what_can_be_drawn_passes(tmp_path, segmentation):
    found = read_annotations(written(tmp_path / "a.json", segmentation=segmentation))
    assert found.has_masks == bool(segmentation)

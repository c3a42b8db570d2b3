"""Pictures of detections: whose colour, which mark, and labels that can be read."""

import itertools

import numpy as np
import pytest
import torch
from hotcoco import mask as rle

from iif_d2.evaluation import Detections
from iif_d2.groups import GROUPS
from iif_d2.plots.drawing import describe, draw_detections, judged
from iif_d2.plots.labels import Label, place_labels

GREY = np.full((480, 480, 3), 128, np.uint8)


def detections(boxes, scores, classes, masks=None):
    return Detections(np.array(boxes, float), np.array(scores, float), np.array(classes), masks)


def square(encoded):
    """One at 100 to 300 with a mask."""
    mask = torch.zeros(1, 480, 480, dtype=torch.bool)
    mask[0, 100:300, 100:300] = True
    found = detections([[100, 100, 200, 200]], [0.9], [0], mask)
    return found.encoded() if encoded else found


def near(picture, color):
    """bool (H, W): pixels of this colour in [0, 1]."""
    return np.abs(picture / 255 - np.array(color)).max(axis=2) < 0.02


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("letter", GROUPS)
def test_an_outline_has_the_groups_colour_and_nothing_is_filled(letter, encoded):
    drawn = draw_detections(GREY, square(encoded), ["owl"], np.array([letter]))
    outline = near(drawn, GROUPS[letter].color)
    for x, y in ((100, 200), (300, 200), (200, 300)):  # three sides; a label may be on the fourth
        assert outline[y - 3 : y + 3, x - 3 : x + 3].any(), (x, y)
    assert (drawn[150:250, 150:250] == 128).all()


def test_an_outline_follows_the_mask_and_a_box_stands_in_for_an_empty_one():
    triangle = torch.tensor(np.tril(np.ones((480, 480), bool)))[None]
    boxes = [[0, 0, 480, 480]]
    color = GROUPS["f"].color
    for mask, diagonal in ((triangle, True), (torch.zeros_like(triangle), False)):
        found = detections(boxes, [np.nan], [0], mask)
        drawn = near(draw_detections(GREY, found, ["x"], np.array(["f"])), color)
        assert drawn[297:303, 297:303].any() == diagonal
        assert drawn[200:300, :3].any()


def test_a_small_picture_is_enlarged_with_what_is_on_it():
    found = detections([[10, 10, 20, 20]], [0.9], [0])
    drawn = draw_detections(GREY[:60, :120], found, ["x"], np.array(["r"]))
    assert drawn.shape == (480, 960, 3)
    assert near(drawn, GROUPS["r"].color)[150:170, 75:85].any()  # its left side, eight times as far


def test_right_and_wrong_look_different_without_colour():
    found = square(False)
    pictures = [draw_detections(GREY, found, ["owl"], None, [mark]) for mark in (True, False, None)]
    for one, other in itertools.combinations(pictures, 2):
        assert (one != other).any()
    whole, dashed = (near(p, (0x3D / 255, 0x44 / 255, 0x4D / 255)) for p in pictures[:2])
    sides = [p[100:300, 98:103].any(axis=1).mean() for p in (whole, dashed)]
    assert sides[0] == 1 and sides[1] < 0.9


def test_a_detection_is_right_once_and_of_its_class():
    annotated = detections(
        [[0, 0, 10, 10], [50, 50, 10, 10], [80, 0, 9, 9]], [np.nan] * 3, [0, 1, 2]
    )
    found = detections(
        [[0, 0, 10, 9], [0, 0, 10, 10], [50, 50, 10, 10], [50, 50, 10, 4], [30, 30, 9, 9]],
        [0.8, 0.9, 0.7, 0.6, 0.5], [0, 0, 0, 1, 3],
    )  # fmt: skip
    # Less certain than the second; wrong class; an IoU of 0.4; nothing there.
    marks, taken = judged(found, annotated)
    assert marks == [False, True, False, False, False] and taken.tolist() == [True, False, False]
    counts = np.array([True] * 4 + [False])
    assert judged(found, annotated, counts)[0][-1] is None
    assert judged(found.take(np.zeros(0, int)), annotated)[0] == []
    nothing = annotated.take(np.zeros(0, int))
    assert judged(found, nothing)[0] == [False] * 5


def test_the_words_say_what_the_picture_shows():
    found = detections([[0, 0, 9, 9]] * 2, [0.876, np.nan], [1, 0])
    words = describe(found, ["owl", "cup"], np.array(["r", "f"]), [False, None])
    assert words == "cup 88%, wrong; owl (rare)"
    assert describe(found.take(np.zeros(0, int)), []) == "nothing"


def overlap(one, other):
    return all(one[k] < other[k + 2] and other[k] < one[k + 2] for k in (0, 1))


@pytest.mark.parametrize("count", [1, 4, 12, 60])
def test_labels_are_inside_and_none_lies_over_another(count):
    rng = np.random.default_rng(count)
    labels = []
    for _ in range(count):
        x, y = rng.uniform(0, 440, 2)
        box = (x, y, x + 40, y + 40)
        label = Label("a b", box, np.array([[x, y], [x + 40, y + 40]]), "#000000")
        sized = {"lines": ("a", "b"), "font": 28.0, "width": float(rng.uniform(60, 240))}
        labels.append(Label(**{**vars(label), **sized}))
    corners = place_labels(labels, 640, 480)
    placed = [
        (x, y, x + label.width, y + label.height)
        for label, (x, y) in ((la, c) for la, c in zip(labels, corners) if c is not None)
    ]
    for x0, y0, x1, y1 in placed:
        assert x0 >= 0 and y0 >= 0 and x1 <= 640 and y1 <= 480
    assert not any(overlap(a, b) for a, b in itertools.combinations(placed, 2))
    assert placed and (count > 4 or len(placed) == count)


def test_a_label_keeps_off_other_objects_and_stays_near_its_own():
    """Two objects side by side: neither label is on the other's object."""
    boxes = [(100, 200, 200, 300), (210, 200, 310, 300)]
    labels = [
        Label("x", box, np.array([[box[0], box[1]], [box[2], box[3]]]), "#000000", None, ("x",), 20.0, 90.0)
        for box in boxes
    ]  # fmt: skip
    for label, (x, y) in zip(labels, place_labels(labels, 480, 480)):
        rectangle = (x, y, x + label.width, y + label.height)
        assert not any(overlap(rectangle, box) for box in boxes)
        gaps = [
            max(label.box[k] - rectangle[k + 2], rectangle[k] - label.box[k + 2]) for k in (0, 1)
        ]
        assert max(gaps) < 10


def test_letters_are_large_enough_for_a_page_of_three_pictures():
    """Three pictures of 480 pixels on a page of 830: letters of 28 pixels are seen as 16."""
    found = detections([[100, 200, 100, 100]], [0.9], [0])
    drawn = draw_detections(GREY, found, ["owl"], np.array(["c"]))
    rows = np.flatnonzero(near(drawn, GROUPS["c"].color).sum(axis=1) > 40)
    label = [row for row in rows if row < 195 or row > 305]
    assert 28 * 1.3 <= len(label) <= 28 * 2


def test_a_mask_of_any_form_is_drawn_alike():
    mask = np.zeros((480, 480), np.uint8, order="F")
    mask[100:300, 100:300] = 1
    lists = detections([[100, 100, 200, 200]], [0.9], [0], [rle.encode(mask)])
    for found in (lists, square(True)):
        assert (
            draw_detections(GREY, found, ["x"]) == draw_detections(GREY, square(False), ["x"])
        ).all()

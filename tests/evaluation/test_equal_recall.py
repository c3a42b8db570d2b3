"""Counts at equal recall, against an oracle that tries every threshold in plain Python."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from iif_d2.errors import DataError
from iif_d2.evaluation import Detections
from iif_d2.evaluation.equal_recall import false_positives_at_recall
from iif_d2.evaluation.ground_truth import GroundTruth

RECALLS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def overlap(one, other, crowd=False):
    """IoU of two boxes x, y, w, h; with a crowd the share of the first that lies in it."""
    low = [max(one[k], other[k]) for k in (0, 1)]
    high = [min(one[k] + one[k + 2], other[k] + other[k + 2]) for k in (0, 1)]
    both = max(0, high[0] - low[0]) * max(0, high[1] - low[1])
    first, second = one[2] * one[3], other[2] * other[3]
    union = first if crowd else first + second - both
    return both / union if union else 0.0


def oracle(truth, found, groups, recall):
    """{group: (threshold, false positives, on background)} or None where it is not reached."""
    ids = sorted(category["id"] for category in truth["categories"])
    group_of = dict(zip(ids, groups))
    judged = []  # group, score, right, on background
    total = dict.fromkeys(groups, 0)
    for image in truth["images"]:
        here = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        for annotation in here:
            total[group_of[annotation["category_id"]]] += not annotation["iscrowd"]
        own = [d for d in found if d["image_id"] == image["id"]]
        taken = set()
        for d in sorted(own, key=lambda d: -d["score"]):
            classes = {a["category_id"] for a in here}
            if "neg_category_ids" in image and d["category_id"] not in classes:
                if d["category_id"] not in image["neg_category_ids"]:
                    continue
            best = None
            for a in here:
                of_class = a["category_id"] == d["category_id"] and not a["iscrowd"]
                if of_class and a["id"] not in taken and overlap(d["bbox"], a["bbox"]) >= 0.5:
                    if best is None or overlap(d["bbox"], a["bbox"]) >= best[0]:
                        best = overlap(d["bbox"], a["bbox"]), a["id"]
            if best is None:
                in_crowd = any(
                    a["iscrowd"]
                    and a["category_id"] == d["category_id"]
                    and overlap(d["bbox"], a["bbox"], True) >= 0.5
                    for a in here
                )
                if in_crowd or d["category_id"] in image.get("not_exhaustive_category_ids", ()):
                    continue
            else:
                taken.add(best[1])
            alone = all(overlap(d["bbox"], a["bbox"], a["iscrowd"]) < 0.1 for a in here)
            judged.append((group_of[d["category_id"]], d["score"], best is not None, alone))
    result = {}
    for group in total:
        result[group] = None
        for threshold in sorted({score for _, score, _, _ in judged}, reverse=True):
            part = [j for j in judged if j[0] == group and j[1] >= threshold]
            hits = sum(right for *_, right, _ in part)
            if any(j[1] == threshold and j[2] for j in part) and hits / total[group] >= recall:
                wrong = [alone for *_, right, alone in part if not right]
                result[group] = (threshold, len(wrong), sum(wrong))
                break
    return result


def case(seed, federated):
    """Some images with crowded boxes of six classes, and detections near them and elsewhere."""
    rng = np.random.default_rng(seed)
    truth = {"images": [], "annotations": [], "categories": []}
    for place, category in enumerate((3, 5, 8, 9, 20, 21)):
        truth["categories"].append({"id": category, "name": f"class {place}"})
    found = []
    for image in range(1, 71):  # more than are matched in one call
        record = {"id": 7 * image, "width": 100, "height": 100}
        if federated:
            record["neg_category_ids"] = [3, 5, 21]
            record["not_exhaustive_category_ids"] = [9] if image % 2 else []
        truth["images"].append(record)
        for _ in range(rng.integers(0, 4)):
            box = [*rng.integers(0, 70, 2).tolist(), *rng.integers(10, 30, 2).tolist()]
            category = int(rng.choice([3, 5, 8, 9, 20, 21]))
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1, "image_id": 7 * image, "bbox": box,
                    "category_id": category, "area": box[2] * box[3], "segmentation": [],
                    "iscrowd": int(rng.random() < 0.1),
                }
            )  # fmt: skip
            for _ in range(rng.integers(0, 4)):
                near = [value + int(rng.integers(-4, 5)) for value in box]
                other = category if rng.random() < 0.8 else 8
                found.append((7 * image, other, near))
        for _ in range(rng.integers(0, 3)):
            box = [*rng.integers(0, 80, 2).tolist(), 15, 15]
            found.append((7 * image, int(rng.choice([3, 5, 8, 9, 20, 21])), box))
    detections = [
        # few values, so that many are equal
        {"image_id": i, "category_id": c, "bbox": b, "score": int(rng.integers(1, 12)) / 16}
        for i, c, b in found
    ]
    return truth, detections


def counted(tmp_path, truth, found, groups, **options):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    ids = sorted(category["id"] for category in truth["categories"])
    detections = Detections.from_json(found, ids, masks=False)
    return false_positives_at_recall(GroundTruth(path), detections, np.array(groups), **options)


@pytest.mark.parametrize("federated", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_counts_what_an_oracle_counts(seed, federated, tmp_path):
    truth, found = case(seed, federated)
    groups = ["r", "c", "c", "f", "f", "r"]
    counts = counted(tmp_path, truth, found, groups, recalls=RECALLS)
    assert len(counts) == 3 * len(RECALLS)
    not_reached = 0
    for line in counts:
        expected = oracle(truth, found, groups, line.recall)[line.group]
        assert line.images == 70
        if expected is None:
            not_reached += 1
            assert math.isnan(line.threshold) and line.highest < line.recall
            assert math.isnan(line.false_positives) and math.isnan(line.background)
        else:
            assert (line.threshold, line.false_positives, line.background) == expected
            assert line.highest >= line.recall
    assert 0 < not_reached < len(counts)
    assert any(line.false_positives > line.background > 0 for line in counts)


BOX = [10, 10, 20, 20]
SMALL = {
    "images": [{"id": 1, "width": 100, "height": 100}],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    "annotations": [
        {
            "id": 0, "image_id": 1, "category_id": 1, "bbox": [40 * i, 10, 20, 20], "area": 400,
            "iscrowd": 0, "segmentation": [],
        }
        for i in range(2)
    ],
}  # fmt: skip


def of_small(*found):
    """Detections of the class a: place in x, score."""
    return [
        {"image_id": 1, "category_id": 1, "bbox": [x, 10, 20, 20], "score": score}
        for x, score in found
    ]


def test_equal_scores_are_in_or_out_together(tmp_path):
    found = of_small((0, 0.5), (75, 0.5), (75, 0.4), (40, 0.3), (75, 0.3), (75, 0.2))
    lines = counted(tmp_path, SMALL, found, ["r", "f"], recalls=(0.5, 1.0))
    rare = [line for line in lines if line.group == "r"]
    assert [line.threshold for line in rare] == [0.5, 0.3]
    assert [line.false_positives for line in rare] == [1, 3]
    assert [line.background for line in rare] == [1, 3]


def test_a_scale_of_the_scores_changes_no_count(tmp_path):
    truth, found = case(0, True)
    groups = ["r", "c", "c", "f", "f", "r"]
    scaled = [{**record, "score": record["score"] / 1024} for record in found]
    one, other = (counted(tmp_path, truth, records, groups) for records in (found, scaled))
    for line, same in zip(one, other):
        np.testing.assert_equal(
            (line.false_positives, line.background), (same.false_positives, same.background)
        )


def test_a_group_without_objects_has_no_recall_and_one_without_classes_no_line(tmp_path):
    lines = counted(tmp_path, SMALL, of_small((0, 0.5)), ["r", "f"], recalls=(0.5, 0.9))
    assert [(line.group, line.recall, line.objects) for line in lines] == [
        ("r", 0.5, 2), ("r", 0.9, 2), ("f", 0.5, 0), ("f", 0.9, 0),
    ]  # fmt: skip
    assert lines[0].false_positives == 0 and lines[0].highest == 0.5
    assert math.isnan(lines[1].threshold) and lines[1].highest == 0.5
    for line in lines[2:]:
        assert math.isnan(line.highest) and math.isnan(line.threshold)


def test_no_detections_reach_nothing(tmp_path):
    (line,) = counted(tmp_path, SMALL, [], ["r", "r"], recalls=(0.1,))
    assert line.highest == 0 and math.isnan(line.threshold)


def test_only_the_best_of_an_image_count(tmp_path):
    found = of_small((0, 0.9), (75, 0.8), (40, 0.7))
    lines = counted(tmp_path, SMALL, found, ["r", "r"], recalls=(0.5, 1.0), max_dets=2)
    assert [line.highest for line in lines] == [0.5, 0.5]
    assert counted(tmp_path, SMALL, found, ["r", "r"], recalls=(1.0,))[0].false_positives == 1


def test_a_detection_in_an_unknown_image_is_refused(tmp_path):
    found = [{"image_id": 2, "category_id": 1, "bbox": BOX, "score": 0.5}]
    with pytest.raises(DataError, match="no image with id 2"):
        counted(tmp_path, SMALL, found, ["r", "f"])

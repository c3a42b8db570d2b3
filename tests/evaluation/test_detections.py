"""What a model found: from Instances, from a results json and from annotations, and back."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask

from iif_d2.errors import DataError
from iif_d2.evaluation import Detections

CATEGORY_IDS = [3, 5, 11]


def instances(masks=None):
    """Three detections on an image of 40 x 50 pixels, with masks as the model may give them."""
    found = Instances((40, 50))
    found.pred_boxes = Boxes(torch.tensor([[1.1, 2.2, 30.3, 38.4], [5, 5, 9, 9], [0, 0, 50, 40.0]]))
    found.scores = torch.tensor([0.9, 0.1, 0.5])
    found.pred_classes = torch.tensor([2, 0, 1])
    pasted = torch.zeros(3, 40, 50, dtype=torch.bool)
    for mask, box in zip(pasted, found.pred_boxes.tensor.int().tolist()):
        mask[box[1] : box[3], box[0] : box[2]] = True
    if masks == "pasted":
        found.pred_masks = pasted
    if masks == "rle":
        columns = np.asfortranarray(pasted.permute(1, 2, 0).numpy().astype(np.uint8))
        found.pred_masks_rle = coco_mask.encode(columns)
    return found


@pytest.mark.parametrize("masks", [None, "pasted", "rle"])
def test_what_detectron2_would_write_comes_back_from_it(tmp_path, masks):
    from detectron2.evaluation.coco_evaluation import instances_to_coco_json

    found = instances(masks)
    records = Detections.from_instances(found).to_coco(7, CATEGORY_IDS)
    theirs = instances()
    if masks:
        theirs.pred_masks = instances("pasted").pred_masks
    expected = instances_to_coco_json(theirs, 7)
    for record in expected:
        record["category_id"] = CATEGORY_IDS[record["category_id"]]
    assert records == expected
    path = tmp_path / "results.json"
    path.write_text(json.dumps(records))
    for source in (path, str(path), records):
        read = Detections.from_json(source, CATEGORY_IDS)
        assert read.to_coco(category_ids=CATEGORY_IDS) == records
        assert read.images.tolist() == [7] * 3 and (read.masks is None) == (masks is None)
        np.testing.assert_array_equal(read.corners, found.pred_boxes.tensor.numpy())
        assert Detections.from_json(source, CATEGORY_IDS, masks=False).masks is None


def test_several_images_and_names_for_them():
    one, two = (Detections.from_instances(instances()).to_coco(name) for name in ("b", 4))
    both = Detections.from_json(two + one)
    assert both.classes.tolist() == 2 * [2, 0, 1] and both.images.tolist() == 3 * [4] + 3 * ["b"]
    assert both.take(both.images == "b").to_coco() == one
    parts = [both.take(both.images == name) for name in (4, "b")]
    assert Detections.concatenate(parts).to_coco() == both.to_coco()
    for nothing in (Detections.from_json([]), Detections.concatenate([]), Detections.none()):
        assert len(nothing) == 0 and nothing.to_coco() == []


def test_annotated_objects_have_no_scores(dataset_name):
    record = DatasetCatalog.get(dataset_name)[0]
    found = Detections.from_annotations(record)
    assert len(found) == len(record["annotations"]) > 0 and np.isnan(found.scores).all()
    boxes = [annotation["bbox"] for annotation in record["annotations"]]
    np.testing.assert_array_equal(found.boxes, boxes)
    areas = coco_mask.area([result["segmentation"] for result in found.to_coco(1)])
    np.testing.assert_array_equal(areas, found.boxes[:, 2] * found.boxes[:, 3])


def test_bad_input_is_a_sentence(tmp_path):
    records = Detections.from_instances(instances()).to_coco(7, CATEGORY_IDS)
    with pytest.raises(DataError, match="has category_id 3, which is none of the data set's 2"):
        Detections.from_json(records, [5, 11])
    del records[1]["bbox"]
    with pytest.raises(DataError, match="missing required field `bbox`"):
        Detections.from_json(records)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(records))
    with pytest.raises(DataError, match=f"{path} is not a results file of detections: .*`bbox`"):
        Detections.from_json(path)
    with pytest.raises(DataError, match="gone.json does not exist"):
        Detections.from_json(tmp_path / "gone.json")
    with pytest.raises(DataError, match="photo 1: class 2 was predicted, but there are 2 classes"):
        Detections.from_instances(instances(), num_classes=2, source="photo 1")

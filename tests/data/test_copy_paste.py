"""Copy-paste of rare classes: what is pasted, what is cut, and that a resumed run pastes the same."""

import copy
import itertools

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall, instantiate
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from pycocotools import mask as mask_api

from iif_d2.data import CopyPaste, DatasetDicts, LongTailDatasetMapper, TrainingBatches
from iif_d2.data.sampling import seeded
from iif_d2.errors import ConfigError

ON = ["INPUT.COPY_PASTE.PROB", "1.0", "INPUT.COPY_PASTE.MAX_INSTANCES", "4"]
HALF = ["INPUT.COPY_PASTE.PROB", "0.5", *ON[2:], "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "True"]


def picture(rng, size, count, polygons, colour):
    """A mapped picture of one colour with some boxes, which may overlap and lie one on another."""
    height, width = size
    corners = rng.integers(0, (width - 8, height - 8), (count, 2))
    far = np.minimum(corners + rng.integers(6, 30, (count, 2)), (width, height))
    boxes = np.concatenate([corners, far], axis=1)
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
    instances.gt_classes = torch.tensor(rng.integers(0, 9, count))
    if polygons:
        shapes = [[np.array([x, y, X, y, X, Y, x, Y], float)] for x, y, X, Y in boxes.tolist()]
        instances.gt_masks = PolygonMasks(shapes)
    else:
        masks = torch.zeros((count, *size), dtype=torch.bool)
        for mask, (x, y, X, Y) in zip(masks, boxes.tolist()):
            mask[y:Y, x:X] = True
        instances.gt_masks = BitMasks(masks)
    return {"image": torch.full((3, *size), colour, dtype=torch.uint8), "instances": instances}


def bitmaps(instances):
    masks = instances.gt_masks
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, *instances.image_size)
    return masks.tensor


@pytest.mark.parametrize("polygons", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_masks_boxes_and_pixels_agree(polygons, seed):
    rng = np.random.default_rng(seed)
    size = tuple(int(n) for n in rng.integers(20, 70, 2))
    into = picture(rng, size, int(rng.integers(0, 8)), polygons, 10)
    source = picture(rng, (50, 60), int(rng.integers(1, 4)), polygons, 200)
    old, boxes_before = bitmaps(into["instances"]), into["instances"].gt_boxes.tensor.clone()
    labels = into["instances"].gt_classes, source["instances"].gt_classes
    with seeded(seed):
        CopyPaste(1.0, 5).paste(into, source)
    found = into["instances"]
    new, pasted = found.gt_masks.tensor, into["image"][0] == 200
    # Every pixel is the one picture's or the other's, and pasted are the pixels of pasted objects.
    assert ((into["image"] == 10) | (into["image"] == 200)).all()
    cut = old & ~pasted
    stays = cut.flatten(1).any(dim=1)
    kept = int(stays.sum())
    assert torch.equal(new[:kept], cut[stays])  # who is covered wholly is gone
    own = new[kept:]
    assert torch.equal(own.any(dim=0), pasted) and (own.sum(dim=0) <= 1).all()
    assert 0 < len(own) <= len(labels[1])  # one may lie on another
    assert int(new.any(dim=0).sum()) == int((old.any(dim=0) | pasted).sum())
    assert torch.equal(found.gt_classes[:kept], labels[0][stays])
    if len(own) == len(labels[1]):
        assert torch.equal(found.gt_classes[kept:], labels[1])
    changed = torch.cat([(cut != old).flatten(1).any(dim=1)[stays], torch.ones(len(own)) > 0])
    tight = found.gt_masks.get_bounding_boxes().tensor
    assert torch.equal(found.gt_boxes.tensor[changed], tight[changed])
    assert torch.equal(found.gt_boxes.tensor[~changed], boxes_before[stays][~changed[:kept]])


def test_an_object_that_fits_is_pasted_whole_and_a_larger_one_as_far_as_it_goes():
    rng = np.random.default_rng(0)
    for size in ((40, 50), (12, 50), (5, 5)):
        source = picture(rng, (60, 60), 1, False, 200)
        source["instances"].gt_masks.tensor[:] = False
        source["instances"].gt_masks.tensor[0, 20:50, 10:30] = True
        places = set()
        for seed in range(20):
            into = picture(rng, size, 0, False, 10)
            with seeded(seed):
                CopyPaste(1.0, 5).paste(into, source)
            (box,) = into["instances"].gt_boxes.tensor.tolist()
            places.add(tuple(box))
            assert [box[3] - box[1], box[2] - box[0]] == [min(30, size[0]), min(20, size[1])]
        assert len(places) > 1 or size == (5, 5)


def test_rare_objects_alone_are_pasted_each_class_alike(dataset_name):
    def record(number, classes, crowd=0):
        objects = [{"category_id": c, "iscrowd": crowd, "segmentation": []} for c in classes]
        return {"image_id": number, "height": 9, "width": 9, "annotations": objects}

    dicts = [record(i, [0, 0, 1]) for i in range(6)] + [record(6, [2, 0]), record(7, [2], 1)]
    paste = CopyPaste(0.75, 7)
    paste.take_from(DatasetDicts.of(dicts))
    with seeded(0):
        drawn = [paste.draw() for _ in range(800)]
    there = [d for d in drawn if d is not None]
    assert 540 < len(there) < 660
    labels = [tuple(a["category_id"] for a in d["annotations"]) for d in there]
    assert set(labels) == {(1,), (2,)}  # no frequent class, no crowd
    assert 0.4 < labels.count((2,)) / len(labels) < 0.6  # one object, against six
    assert {d["image_id"] for d in there} == set(range(7))
    assert len(dicts[0]["annotations"]) == 3  # as it was
    with pytest.raises(ConfigError, match="fewer than 2 training objects, and the rarest here has"):
        few = CopyPaste(0.5, 2)
        few.take_from(DatasetDicts.of([record(0, [0, 0, 1, 1])]))


def as_bitmaps(record):
    """With run lengths in place of polygons, and a crowd."""
    record = copy.deepcopy(record)
    for annotation in record["annotations"]:
        rles = mask_api.frPyObjects(annotation["segmentation"], record["height"], record["width"])
        annotation["segmentation"] = mask_api.merge(rles)
    crowd = {**record["annotations"][0], "iscrowd": 1}
    return {**record, "annotations": [*record["annotations"], crowd]}


@pytest.mark.parametrize("format", ["polygon", "bitmask"])
def test_the_mapper_pastes_in_either_format(tiny_cfg, dataset_name, format):
    dicts = [d for d in DatasetCatalog.get(dataset_name) if d["annotations"]]
    if format == "bitmask":
        dicts = [as_bitmaps(record) for record in dicts]
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", *ON, "INPUT.MASK_FORMAT", format)
    mapper, plain = LongTailDatasetMapper(cfg, True), LongTailDatasetMapper(tiny_cfg(), True)
    mapper.copy_paste.take_from(DatasetDicts.of(dicts))
    rare = set(mapper.copy_paste._places)
    count = sum(a["category_id"] in rare for d in dicts for a in d["annotations"])
    assert 0 < len(rare) < 3 and count > 0
    with seeded(3):
        items = [mapper(record) for record in dicts]
    for record, item in zip(dicts, items):
        single = [a for a in record["annotations"] if not a.get("iscrowd", 0)]
        instances = item["instances"]
        assert isinstance(instances.gt_masks, BitMasks)
        assert int(instances.gt_classes[-1]) in rare and len(instances) <= len(single) + 3
    assert plain.copy_paste is None
    assert LongTailDatasetMapper(cfg, False).copy_paste is None  # nothing is pasted at test


def test_any_start_and_any_workers_paste_the_same(tiny_cfg):
    def batches(start, workers):
        cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", *HALF, "DATALOADER.NUM_WORKERS", workers)
        made = TrainingBatches.from_config(cfg, LongTailDatasetMapper(cfg, True))
        made.start = start
        return list(itertools.islice(made, 8 - start))

    all_of_them = batches(0, "0")
    kinds = {type(i["instances"].gt_masks) for batch in all_of_them for i in batch}
    assert kinds == {BitMasks, PolygonMasks}  # some are pasted into, some are not
    for start, workers in ((3, "0"), (0, "2"), (3, "2")):
        for batch, expected in zip(batches(start, workers), all_of_them[start:], strict=True):
            for image, one in zip(batch, expected, strict=True):
                assert torch.equal(image["image"], one["image"])
                ours, theirs = image["instances"], one["instances"]
                assert torch.equal(ours.gt_boxes.tensor, theirs.gt_boxes.tensor)
                assert torch.equal(bitmaps(ours), bitmaps(theirs))


def test_a_model_learns_from_pasted_and_plain_pictures_in_one_batch(tiny_cfg):
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", *HALF)
    made = TrainingBatches.from_config(cfg, LongTailDatasetMapper(cfg, True))
    batch = next(b for b in made if len({type(i["instances"].gt_masks) for i in b}) == 2)
    with EventStorage():
        losses = build_model(cfg)(batch)
    assert all(loss.isfinite() for loss in losses.values()) and losses["loss_mask"] > 0


def test_a_lazy_config_says_it_of_the_mapper(dataset_name):
    node = LazyCall(LongTailDatasetMapper)(
        is_train=True, augmentations=[LazyCall(T.RandomFlip)()], image_format="RGB",
        use_instance_mask=True, copy_paste=LazyCall(CopyPaste)(probability=1.0, max_instances=4),
    )  # fmt: skip
    dicts = [d for d in DatasetCatalog.get(dataset_name) if d["annotations"]]
    options = {"mapper": instantiate(node), "total_batch_size": 2}
    made = TrainingBatches(dicts, lambda d: range(len(d)), 0, **options)
    assert all(isinstance(i["instances"].gt_masks, BitMasks) for i in next(iter(made)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["INPUT.COPY_PASTE.PROB", "1.5"], r"INPUT.COPY_PASTE.PROB is 1.5; it must be in \[0, 1\]"),
        (["INPUT.COPY_PASTE.PROB", "-0.5"], "PROB is -0.5"),
        ([*ON[:3], "1"], "MAX_INSTANCES is 1; .* must be 2 or more"),
        ([*ON, "MODEL.MASK_ON", "False"], "needs MODEL.MASK_ON True"),
    ],
)
def test_what_cannot_be_pasted_is_refused(tiny_cfg, options, message):
    with pytest.raises(ConfigError, match=message):
        LongTailDatasetMapper(tiny_cfg("mask_rcnn_R_18_FPN_iif", *options), True)


def test_a_loader_that_shows_it_no_pictures_is_named(tiny_cfg, dataset_name):
    mapper = LongTailDatasetMapper(tiny_cfg("mask_rcnn_R_18_FPN_iif", *ON), True)
    with pytest.raises(ConfigError, match="does not know the training pictures"):
        mapper(DatasetCatalog.get(dataset_name)[0])

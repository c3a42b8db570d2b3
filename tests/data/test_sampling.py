"""Training batches: Detectron2's own order, from any iteration, whatever the number of workers."""

import itertools

import pytest
import torch
from detectron2.data import build_detection_train_loader
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler

from iif_d2.data import LongTailDatasetMapper, TrainingBatches, sampling
from iif_d2.errors import ConfigError, DataError


def batches(cfg, start=0, count=9):
    loader = TrainingBatches.from_config(cfg, LongTailDatasetMapper(cfg, True))
    loader.start = start
    return list(itertools.islice(loader, count))


@pytest.mark.parametrize("sampler", ["TrainingSampler", "RepeatFactorTrainingSampler"])
@pytest.mark.parametrize("grouped", ["True", "False"])
def test_any_start_and_any_workers_give_the_same(tiny_cfg, monkeypatch, sampler, grouped):
    options = (
        "DATALOADER.SAMPLER_TRAIN", sampler, "DATALOADER.ASPECT_RATIO_GROUPING", grouped,
        "DATALOADER.REPEAT_THRESHOLD", "0.5", "INPUT.MIN_SIZE_TRAIN", "(48, 56, 64)",
    )  # fmt: skip
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", *options)
    shapes = sampling.TrainingBatches._indices  # half of the images count as wide

    def mixed(self):
        if self._wide is not None:
            self._wide[::2] = True
        return shapes(self)

    monkeypatch.setattr(sampling.TrainingBatches, "_indices", mixed)
    all_of_them = batches(cfg)
    assert len({image["image"].shape for batch in all_of_them for image in batch}) > 1
    for start, workers in ((4, "0"), (0, "2"), (4, "2")):
        changed = tiny_cfg("mask_rcnn_R_18_FPN_iif", *options, "DATALOADER.NUM_WORKERS", workers)
        later = batches(changed, start, 9 - start)
        for batch, expected in zip(later, all_of_them[start:], strict=True):
            for image, one in zip(batch, expected, strict=True):
                assert image["file_name"] == one["file_name"]
                assert torch.equal(image["image"], one["image"])
                assert torch.equal(
                    image["instances"].gt_boxes.tensor, one["instances"].gt_boxes.tensor
                )


@pytest.mark.parametrize("name", ["TrainingSampler", "RepeatFactorTrainingSampler"])
def test_the_order_is_detectron2s(tiny_cfg, name):
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", "DATALOADER.SAMPLER_TRAIN", name)
    mapper = LongTailDatasetMapper(cfg, True)
    ours = TrainingBatches.from_config(cfg, mapper)
    kind = {
        "TrainingSampler": TrainingSampler,
        "RepeatFactorTrainingSampler": RepeatFactorTrainingSampler,
    }[name]
    assert type(ours.sampler) is kind
    theirs = build_detection_train_loader(cfg, mapper=mapper, sampler=ours.sampler)
    for batch, expected in itertools.islice(zip(ours, theirs), 12):
        assert [i["file_name"] for i in batch] == [i["file_name"] for i in expected]


def test_in_place_of_an_image_that_the_mapper_leaves_out_another_is_drawn(tiny_cfg):
    cfg = tiny_cfg()
    mapper = LongTailDatasetMapper(cfg, True)

    def picky(record):
        return None if record["image_id"] % 2 else mapper(record)

    def names(start):
        loader = TrainingBatches.from_config(cfg, picky)
        loader.start = start
        return [[i["image_id"] for i in batch] for batch in itertools.islice(loader, 8 - start)]

    drawn = names(0)
    assert all(number % 2 == 0 for batch in drawn for number in batch)
    assert names(5) == drawn[5:]
    with pytest.raises(DataError, match="gave None for 1000 images in turn"):
        next(iter(TrainingBatches.from_config(cfg, lambda record: None)))


def test_sizes_are_asked_for_only_where_images_are_grouped_by_shape():
    dicts = [{"file_name": str(i), "image_id": i, "annotations": []} for i in range(4)]
    options = {"mapper": dict, "total_batch_size": 2}
    make = TrainingSampler
    loader = TrainingBatches(
        dicts, lambda d: make(len(d)), 0, aspect_ratio_grouping=False, **options
    )
    assert len(next(iter(loader))) == 2
    with pytest.raises(ConfigError, match="'0' has no width and height"):
        TrainingBatches(dicts, lambda d: make(len(d)), 0, **options)


def test_reading_ahead_draws_nothing_from_the_step(tiny_cfg):
    loader = iter(TrainingBatches.from_config(cfg := tiny_cfg(), LongTailDatasetMapper(cfg, True)))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    next(loader)
    assert torch.equal(torch.get_rng_state(), before)

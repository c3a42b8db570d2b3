"""Pictures that cannot be used are named."""

import logging
import os

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from PIL import Image

from iif_d2.data import LongTailDatasetMapper
from iif_d2.data import mapper as mapper_module
from iif_d2.errors import DataError
from iif_d2.evaluation.detect import detect, read_picture


@pytest.fixture
def record(dataset_name):
    return DatasetCatalog.get(dataset_name)[0]


def test_a_good_picture_is_read(tiny_cfg, record):
    item = LongTailDatasetMapper(tiny_cfg(), True)(record)
    assert item["image"].shape == (3, 64, 64) and len(item["instances"]) > 0


def test_missing_broken_and_missized_pictures_are_named(tiny_cfg, record, tmp_path):
    mapper = LongTailDatasetMapper(tiny_cfg(), True)
    gone = {**record, "file_name": str(tmp_path / "gone.png")}
    with pytest.raises(DataError, match=r"gone.png \(id 1\) does not exist; check"):
        mapper(gone)
    content = open(record["file_name"], "rb").read()
    for name, text in (("cut.png", content[: len(content) // 2]), ("text.png", b"no picture")):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(DataError, match=rf"{name} \(id 1\) cannot be read"):
            mapper({**record, "file_name": str(tmp_path / name)})
    with pytest.raises(DataError, match="correct its width and height"):
        mapper({**record, "width": 99})


def test_a_picture_without_annotations_is_one_without_objects(tiny_cfg, record):
    bare = {key: value for key, value in record.items() if key != "annotations"}
    mapped = LongTailDatasetMapper(tiny_cfg(), True)(bare)
    assert "instances" not in mapped and mapped["image"].shape[0] == 3


def test_run_length_masks_need_the_bitmask_format(tiny_cfg, record):
    rle = {"size": [64, 64], "counts": "0P2"}
    spoilt = {**record, "annotations": [{**record["annotations"][0], "segmentation": rle}]}
    with pytest.raises(DataError, match="INPUT.MASK_FORMAT bitmask"):
        LongTailDatasetMapper(tiny_cfg(), True)(spoilt)


def test_a_pipe_is_not_waited_for(tiny_cfg, record, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe.png \(id 1\) is no file"):
        LongTailDatasetMapper(tiny_cfg(), True)({**record, "file_name": str(tmp_path / "pipe.png")})


def test_a_slow_picture_is_named(tiny_cfg, record, monkeypatch):
    said = []
    monkeypatch.setattr(mapper_module, "_SLOW", 0.0)
    monkeypatch.setattr(mapper_module, "log_every_n_seconds", lambda *args, **_: said.append(args))
    LongTailDatasetMapper(tiny_cfg(), True)(record)
    ((level, message, _),) = said
    assert level == logging.WARNING and record["file_name"] in message and "s to read" in message


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_pixels_of_more_than_eight_bits_are_refused(tiny_cfg, record, tmp_path, mode):
    path = str(tmp_path / "deep.tiff")
    Image.fromarray(np.full((64, 64), 1000, np.int32)).convert(mode).save(path)
    bits = "16" if "16" in mode else "32"
    with pytest.raises(DataError, match=rf"deep.tiff \(id 1\) has pixels of {bits} bits.*; scale"):
        LongTailDatasetMapper(tiny_cfg(), True)({**record, "file_name": path})
    with pytest.raises(DataError, match=rf"deep.tiff has pixels of {bits} bits.*; scale"):
        read_picture(path)


def turned(path, orientation: int, size: tuple[int, int]) -> str:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(path, exif=exif)
    return str(path)


@pytest.mark.parametrize("format", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_named_once(tiny_cfg, record, tmp_path, caplog, orientation, format):
    """A quarter turn exchanges the sizes, which the json either follows or does not."""
    path = turned(tmp_path / f"turned.{format}", orientation, (64, 32))
    mapper = LongTailDatasetMapper(tiny_cfg(), False)
    stored = {**record, "file_name": path, "width": 64, "height": 32}
    quarter = orientation > 4
    if quarter:
        with pytest.raises(DataError, match="EXIF.*width 64 and height 32 as stored.*; .*exchange"):
            mapper(stored)
        stored.update(width=32, height=64)
    with caplog.at_level(logging.WARNING, mapper_module.__name__):
        for _ in range(2):
            mapper(stored)
    said = [r for r in caplog.records if "EXIF" in r.getMessage()]
    assert len(said) == (1 if orientation in (2, 3, 4) else 0)
    assert all(path in r.getMessage() and "remove the orientation" in r.getMessage() for r in said)


def test_a_windows_path_is_named(tiny_cfg, record, monkeypatch):
    monkeypatch.setattr(mapper_module, "_WAITS", ())
    with pytest.raises(DataError, match=r"a\\b.png.*backslash.*write /"):
        LongTailDatasetMapper(tiny_cfg(), True)({**record, "file_name": "a\\b.png"})


ONE_CHANNEL = ["INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", "[114.0]", "MODEL.PIXEL_STD", "[57.0]",
               "MODEL.MASK_ON", "False"]  # fmt: skip


def test_one_channel_trains_and_detects(tiny_cfg, record):
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", *ONE_CHANNEL)
    model = build_model(cfg)
    assert model.backbone.bottom_up.stem.conv1.weight.shape[1] == 1
    item = LongTailDatasetMapper(cfg, True)(record)
    assert item["image"].shape == (1, 64, 64)
    with EventStorage():
        losses = model([item])
    assert all(torch.isfinite(loss) for loss in losses.values())
    grey = LongTailDatasetMapper(cfg, False)(record)["image"]
    shown = []
    model.eval().backbone.register_forward_pre_hook(lambda _, inputs: shown.extend(inputs))
    detect(cfg, model, read_picture(record["file_name"]))
    assert torch.equal(shown[0][0], (grey - 114.0) / 57.0)  # as evaluation shows it

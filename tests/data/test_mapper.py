"""Pictures that cannot be used are named."""

import logging
import os

import pytest
from detectron2.data import DatasetCatalog

from iif_d2.data import LongTailDatasetMapper
from iif_d2.data import mapper as mapper_module
from iif_d2.errors import DataError


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

"""iif_d2.load: a model from its checkpoint alone, on pictures of every kind."""

import logging

import numpy as np
import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog
from PIL import Image

import iif_d2
from iif_d2.checkpoint import LongTailCheckpointer, load_trained_model
from iif_d2.config import load_config
from iif_d2.engine import LongTailTrainer
from iif_d2.errors import CheckpointError, ConfigError, DataError
from iif_d2.evaluation import Detections
from iif_d2.evaluation.detect import detect, read_picture

from ..checkpoint.stored.make import HERE, LAZY, NARROW_LAZY, VITDET
from ..conftest import CLASS_NAMES, SIZE, TINY, finding_model


@pytest.fixture
def picture(dataset):
    return str(dataset[1] / "train2017" / "000000000002.png")


@pytest.fixture(scope="module")
def _kept():
    return {}


@pytest.fixture
def saved(tiny_cfg, tmp_path, _kept):
    """A function: the path of a checkpoint as the trainer saves it, by the Mini config's name."""

    def make(name="mask_rcnn_R_18_FPN_iif", *overrides):
        path = tmp_path / "out" / "saved.pth"
        key = (name, *overrides)
        if key not in _kept:
            cfg = tiny_cfg(name, *overrides)
            trainer = LongTailTrainer(cfg)
            trainer.model.load_state_dict(finding_model(cfg).state_dict(), strict=False)
            trainer.checkpointer.checkpointables.clear()  # of a training that did not begin
            trainer.checkpointer.save("saved")
            _kept[key] = path.read_bytes()
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(_kept[key])
        return str(path)

    return make


def same(one, other):
    for field in ("boxes", "scores", "classes"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    assert one.encoded().masks == other.encoded().masks


def edited(path, **changes):
    """The checkpoint with other entries; None takes one out."""
    content = torch.load(path, weights_only=True) | changes
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    return path


def with_config(path, **changes):
    """The checkpoint with other sections of its config."""
    config = yaml.safe_load(torch.load(path, weights_only=True)["config"])
    for section, values in changes.items():
        place = config
        for part in section.split("__"):
            place = place.setdefault(part, {})
        place.update(values)
    return edited(path, config=yaml.safe_dump(config))


@pytest.mark.parametrize("method", ["iif", "softmax"])
def test_a_checkpoint_alone_finds_what_its_config_does(tiny_cfg, saved, picture, method):
    name = f"mask_rcnn_R_18_FPN_{method}"
    path = saved(name, "MODEL.ROI_MASK_HEAD.THRESH_TEST", "0.4", "INPUT.MIN_SIZE_TEST", "80")
    options = ["MODEL.ROI_MASK_HEAD.THRESH_TEST", "0.4", "INPUT.MIN_SIZE_TEST", "80"]
    cfg = tiny_cfg(name, *options, "MODEL.WEIGHTS", path)
    wanted = detect(cfg, load_trained_model(cfg), read_picture(picture))
    model = iif_d2.load(path, device="cpu")
    found = model(picture, confidence=0)
    assert len(found) > 3
    same(found, wanted)
    assert model.class_names == found.class_names == CLASS_NAMES
    assert list(model.groups) == list(iif_d2.count_class_frequency("tiny_lvis").groups())
    assert model.frequency.same_counts(iif_d2.count_class_frequency("tiny_lvis"))


def test_pictures_of_every_kind(saved, picture):
    model = iif_d2.load(saved(), device="cpu")
    wanted = model(picture, confidence=0)
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    same(model(Image.open(picture), 0), wanted)
    same(model(pixels, 0), wanted)
    same(model(np.ascontiguousarray(pixels[:, :, ::-1]), 0, channels="BGR"), wanted)
    several = model([picture, pixels], 0)
    assert isinstance(several, list)
    for found in several:
        same(found, wanted)
    for found in model([picture, pixels, pixels], 0, batch_size=2):
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
    least = float(np.median(wanted.scores))
    assert 0 < len(model(picture, least)) < len(wanted)
    assert model(picture, least).scores.min() >= least


def test_the_orientation_of_a_picture_counts(saved, tmp_path):
    model = iif_d2.load(saved(), device="cpu")
    pixels = np.random.default_rng(0).integers(0, 255, (48, 72, 3), dtype=np.uint8)
    turned, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    wanted = model(np.ascontiguousarray(np.rot90(pixels, -1)), 0)
    same(model(str(tmp_path / "turned.png"), 0), wanted)
    same(model(Image.open(tmp_path / "turned.png"), 0), wanted)


def test_what_is_no_picture_is_said(saved, tmp_path):
    model = iif_d2.load(saved(), device="cpu")
    for image, message in (
        (str(tmp_path / "gone.png"), "gone.png cannot be read"),
        (np.zeros((8, 8, 3), np.float32), r"\(8, 8, 3\) of float32; give uint8"),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\) of uint8"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        (torch.zeros(3, 8, 8), "a Tensor; give a path"),
        (Image.new("I;16", (8, 8)), "16 bits"),
    ):
        with pytest.raises(DataError, match=message):
            model(image)
    with pytest.raises(ConfigError, match="channels is 'GBR'"):
        model(np.zeros((8, 8, 3), np.uint8), channels="GBR")
    with pytest.raises(ConfigError, match="batch_size is 0"):
        model([], batch_size=0)


def test_results_in_other_libraries_forms(saved, picture):
    found = iif_d2.load(saved(), device="cpu")(picture, 0)
    supervision, frame = found.to_supervision(), found.to_pandas()
    np.testing.assert_array_equal(supervision.xyxy, found.corners)
    np.testing.assert_allclose(supervision.confidence, found.scores)
    assert supervision.mask.shape == (len(found), SIZE, SIZE) and supervision.mask.any()
    names = [CLASS_NAMES[label] for label in found.classes]
    assert list(supervision.data["class_name"]) == list(frame["class_name"]) == names
    assert list(supervision.class_id) == list(frame["class"]) == list(found.classes)
    np.testing.assert_array_equal(frame[["x", "y", "width", "height"]], found.boxes)
    assert list(frame["score"]) == list(found.scores)
    none = found.take(found.scores > 2)
    assert len(none.to_supervision()) == len(none.to_pandas()) == 0
    read = Detections.from_json(found.to_coco("a") + found.to_coco("b"))
    assert list(read.to_pandas()["image_id"]) == ["a"] * len(found) + ["b"] * len(found)
    with pytest.raises(DataError, match="of several"):
        read.to_supervision()


def test_masks_are_theirs(saved, picture):
    from pycocotools import mask

    found = iif_d2.load(saved(), device="cpu")(picture, 0)
    for ours, rle in zip(found.to_supervision().mask, found.masks):
        np.testing.assert_array_equal(ours, mask.decode(rle).astype(bool))


def test_nothing_that_the_config_names_is_read(saved, picture, tmp_path, monkeypatch):
    """No data set, counts, backbone weights or address, though all of them are named."""
    path = saved("mask_rcnn_R_18_FPN_softmax")
    wanted = iif_d2.load(path, device="cpu")(picture, 0)
    gone, address = str(tmp_path / "gone"), "https://example.com/../model.pth"
    with_config(
        path,
        MODEL={"WEIGHTS": address, "DEVICE": "cuda:99", "LOAD_PROPOSALS": True},
        MODEL__TIMM={"PRETRAINED": gone},
        MODEL__LONG_TAIL={"FREQUENCY": address},
        DATASETS={"TRAIN": ["gone"], "TEST": ["gone"], "PROPOSAL_FILES_TRAIN": [address]},
    )
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(DatasetCatalog, "get", None)
    same(iif_d2.load(path, device="cpu")(picture, 0), wanted)
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize(
    "config, message",
    [
        (None, "carries no config .*--config-file"),
        (7, "is a int, not a text"),
        ("", "has no KEY: VALUE"),
        ("MODEL: {NO_SUCH: 1}", "Non-existent config key: MODEL.NO_SUCH"),
        ("_BASE_: /etc/hostname", "names a _BASE_"),
        ("_BASE_: https://example.com/a.yaml", "names a _BASE_"),
        ("MODEL: 7", "MODEL is 7, and other keys belong under it"),
        ("MODEL: {WEIGHTS: !!python/object/apply:os.getcwd []}", "is not valid yaml"),
        ("OUTPUT_DIR: !!python/name:os.system", "is not valid yaml"),
        ("VERSION: 3", "VERSION is 3"),
        ("MODEL: {META_ARCHITECTURE: Nothing}", "cannot be built"),
        ("MODEL: {ROI_BOX_HEAD: {NUM_FC: 1000000000}}", "more layers than there are weights"),
        ("MODEL: {RPN: {CONV_DIMS: [" + "8, " * 2000 + "8]}}", "more layers than there are"),
        ("MODEL: {ROI_HEADS: {NUM_CLASSES: 1000000000000}}", "the model of its config"),
        ("MODEL: {ROI_BOX_HEAD: {POOLER_RESOLUTION: 2000000}}", "the model of its config"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(saved, config, message):
    path = edited(saved(), config=config)
    with pytest.raises(CheckpointError, match=message) as error:
        iif_d2.load(path, device="cpu")
    assert path in str(error.value) and "--config-file" in str(error.value)


def test_a_checkpoint_without_a_config_takes_one(tiny_cfg, saved, picture, tmp_path):
    path = saved()
    wanted = iif_d2.load(path, device="cpu")(picture, 0)
    edited(path, config=None)
    (tmp_path / "given.yaml").write_text(tiny_cfg().dump())
    same(iif_d2.load(path, config_file=str(tmp_path / "given.yaml"))(picture, 0), wanted)
    few = ["TEST.DETECTIONS_PER_IMAGE", "2"]
    given = iif_d2.load(path, config_file=str(tmp_path / "given.yaml"), overrides=few)
    assert len(given(picture, 0)) == 2
    with pytest.raises(ConfigError, match="NO.SUCH"):
        iif_d2.load(path, config_file=str(tmp_path / "given.yaml"), overrides=["NO.SUCH", "1"])


def test_a_lazy_checkpoint_says_that_it_needs_its_config(dataset_name, picture):
    path = str(HERE / f"{LAZY}.pth")
    with pytest.raises(CheckpointError, match=r"a \.py config is code.*--config-file FILE"):
        iif_d2.load(path)
    model = iif_d2.load(path, config_file=VITDET, device="cpu", overrides=NARROW_LAZY)
    found = model(picture, 0)
    assert 0 < len(found) <= 10 and len(model.class_names) == 4


def test_a_folded_checkpoint_needs_no_config(tiny_cfg, saved, picture, tmp_path, caplog):
    path, folded = saved(), tmp_path / "folded.pth"
    wanted = iif_d2.load(path, device="cpu")
    iif_d2.fold_checkpoint(path, folded, tiny_cfg())
    caplog.clear()  # of what loading the other said, where an earlier test has set up its logger
    with caplog.at_level(logging.WARNING):
        model = iif_d2.load(folded, device="cpu")
    assert not caplog.records
    found = model(picture, 0.2)
    np.testing.assert_allclose(found.scores, wanted(picture, 0.2).scores, atol=1e-5)
    assert len(found) and model.class_names == CLASS_NAMES
    assert list(model.groups) == list(wanted.groups)


def test_what_is_no_checkpoint_is_said(tmp_path):
    for path, message in (
        (tmp_path / "gone.pth", "gone.pth does not exist"),
        (tmp_path, "has no model.safetensors; give a folder of `iif-d2 package`"),
        ("https://example.com/model.pth", "is an address; download it"),
    ):
        with pytest.raises(CheckpointError, match=message):
            iif_d2.load(path)


def test_a_method_without_counts_says_so(tiny_cfg, tmp_path):
    """A stranger's checkpoint may lack what its config's method needs."""
    cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif")
    model = finding_model(cfg)
    LongTailCheckpointer(model, str(tmp_path)).save("model")
    content = torch.load(tmp_path / "model.pth", weights_only=True)
    weights = {k: v for k, v in content["model"].items() if ".method." not in k}
    torch.save({"model": weights, "config": cfg.dump()}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="model.pth.*--config-file"):
        iif_d2.load(tmp_path / "model.pth", device="cpu")


def test_resuming_and_evaluating_take_such_a_checkpoint(tiny_cfg, saved):
    path = saved()
    content = torch.load(path, weights_only=True)
    cfg = load_config("configs/Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml", TINY)
    assert yaml.safe_load(content["config"])["MODEL"] == yaml.safe_load(cfg.dump())["MODEL"]
    load_trained_model(tiny_cfg("mask_rcnn_R_18_FPN_iif", "MODEL.WEIGHTS", path))

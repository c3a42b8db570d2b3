"""What SOLVER's numbers become on other numbers of processes, and by epochs."""

import math

import pytest
from detectron2.data import DatasetCatalog
from detectron2.solver import build_lr_scheduler
from torch import nn, optim

from iif_d2.config import load_config
from iif_d2.engine import schedule
from iif_d2.engine.schedule import fit_schedule
from iif_d2.errors import ConfigError

CONFIG = "configs/LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_rfs.yaml"


@pytest.mark.parametrize("gpus", [1, 2, 4, 8, 16])
def test_every_number_of_gpus_sees_the_same_images_at_the_same_rate_per_image(gpus):
    cfg = load_config(CONFIG, ["TEST.EVAL_PERIOD", "8000"])
    solver = fit_schedule(cfg, gpus).SOLVER
    assert solver.IMS_PER_BATCH == 2 * gpus
    assert solver.BASE_LR / solver.IMS_PER_BATCH == pytest.approx(0.02 / 16)
    images = {
        "MAX_ITER": 92088 * 16, "WARMUP_ITERS": 500 * 16, "CHECKPOINT_PERIOD": 5000 * 16
    }  # fmt: skip
    for key, value in images.items():
        assert solver[key] * solver.IMS_PER_BATCH == value, key
    assert [s * solver.IMS_PER_BATCH for s in solver.STEPS] == [61392 * 16, 84414 * 16]
    assert fit_schedule(cfg, gpus).TEST.EVAL_PERIOD * solver.IMS_PER_BATCH == 8000 * 16
    assert cfg.SOLVER.IMS_PER_BATCH == 16


def test_one_gpus_rate_over_the_whole_schedule():
    cfg = fit_schedule(load_config(CONFIG), 1)
    optimizer = optim.SGD([nn.Parameter()], lr=cfg.SOLVER.BASE_LR)
    multiplier = build_lr_scheduler(cfg, optimizer)._multiplier
    last = cfg.SOLVER.MAX_ITER
    assert multiplier(0) == pytest.approx(1e-3)
    assert multiplier(4000 / last) == pytest.approx(1.0)
    assert multiplier((cfg.SOLVER.STEPS[0] + 1) / last) == pytest.approx(0.1)
    assert multiplier((cfg.SOLVER.STEPS[1] + 1) / last) == pytest.approx(0.01)


def test_a_batch_that_the_reference_does_not_divide_is_said():
    cfg = load_config(CONFIG, ["SOLVER.IMS_PER_BATCH", "12"])
    with pytest.raises(ConfigError, match="IMS_PER_BATCH 12 is for .* 8 GPUs and no multiple"):
        fit_schedule(cfg, 1)
    as_it_is = load_config(
        CONFIG, ["SOLVER.IMS_PER_BATCH", "12", "SOLVER.REFERENCE_WORLD_SIZE", "0"]
    )
    assert fit_schedule(as_it_is, 1) == as_it_is


def test_the_mini_recipes_stay_as_they_are(tiny_cfg):
    cfg = tiny_cfg()
    assert fit_schedule(cfg, 1) == cfg == fit_schedule(cfg, 2)


@pytest.mark.parametrize("statistic", ["image", "instance_image"])
@pytest.mark.parametrize("sampler", ["TrainingSampler", "RepeatFactorTrainingSampler"])
def test_epochs_are_counted_on_the_data(tiny_cfg, sampler, statistic):
    cfg = tiny_cfg(
        "mask_rcnn_R_18_FPN_iif", "SOLVER.EPOCHS", "12", "SOLVER.IMS_PER_BATCH", "2",
        "SOLVER.MAX_ITER", "74556", "SOLVER.STEPS", "(49704, 68343)", "SOLVER.WARMUP_ITERS", "500",
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "True", "DATALOADER.SAMPLER_TRAIN", sampler,
        "DATALOADER.REPEAT_THRESHOLD", "4.0", "DATALOADER.REPEAT_STATISTIC", statistic,
    )  # fmt: skip
    images = [
        {annotation["category_id"] for annotation in record["annotations"]}
        for record in DatasetCatalog.get("tiny_lvis")
        if record["annotations"]
    ]
    if sampler == "TrainingSampler":
        passed = len(images)
    else:  # r_I = max over the classes in I of sqrt(t / f_c)
        share = {c: sum(c in image for image in images) / len(images) for c in range(4)}
        if statistic == "instance_image":
            found = [
                a["category_id"] for d in DatasetCatalog.get("tiny_lvis") for a in d["annotations"]
            ]
            share = {c: math.sqrt(f * found.count(c) / len(found)) for c, f in share.items()}
        passed = sum(max(math.sqrt(4.0 / share[c]) for c in image) for image in images)
        assert passed > 2 * len(images)
    solver = fit_schedule(cfg, 1).SOLVER
    assert solver.MAX_ITER == 12 * math.ceil(passed / 2)
    assert solver.STEPS == (round(solver.MAX_ITER * 8 / 12), round(solver.MAX_ITER * 11 / 12))
    assert solver.WARMUP_ITERS == solver.MAX_ITER // 10


def test_negative_epochs_are_refused(tiny_cfg):
    with pytest.raises(ConfigError, match="EPOCHS is -1"):
        fit_schedule(tiny_cfg("mask_rcnn_R_18_FPN_iif", "SOLVER.EPOCHS", "-1"), 1)


@pytest.mark.parametrize("images", [1, 2, 3, 6])
def test_epochs_of_a_few_images_have_a_schedule(tiny_cfg, monkeypatch, images):
    monkeypatch.setattr(schedule, "_epoch_images", lambda cfg: images)
    cfg = tiny_cfg(
        "mask_rcnn_R_18_FPN_iif", "SOLVER.EPOCHS", "1", "SOLVER.MAX_ITER", "74556",
        "SOLVER.STEPS", "(49704, 68343)", "SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR",
        "SOLVER.WARMUP_ITERS", "500",
    )  # fmt: skip
    cfg = fit_schedule(cfg, 1)
    steps = cfg.SOLVER.STEPS
    assert cfg.SOLVER.MAX_ITER == math.ceil(images / 2)
    assert list(steps) == sorted(set(steps)) and all(0 < s < cfg.SOLVER.MAX_ITER for s in steps)
    build_lr_scheduler(cfg, optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0))


def test_a_warm_up_over_all_iterations_is_said(tiny_cfg, caplog):
    options = ["SOLVER.MAX_ITER", "60", "SOLVER.WARMUP_ITERS"]
    fit_schedule(tiny_cfg("mask_rcnn_R_18_FPN_iif", *options, "59"), 1)
    assert not caplog.records
    fit_schedule(tiny_cfg("mask_rcnn_R_18_FPN_iif", *options, "60"), 1)
    assert "WARMUP_ITERS 60 warms up over all of the 60 iterations" in caplog.text

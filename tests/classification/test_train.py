"""Training: runs, mixup, schedules, validation, ranks, the command line, the configs."""

import json
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from iif_classification.config import load_config
from iif_classification.data import build_splits
from iif_classification.engine import Ranks, launch, load_model, run, score_saved
from iif_classification.engine.preprocess import MixUp

from iif_d2.errors import IIFError

from .helpers import PROJECT, results_of, trainer_of, weights_of


def test_a_run_learns_tests_once_and_writes_what_it_did(trained):
    cfg, scores = trained
    assert scores.top1 > 60 and scores.images == 54
    assert scores.top1 == pytest.approx(scores.mean_class)
    assert np.mean([scores.many, np.mean(scores.per_class[1:4]), scores.few]) > 50
    results = results_of(cfg)
    assert results["test"]["top1"] == scores.top1
    assert results["schedule"]["epochs"] == 6 and results["train_images"] == 245
    assert set(results["data"]) == {"train", "test"} and results["images_per_second"] > 0
    names = os.listdir(cfg.OUTPUT_DIR)
    assert {"last.pth", "model_final.pth", "results.json"} <= set(names)
    assert any(name.startswith("events.out.tfevents") for name in names)
    saved = load_model(weights_of(trained))
    assert saved.frequency.image_count.tolist() == [120, 60, 30, 20, 10, 5]
    assert saved.frequency.class_names[0] == "class_0"


def test_groups_are_by_training_images(trained):
    per_class, scores = trained[1].per_class, trained[1]
    assert scores.many == pytest.approx(per_class[0])
    assert scores.medium == pytest.approx(np.mean(per_class[1:4]))  # 60, 30 and 20 images
    assert scores.few == pytest.approx(np.mean(per_class[4:]))


@pytest.mark.parametrize("name", ["Softmax", "IIF", "LADE"])
def test_mixup_is_the_mixed_loss_of_any_method(name, config):
    trainer = trainer_of(config("METHOD.NAME", name, "MODEL.BACKBONE", "resnet8"))
    torch.manual_seed(3)
    images, labels = torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 2, 3, 4, 5])
    mixed, mix = MixUp(0.2)(images, labels)
    share, previous = mix.share, torch.tensor([5, 0, 1, 2, 3, 4])
    torch.testing.assert_close(mixed, share * images + (1 - share) * images[previous])
    assert mix.labels.tolist() == previous.tolist() and 0 <= share <= 1
    model = trainer.model.eval()
    logits = model.classifier(model.backbone(mixed))
    method = model.method
    expected = share * method.loss(logits, labels) + (1 - share) * method.loss(logits, previous)
    torch.testing.assert_close(model(mixed, labels, mix), expected)
    if name == "Softmax":  # the usual soft target
        target = torch.eye(6)[labels] * share + torch.eye(6)[previous] * (1 - share)
        torch.testing.assert_close(expected, torch.nn.functional.cross_entropy(logits, target))


def test_model_is_chosen_on_images_held_out_of_training(config):
    cfg = config("DATA.VAL", "holdout", "DATA.VAL_FRACTION", 0.2)
    run(cfg, Ranks())
    results = results_of(cfg)
    assert results["weights"].endswith("model_best.pth")
    assert results["train_images"] == 245 - (24 + 12 + 6 + 4 + 2 + 1)
    assert results["val_mean_class"] is not None and set(results["data"]) == {
        "train", "val", "test",
    }  # fmt: skip


def test_a_loss_that_is_not_finite_stops_training(config):
    trainer = trainer_of(config("SOLVER.LR", 1e30))
    with pytest.raises(IIFError, match="lower SOLVER.LR"):
        trainer.train()


def test_bf16_trains_and_schedules_scale_with_epochs(config):
    trainer = trainer_of(
        config("SOLVER.AMP", "bf16", "SOLVER.EPOCHS", 1, "MODEL.BACKBONE", "resnet8")
    )
    images, labels = next(trainer.loader.batches(0))
    assert torch.isfinite(trainer.run_step(images, labels))
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
    rates = {}
    for schedule in ("step", "cosine", "constant"):
        cfg = config("SOLVER.EPOCHS", 20, "SOLVER.WARMUP_EPOCHS", 1, "SOLVER.SCHEDULE", schedule)
        trainer = trainer_of(cfg)
        seen = []
        for _ in range(140):
            seen.append(trainer.optimizer.param_groups[0]["lr"])
            trainer.optimizer.step()
            trainer.scheduler.step()
        rates[schedule] = seen
    assert all(seen[0] < seen[3] < seen[6] < 0.1 for seen in rates.values())
    assert rates["constant"][7:] == pytest.approx([0.1] * 133)
    expected = [0.1] * (125 - 6) + [0.1 * 0.01] * 7 + [0.1 * 0.0001] * 7
    assert rates["step"][7:] == pytest.approx(expected)
    assert rates["cosine"][70] == pytest.approx(0.05, rel=0.02) and rates["cosine"][-1] < 1e-4


def work_of_a_rank(path, ranks):
    layer = torch.nn.BatchNorm1d(1)
    layer.running_mean.fill_(ranks.rank + 1.0)
    ranks.share_buffers(layer)
    assert layer.running_mean.tolist() == [1.0]
    run(load_config(path), ranks)


def test_two_gloo_ranks_train_and_count_every_test_image_once(config):
    options = ("DATA.VAL", "holdout", "DATA.VAL_FRACTION", 0.3, "SOLVER.EPOCHS", 1)
    cfg = config(*options, output="ranks")
    os.makedirs(cfg.OUTPUT_DIR)
    path = os.path.join(cfg.OUTPUT_DIR, "config.yaml")
    with open(path, "w") as file:
        file.write(cfg.dump())
    launch(partial(work_of_a_rank, path), 2)
    results = results_of(cfg)
    assert results["test"]["images"] == 54 and results["ranks"] == 2
    alone = score_saved(cfg, Ranks(), results["weights"])
    assert alone.as_dict() == results["test"]
    val = build_splits(cfg.DATA).val
    assert (
        score_saved(cfg, Ranks(), results["weights"], val).mean_class == results["val_mean_class"]
    )


def test_the_command_line_works_without_detectron2(trained, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(trained[0].dump())
    words = ["train_net.py", "--config-file", str(config), "--eval-only", "OUTPUT_DIR"]
    words += [str(tmp_path), "MODEL.WEIGHTS", weights_of(trained), "METHOD.NAME", "NorCal"]
    code = f"import sys; sys.modules['detectron2'] = None; sys.argv = {words}; "
    code += "import train_net; train_net.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0 and "over 54 images" in done.stdout, done.stdout + done.stderr
    assert json.loads((tmp_path / "results.json").read_text())["method"]["name"] == "NorCal"


def test_every_config_loads_and_names_its_own_output():
    folder = os.path.join(PROJECT, "configs")
    outputs = set()
    for name in sorted(os.listdir(folder)):
        cfg = load_config(os.path.join(folder, name))
        assert cfg.OUTPUT_DIR not in outputs
        outputs.add(cfg.OUTPUT_DIR)
        if cfg.STAGE1.CONFIG:
            assert os.path.isfile(cfg.STAGE1.CONFIG)
    assert len(outputs) >= 16

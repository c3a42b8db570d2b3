"""Every LVIS recipe trains two steps and evaluates, narrowed and on a small data set."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from iif_d2.config import load_config
from iif_d2.engine import LongTailTrainer

from ..conftest import TINY

ROOT = Path(__file__).parents[2]
RECIPES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "configs" / "LVISv1-InstanceSegmentation").glob("*.yaml")
    if not path.name.startswith("Base-")
)
NARROW = [
    "MODEL.WEIGHTS", "",
    "MODEL.RESNETS.DEPTH", "18",
    "MODEL.RESNETS.RES2_OUT_CHANNELS", "64",
    "MODEL.BACKBONE.FREEZE_AT", "0",
]  # fmt: skip


@pytest.mark.parametrize("path", RECIPES)
def test_trains_and_evaluates(path, dataset_name, tmp_path):
    cfg = load_config(path, [*TINY, *NARROW, "OUTPUT_DIR", str(tmp_path)])
    torch.manual_seed(0)
    trainer = LongTailTrainer(cfg)
    trainer.resume_or_load(resume=False)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert all(math.isfinite(line["total_loss"]) for line in lines if "total_loss" in line)
    after = dict(trainer.model.named_parameters())
    assert all(p.isfinite().all() for p in after.values())
    moved = {name for name, p in after.items() if not torch.equal(p, before[name])}
    assert any("box_predictor.cls_score" in name for name in moved)
    assert any("mask_head" in name for name in moved)
    results = json.loads((tmp_path / "inference" / "results.json").read_text())["tiny_lvis"]
    assert {"AP", "APr", "APc", "APf"} <= set(results["bbox"]) & set(results["segm"])

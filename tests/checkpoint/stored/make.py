"""Makes the stored checkpoints: `python -m tests.checkpoint.stored.make FOLDER [NAME ...]`.

The ones beside this file were made by version 0.1.0 (commit bccf249) and stay as they are: they
show that later versions load what earlier ones wrote. A new kind of state gets a new one.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.engine import default_argument_parser

from iif_d2 import register_long_tail_instances
from iif_d2.checkpoint import load_trained_model, load_trained_weights
from iif_d2.config import load_config
from iif_d2.engine import LongTailTrainer, launch, load_lazy_config, main

from ...conftest import TINY, make_dataset

HERE = Path(__file__).parent
VITDET = "projects/ViTDet/configs/LVIS/mask_rcnn_vitdet_b_100ep_iif.py"
NARROW = [
    "MODEL.RESNETS.DEPTH", "50", "MODEL.RESNETS.STEM_OUT_CHANNELS", "4",
    "MODEL.RESNETS.RES2_OUT_CHANNELS", "8", "MODEL.RESNETS.WIDTH_PER_GROUP", "2",
    "MODEL.FPN.OUT_CHANNELS", "8", "SOLVER.MAX_ITER", "3", "SOLVER.CHECKPOINT_PERIOD", "2",
    "TEST.DETECTIONS_PER_IMAGE", "10", "SEED", "0",
]  # fmt: skip
NARROW_LAZY = [
    "model.backbone.net.img_size=64", "model.backbone.net.embed_dim=16",
    "model.backbone.net.depth=2", "model.backbone.net.num_heads=2",
    "model.backbone.net.window_size=2", "model.backbone.net.window_block_indexes=[0]",
    "model.backbone.square_pad=64", "model.backbone.out_channels=8",
    "model.proposal_generator.head.in_channels=8",
    "model.proposal_generator.head.conv_dims=[8]", "model.proposal_generator.post_nms_topk=[40,20]",
    "model.roi_heads.box_head.input_shape.channels=8", "model.roi_heads.box_head.conv_dims=[8]",
    "model.roi_heads.box_head.fc_dims=[16]", "model.roi_heads.box_predictor.input_shape.channels=16",
    "model.roi_heads.mask_head.input_shape.channels=8", "model.roi_heads.mask_head.conv_dims=[8,8]",
    "model.roi_heads.num_classes=4", "model.roi_heads.batch_size_per_image=16",
    "model.roi_heads.box_predictor.test_topk_per_image=10",
    "dataloader.train.dataset.names=tiny_lvis", "dataloader.train.mapper.augmentations=[]",
    "dataloader.train.total_batch_size=2", "dataloader.train.num_workers=0",
    "dataloader.test.dataset.names=tiny_lvis", "dataloader.test.mapper.augmentations=[]",
    "dataloader.test.num_workers=0", "optimizer.params.lr_factor_func=null",
    "train.init_checkpoint=''", "train.max_iter=3", "train.checkpointer.period=2", "+train.seed=0",
]  # fmt: skip
METHOD = "MODEL.LONG_TAIL.METHOD"
IIF, SOFTMAX = "mask_rcnn_R_18_FPN_iif", "mask_rcnn_R_18_FPN_softmax"
# Name: the Mini config, overrides, and the stored model that it stands on.
YAML = {
    "iif": (IIF, [], ""),
    "iif_cosine": (IIF, ["MODEL.LONG_TAIL.CLASSIFIER", "cosine"], ""),
    "iif_cascade": ("cascade_mask_rcnn_R_18_FPN_iif", [], ""),
    "softmax": (SOFTMAX, [], ""),
    "seesaw": (SOFTMAX, [METHOD, "Seesaw"], ""),
    "eqlv2": (SOFTMAX, [METHOD, "EQLv2"], ""),
    "disalign": (SOFTMAX, [METHOD, "DisAlign"], "softmax"),
    "logn": (SOFTMAX, [METHOD, "LogN"], "softmax"),
}
LAZY = "vitdet"


def picture() -> dict:
    """What every stored model looks at."""
    pixels = np.random.default_rng(0).integers(0, 60, (3, 64, 64)).astype(np.float32)
    pixels[0, 8:40, 12:50] = pixels[1, 30:60, 4:30] = 230
    return {"image": torch.from_numpy(pixels), "height": 64, "width": 64}


@torch.no_grad()
def prediction(model: torch.nn.Module) -> dict:
    """Its detections in that picture, best first."""
    (found,) = model.eval()([picture()])
    found = found["instances"]
    return {
        "boxes": found.pred_boxes.tensor.tolist(),
        "scores": found.scores.tolist(),
        "classes": found.pred_classes.tolist(),
        "mask_pixels": found.pred_masks.sum(dim=(1, 2)).tolist(),
    }


def yaml_config(name: str, folder: Path, *options: str):
    """The config of a stored yaml model, with OUTPUT_DIR `folder`."""
    config, own, on = YAML[name]
    weights = ["MODEL.WEIGHTS", str(HERE / f"{on}.pth")] if on else []
    path = f"configs/Mini-InstanceSegmentation/{config}.yaml"
    return load_config(path, [*TINY, *NARROW, *own, *weights, "OUTPUT_DIR", str(folder), *options])


def lazy_config(folder: Path, *options: str):
    """The same of the LazyConfig model."""
    return load_lazy_config(VITDET, [*NARROW_LAZY, f"train.output_dir={folder}", *options])


def lazy_model(weights: Path, folder: Path) -> torch.nn.Module:
    """The LazyConfig model with these weights, as evaluation has it; `folder` is its output_dir."""
    cfg = lazy_config(folder)
    model = instantiate(cfg.model).to(cfg.train.device)
    return load_trained_weights(model, str(weights), "")


def train_lazy(folder: Path, *flags: str) -> None:
    """Three steps of the LazyConfig model, or what is left of them."""
    options = [*NARROW_LAZY, f"train.output_dir={folder}"]
    launch(main, default_argument_parser().parse_args(["--config-file", VITDET, *flags, *options]))


def spread(model: torch.nn.Module) -> None:
    """Class logits that differ, as after a long training."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "cls_score.weight" in name:
                weight.normal_(std=2 / weight.shape[1] ** 0.5)


def make(folder: Path, name: str) -> None:
    """FOLDER/NAME.pth and NAME.json; of "iif" and the LazyConfig, NAME_step2.pth to resume from."""
    run = folder / f"{name}_run"
    if name == LAZY:
        train_lazy(run)
        model = lazy_model(run / "model_final.pth", run)
    else:
        trainer = LongTailTrainer(yaml_config(name, run))
        trainer.resume_or_load(resume=False)
        if not YAML[name][2]:
            spread(trainer.model)
        trainer.train()
        weights = str(run / "model_final.pth")
        model = load_trained_model(yaml_config(name, run, "MODEL.WEIGHTS", weights))
    final = torch.load(run / "model_final.pth", weights_only=True)
    kept = {key: final[key] for key in ("model", "methods", "iteration") if key in final}
    torch.save(kept, folder / f"{name}.pth")
    (folder / f"{name}.json").write_text(json.dumps(prediction(model)) + "\n")
    if name in ("iif", LAZY):
        shutil.copy(run / "model_0000001.pth", folder / f"{name}_step2.pth")
    shutil.rmtree(run)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    register_long_tail_instances("tiny_lvis", *map(str, make_dataset(target / "data")))
    for chosen in sys.argv[2:] or [*YAML, LAZY]:
        make(target, chosen)
    shutil.rmtree(target / "data")

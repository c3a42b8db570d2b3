"""`python -m iif_d2 demo`: what a trained model finds on pictures."""

from __future__ import annotations

import argparse
import os
from glob import glob

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image
from detectron2.structures import Instances
from PIL import Image
from pycocotools import mask as coco_mask
from torch import nn
from tqdm import tqdm

from ..checkpoint import load_trained_model
from ..config import load_config
from ..data import config_frequency
from ..errors import ConfigError, DataError, IIFError
from ..evaluation import rle_masks
from .drawing import draw_detections


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config-file", required=True, help="the config the model was trained with"
    )
    parser.add_argument("--input", nargs="+", default=[], help="picture files, or patterns of them")
    parser.add_argument("--dataset", help="take the pictures of a registered data set instead")
    parser.add_argument("--most", type=int, default=None, help="stop after so many pictures")
    parser.add_argument("--output", required=True, help="folder for the drawn pictures")
    parser.add_argument("--confidence-threshold", type=float, default=0.5, help="default 0.5")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE config overrides")


def run(args: argparse.Namespace) -> str:
    """Draw detections on every picture; says what was written where."""
    cfg = load_config(args.config_file, args.opts)
    pictures = _pictures(args)[: args.most]
    model = load_trained_model(cfg)
    class_names, groups = _classes(cfg)
    os.makedirs(args.output, exist_ok=True)
    for path in tqdm(pictures, desc="drawing", unit="picture"):
        try:
            image = read_image(path, "RGB")
        except Exception as error:  # as many kinds as there are ways to break a file
            raise DataError(f"picture {path} cannot be read: {error}") from None
        instances = detect(cfg, model, image)
        instances = instances[instances.scores >= args.confidence_threshold]
        drawn = draw_detections(image, instances, class_names, groups)
        name = os.path.splitext(os.path.basename(path))[0] + ".png"
        Image.fromarray(drawn).save(os.path.join(args.output, name))
    return f"{len(pictures)} pictures written to {args.output}"


@torch.no_grad()
def detect(cfg: CfgNode, model: nn.Module, image) -> Instances:
    """The model's detections on a uint8 RGB (H, W, 3) picture, on the CPU and in its size."""
    height, width = image.shape[:2]
    resize = T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    network = image if cfg.INPUT.FORMAT == "RGB" else image[:, :, ::-1]
    network = resize.get_transform(network).apply_image(network)
    tensor = torch.as_tensor(network.astype("float32").transpose(2, 0, 1))
    with rle_masks(model, cfg.MODEL.ROI_MASK_HEAD.THRESH_TEST):
        found = model([{"image": tensor, "height": height, "width": width}])[0]["instances"]
    if found.has("pred_masks_rle"):
        rles = found.pred_masks_rle
        found.remove("pred_masks_rle")
        found.pred_masks = torch.zeros(len(rles), height, width, dtype=torch.bool)
        for mask, rle in zip(found.pred_masks, rles):
            mask.copy_(torch.from_numpy(coco_mask.decode(rle)))
    return found.to("cpu")


def _pictures(args: argparse.Namespace) -> list[str]:
    if args.dataset:
        if args.dataset not in DatasetCatalog:
            raise ConfigError(f"--dataset {args.dataset!r} is not a registered data set")
        return [record["file_name"] for record in DatasetCatalog.get(args.dataset)]
    pictures = [p for pattern in args.input for p in sorted(glob(os.path.expanduser(pattern)))]
    if not pictures:
        raise ConfigError("no pictures: give --input FILES or --dataset NAME")
    return pictures


def _classes(cfg: CfgNode) -> tuple:
    """Class names, and their groups where the training frequencies can be had."""
    try:
        frequency = config_frequency(cfg).resolve()
        return frequency.class_names, frequency.groups()
    except IIFError:
        for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
            names = MetadataCatalog.get(name).get("thing_classes")
            if names:
                return names, None
        return [f"class {index}" for index in range(cfg.MODEL.ROI_HEADS.NUM_CLASSES)], None

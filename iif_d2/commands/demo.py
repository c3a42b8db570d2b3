"""`python -m iif_d2 demo`: what a trained model, or two side by side, find on pictures."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from glob import glob

import msgspec
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.detection_utils import annotations_to_instances, read_image
from detectron2.structures import Instances
from PIL import Image
from pycocotools import mask as coco_mask
from torch import nn
from tqdm import tqdm

from ..checkpoint import load_trained_model
from ..config import load_config
from ..data import config_frequency, dataset_dicts, known_frequency
from ..errors import ConfigError, DataError
from ..evaluation import rle_masks
from ..files import write_atomically
from ..plots.drawing import draw_detections, side_by_side, stacked
from ..plots.frames import FrameWriter, camera_frames, video_frames
from .arguments import add_model_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    sources = parser.add_mutually_exclusive_group()
    sources.add_argument(
        "--input", nargs="+", default=[], help="picture files, or patterns of them"
    )
    sources.add_argument("--dataset", help="take the pictures of a registered data set instead")
    sources.add_argument("--video", help="a video file instead; a video is written")
    sources.add_argument("--webcam", type=int, metavar="NUMBER", help="a camera instead, from 0")
    parser.add_argument("--image-ids", nargs="+", help="of --dataset, only these, in this order")
    parser.add_argument("--most", type=int, default=None, help="stop after so many pictures")
    parser.add_argument("--output", required=True, help="folder for the drawn pictures")
    parser.add_argument("--confidence-threshold", type=float, default=0.5, help="default 0.5")
    parser.add_argument(
        "--beside", nargs=2, metavar=("CONFIG", "WEIGHTS"), help="a second model, drawn beside"
    )
    parser.add_argument(
        "--annotations", action="store_true", help="of --dataset, drawn in front of the models"
    )
    parser.add_argument("--titles", nargs="+", help="of the models; default their methods")
    parser.add_argument("--figure", help="also all pictures below each other, in this file")
    parser.add_argument("--json", help="also all detections, in this file")
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> str:
    """Draw detections on every picture; says what was written where."""
    models = _models(args)
    titles = args.titles or [cfg.MODEL.LONG_TAIL.METHOD for cfg, _ in models]
    if len(titles) != len(models):
        raise ConfigError(f"--titles has {len(titles)} names for {len(models)} models")
    class_names, groups = _classes(models[0][0])
    moving = args.video is not None or args.webcam is not None
    panel_titles = (["Annotated"] if args.annotations else []) + titles
    if len(panel_titles) == 1:
        panel_titles = []  # a single panel needs none
    found, rows, written = [], [], 0
    with FrameWriter(args.output) as film:
        for name, image, record in tqdm(_pictures(args), desc="drawing", unit="picture"):
            instances = [annotated(record)] if args.annotations else []
            for title, (cfg, model) in zip(titles, models):
                best = detect(cfg, model, image)
                best = best[best.scores >= args.confidence_threshold]
                instances.append(best)
                if args.json:
                    image_id = record and record["image_id"]
                    found += _records(best, name, image_id, title, class_names)
            panels = [draw_detections(image, one, class_names, groups) for one in instances]
            drawn = side_by_side(panels, panel_titles)
            written += 1
            if moving:
                film.add(drawn)
                continue
            name = os.path.splitext(os.path.basename(name))[0] + ".png"
            Image.fromarray(drawn).save(os.path.join(args.output, name))
            if args.figure:
                rows.append(drawn)
    lines = [
        f"{written} {'frames' if moving else 'pictures'} written to {film.path or args.output}"
    ]
    if args.figure and rows:
        os.makedirs(os.path.dirname(os.path.abspath(args.figure)), exist_ok=True)
        Image.fromarray(stacked(rows)).save(args.figure)
        lines.append(f"all of them in {args.figure}")
    if args.json:
        write_atomically(args.json, msgspec.json.encode(found))
        lines.append(f"{len(found)} detections in {args.json}")
    return "\n".join(lines)


@torch.no_grad()
def detect(cfg: CfgNode, model: nn.Module, image: np.ndarray) -> Instances:
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


def read_picture(path: str) -> np.ndarray:
    """A picture as uint8 RGB (H, W, 3).

    Raises:
        DataError: it is missing, no file or damaged.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"picture {path} is no file; correct the name")  # a pipe waits forever
    try:
        return read_image(path, "RGB")
    except Exception as error:  # as many kinds as there are ways to break a file
        raise DataError(f"picture {path} cannot be read: {error}; copy it again") from None


def annotated(record: dict) -> Instances:
    """A dataset dict's objects in the form of detections, without scores."""
    size = (record["height"], record["width"])
    objects = annotations_to_instances(record["annotations"], size, mask_format="bitmask")
    found = Instances(size, pred_boxes=objects.gt_boxes, pred_classes=objects.gt_classes)
    if objects.has("gt_masks"):
        found.pred_masks = objects.gt_masks.tensor
    return found


def _models(args: argparse.Namespace) -> list[tuple[CfgNode, nn.Module]]:
    configs = [load_config(args.config_file, args.opts)]
    if args.beside:
        config, weights = args.beside
        configs.append(load_config(config, [*args.opts, "MODEL.WEIGHTS", weights]))
    return [(cfg, load_trained_model(cfg)) for cfg in configs]


def _pictures(args: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, dict | None]]:
    """File name, pixels and, of a data set, the dict of each picture."""
    if (args.image_ids or args.annotations) and not args.dataset:
        raise ConfigError("--image-ids and --annotations need --dataset")
    if args.video is not None or args.webcam is not None:
        frames = camera_frames(args.webcam) if args.video is None else video_frames(args.video)
        for number, frame in enumerate(frames):
            if number == args.most:
                return
            yield f"frame {number}", frame, None
        return
    if args.dataset:
        pictures = [(record["file_name"], record) for record in _records_of(args)[: args.most]]
    else:
        files = [p for pattern in args.input for p in sorted(glob(os.path.expanduser(pattern)))]
        pictures = [(path, None) for path in files]
    if not pictures:
        raise ConfigError("no pictures: give --input FILES or --dataset NAME")
    for path, record in pictures[: args.most]:
        yield path, read_picture(path), record


def _records_of(args: argparse.Namespace) -> list[dict]:
    if args.dataset not in DatasetCatalog:
        raise ConfigError(f"--dataset {args.dataset!r} is not a registered data set")
    records = dataset_dicts(args.dataset)
    if not args.image_ids:
        return records
    by_id = {str(record["image_id"]): record for record in records}
    unknown = [image_id for image_id in args.image_ids if image_id not in by_id]
    if unknown:
        raise ConfigError(f"--image-ids: {args.dataset} has no image {', '.join(unknown)}")
    return [by_id[image_id] for image_id in args.image_ids]


def _records(found: Instances, name: str, image_id, title: str, class_names) -> list[dict]:
    """Detections as COCO's results have them, with the names that a reader needs."""
    boxes = found.pred_boxes.tensor.clone()
    boxes[:, 2:] -= boxes[:, :2]
    records = []
    for index, box in enumerate(boxes.tolist()):
        label = int(found.pred_classes[index])
        record = {"file_name": name, "image_id": image_id, "model": title}
        record |= {"class": label, "class_name": class_names[label]}
        record |= {"bbox": box, "score": float(found.scores[index])}
        if found.has("pred_masks"):
            mask = found.pred_masks[index].numpy().astype(np.uint8)
            rle = coco_mask.encode(np.asfortranarray(mask))
            record["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
        records.append(record)
    return records


def _classes(cfg: CfgNode) -> tuple:
    """Class names, and their groups where the training frequencies can be had."""
    frequency = known_frequency(config_frequency(cfg))
    if frequency is not None:
        return frequency.class_names, frequency.groups()
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        names = MetadataCatalog.get(name).get("thing_classes")
        if names:
            return names, None
    return [f"class {index}" for index in range(cfg.MODEL.ROI_HEADS.NUM_CLASSES)], None

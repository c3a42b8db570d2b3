"""`python -m iif_d2 demo`: what a trained model, or two side by side, find on pictures."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from glob import glob

import msgspec
import numpy as np
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from tqdm import tqdm

from ..checkpoint import check_class_names, load_trained_model
from ..config import add_iif_config, load_config
from ..data import config_frequency, dataset_dicts, known_frequency
from ..errors import ConfigError
from ..evaluation import Detections
from ..evaluation.detect import detect, read_picture
from ..files import write_atomically
from ..plots.drawing import draw_detections, side_by_side, stacked
from .arguments import add_model_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    sources = parser.add_mutually_exclusive_group()
    sources.add_argument(
        "--input", nargs="+", default=[], help="picture files, or patterns of them"
    )
    sources.add_argument("--dataset", help="take the pictures of a registered data set instead")
    parser.add_argument(
        "--image-ids", nargs="+", default=[], help="of --dataset, only these, in this order"
    )
    parser.add_argument("--most", type=int, help="stop after so many pictures")
    parser.add_argument("--output", required=True, help="folder for the drawn pictures")
    parser.add_argument("--confidence-threshold", type=float, default=0.5, help="default 0.5")
    parser.add_argument(
        "--beside", nargs=2, metavar=("CONFIG", "WEIGHTS"), help="a second model, drawn beside"
    )
    parser.add_argument(
        "--annotations", action="store_true", help="of --dataset, drawn in front of the models"
    )
    parser.add_argument(
        "--titles", nargs="+", default=[], help="of the models; default their methods"
    )
    parser.add_argument("--figure", help="also all pictures below each other, in this file")
    parser.add_argument("--json", help="also all detections, in this file")
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> str:
    (inputs, image_ids, titles), overrides = _apart(args.input, args.image_ids, args.titles)
    return draw_folder(
        args.config_file,
        [*overrides, *args.opts],
        output=args.output,
        inputs=inputs,
        dataset=args.dataset,
        image_ids=image_ids,
        most=args.most,
        confidence_threshold=args.confidence_threshold,
        beside=args.beside,
        annotations=args.annotations,
        titles=titles,
        figure=args.figure,
        json=args.json,
    )


def draw_folder(
    config_file: str,
    opts: Sequence[str] = (),
    *,
    output: str,
    inputs: Sequence[str] = (),
    dataset: str | None = None,
    image_ids: Sequence[str] = (),
    most: int | None = None,
    confidence_threshold: float = 0.5,
    beside: tuple[str, str] | None = None,
    annotations: bool = False,
    titles: Sequence[str] = (),
    figure: str | None = None,
    json: str | None = None,
) -> str:
    """Draw what a model finds on every picture, as a png each; says what was written where.

    Args:
        config_file: the config the model was trained with.
        opts: MODEL.WEIGHTS FILE and other KEY VALUE overrides.
        output: folder of the drawn pictures.
        inputs: picture files, or patterns of them.
        dataset: a registered data set, whose pictures are taken instead.
        image_ids: of the data set, only these, in this order.
        most: stop after so many pictures.
        confidence_threshold: least score of what is drawn.
        beside: config and weights of a second model, drawn beside the first.
        annotations: draw the data set's objects in front of the models.
        titles: of the models, by default their methods.
        figure: file for all pictures below each other.
        json: file for all detections.

    Raises:
        ConfigError: arguments that cannot work together.
        DataError: a picture that cannot be read.

    Example:
        >>> draw_folder("cfg.yaml", ["MODEL.WEIGHTS", "m.pth"], inputs=["*.jpg"], output="drawn")
    """
    configs = [load_config(config_file, opts)]
    if beside:
        configs.append(load_config(beside[0], [*opts, "MODEL.WEIGHTS", beside[1]]))
    titles = list(titles) or [cfg.MODEL.LONG_TAIL.METHOD for cfg in configs]
    if len(titles) != len(configs):
        raise ConfigError(f"--titles has {len(titles)} names for {len(configs)} models")
    if (image_ids or annotations) and not dataset:
        raise ConfigError("--image-ids and --annotations need --dataset")
    pictures = _of_data_set(dataset, image_ids) if dataset else _of_files(inputs)
    class_names, groups = _classes(configs[0])
    panel_titles = (["Annotated"] if annotations else []) + titles
    if len(panel_titles) == 1:
        panel_titles = []  # a single panel needs none
    models = [(cfg, load_trained_model(cfg)) for cfg in configs]
    for _, model in models if dataset else ():
        check_class_names(model, dataset)
    os.makedirs(output, exist_ok=True)
    written, rows, records = 0, [], []
    for picture in tqdm(pictures[:most], desc="drawing", unit="picture"):
        path, image_id = picture["file_name"], picture.get("image_id")
        image = read_picture(path)
        shown = [Detections.from_annotations(picture)] if annotations else []
        for title, (cfg, model) in zip(titles, models):
            found = detect(cfg, model, image)
            found = found.take(found.scores >= confidence_threshold)
            shown.append(found)
            for result in found.to_coco(image_id) if json else ():
                label = result.pop("category_id")
                about = {"file_name": path, "image_id": image_id, "model": title}
                about |= {"class": label, "class_name": class_names[label]}
                records.append(about | result)
        panels = [draw_detections(image, one, class_names, groups) for one in shown]
        drawn = side_by_side(panels, panel_titles)
        name = os.path.splitext(os.path.basename(path))[0] + ".png"
        Image.fromarray(drawn).save(os.path.join(output, name))
        written += 1
        if figure:
            rows.append(drawn)
    lines = [f"{written} pictures written to {output}"]
    if rows:
        os.makedirs(os.path.dirname(os.path.abspath(figure)), exist_ok=True)
        Image.fromarray(stacked(rows)).save(figure)
        lines.append(f"all of them in {figure}")
    if json:
        write_atomically(json, msgspec.json.encode(records))
        lines.append(f"{len(records)} detections in {json}")
    return "\n".join(lines)


def _apart(*options: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Options that take every word up to the next one without KEY VALUE overrides, and those.

    A key is in capitals and starts as one of a config's does.
    """
    known = get_cfg()
    add_iif_config(known)
    words, overrides = [], []
    for option in options:
        keys = (i for i, w in enumerate(option) if w.isupper() and w.partition(".")[0] in known)
        end = next(keys, len(option))
        words.append(option[:end])
        overrides += option[end:]
    return words, overrides


def _of_files(patterns: Sequence[str]) -> list[dict]:
    """A dict with the `file_name` of each picture."""
    files = [path for p in patterns for path in sorted(glob(os.path.expanduser(p)))]
    if not files:
        raise ConfigError("no pictures: give --input FILES or --dataset NAME")
    return [{"file_name": path} for path in files]


def _of_data_set(name: str, image_ids: Sequence[str]) -> Sequence[dict]:
    """The dict of each picture."""
    if name not in DatasetCatalog:
        raise ConfigError(f"--dataset {name!r} is not a registered data set")
    records = dataset_dicts(name)
    if not image_ids:
        return records
    by_id = {str(record["image_id"]): record for record in records}
    unknown = [image_id for image_id in image_ids if image_id not in by_id]
    if unknown:
        raise ConfigError(f"--image-ids: {name} has no image {', '.join(unknown)}")
    return [by_id[image_id] for image_id in image_ids]


def _classes(cfg: CfgNode) -> tuple[Sequence[str], np.ndarray | None]:
    """Class names, and their groups where the training frequencies can be had."""
    frequency = known_frequency(config_frequency(cfg))
    if frequency is not None:
        return frequency.class_names, frequency.groups()
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        names = MetadataCatalog.get(name).get("thing_classes")
        if names:
            return names, None
    return [f"class {index}" for index in range(cfg.MODEL.ROI_HEADS.NUM_CLASSES)], None

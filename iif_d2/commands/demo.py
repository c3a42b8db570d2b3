"""`python -m iif_d2 demo`: what a trained model, or two side by side, find on pictures."""

from __future__ import annotations

import argparse
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from glob import glob

import msgspec
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from torch import nn
from tqdm import tqdm

from ..checkpoint import check_class_names, load_trained_model, trained_frequency
from ..config import load_config
from ..data import config_frequency, known_frequency, require_registered
from ..errors import ConfigError
from ..evaluation import Detections, dataset_ground_truth
from ..evaluation.detect import detect, read_picture
from ..files import write_atomically
from ..plots.drawing import draw_detections, judged, side_by_side, stacked
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
    return draw_folder(
        args.config_file,
        args.opts,
        output=args.output,
        inputs=args.input,
        dataset=args.dataset,
        image_ids=args.image_ids,
        most=args.most,
        confidence_threshold=args.confidence_threshold,
        beside=args.beside,
        annotations=args.annotations,
        titles=args.titles,
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

    Each is called as its picture is, with folders in front where several pictures share a name, and
    with `_drawn` behind in a folder that pictures are taken from: no picture is written over.

    Args:
        config_file: the config the model was trained with.
        opts: MODEL.WEIGHTS FILE and other KEY VALUE overrides.
        output: folder of the drawn pictures.
        inputs: picture files, or patterns of them.
        dataset: a registered data set, whose pictures are taken instead.
        image_ids: of the data set, only these, in this order.
        most: stop after so many pictures.
        confidence_threshold: least score of what is drawn.
        beside: config and weights of a second model, drawn beside the first. Of `opts` it takes
            MODEL.DEVICE alone.
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
        device = ["MODEL.DEVICE", configs[0].MODEL.DEVICE]
        configs.append(load_config(beside[0], [*device, "MODEL.WEIGHTS", beside[1]]))
    titles = list(titles) or [cfg.MODEL.LONG_TAIL.METHOD for cfg in configs]
    if len(titles) != len(configs):
        raise ConfigError(f"--titles has {len(titles)} names for {len(configs)} models")
    if (image_ids or annotations) and not dataset:
        raise ConfigError("--image-ids and --annotations need --dataset")
    everything = _of_data_set(dataset) if dataset else _of_files(inputs)
    if annotations and not any(record.get("annotations") for record in everything):
        raise ConfigError(f"--annotations: {dataset} has none that could be drawn; leave it out")
    pictures = (_chosen(dataset, everything, image_ids) if image_ids else everything)[:most]
    taken = [record["file_name"] for record in everything]
    names = _own_names([picture["file_name"] for picture in pictures], output, taken)
    files = [os.path.join(output, name) for name in names]
    read = [config_file, *(cfg.MODEL.WEIGHTS for cfg in configs)]
    if dataset:
        read.append(MetadataCatalog.get(dataset).get("json_file", ""))
    _keep_apart({"--figure": figure, "--json": json}, [*taken, *files, *read])
    _check_sizes(configs)
    panel_titles = (["Annotated"] if annotations else []) + titles
    if len(panel_titles) == 1:
        panel_titles = []  # a single panel needs none
    models = [(cfg, load_trained_model(cfg)) for cfg in configs]
    for _, model in models if dataset else ():
        check_class_names(model, dataset)
    class_names, groups = _classes(*models[0])
    rows, records = [], []
    for file, picture in zip(files, tqdm(pictures, desc="drawing", unit="picture")):
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
        right = _marks(dataset, image_id, shown) if annotations else [None] * len(shown)
        panels = [
            draw_detections(image, found, class_names, groups, marks)
            for found, marks in zip(shown, right)
        ]
        drawn = side_by_side(panels, panel_titles)
        _save(file, drawn)
        if figure:
            rows.append(drawn)
    lines = [f"{len(files)} pictures written to {output}"]
    if rows:
        _save(figure, stacked(rows))
        lines.append(f"all of them in {figure}")
    if json:
        write_atomically(json, msgspec.json.encode(records))
        lines.append(f"{len(records)} detections in {json}")
    return "\n".join(lines)


def _of_files(patterns: Sequence[str]) -> list[dict]:
    """A dict with the `file_name` of each picture, which several patterns may name."""
    files = [path for p in patterns for path in sorted(glob(os.path.expanduser(p)))]
    if not files:
        raise ConfigError("no pictures: give --input FILES or --dataset NAME")
    once: dict[str, str] = {}
    for path in files:
        once.setdefault(os.path.realpath(path), path)
    return [{"file_name": path} for path in once.values()]


def _of_data_set(name: str) -> Sequence[dict]:
    """The dict of each picture."""
    require_registered(name)
    return DatasetCatalog.get(name)


def _chosen(name: str, records: Sequence[dict], image_ids: Sequence[str]) -> list[dict]:
    """Those with these ids, in this order."""
    by_id = {str(record["image_id"]): record for record in records}
    unknown = [image_id for image_id in image_ids if image_id not in by_id]
    if unknown:
        raise ConfigError(f"--image-ids: {name} has no image {', '.join(unknown)}")
    return [by_id[image_id] for image_id in dict.fromkeys(image_ids)]


def _own_names(pictures: Sequence[str], folder: str, taken: Sequence[str]) -> list[str]:
    """A name for each drawn picture: no two alike, and none of a picture that is `taken`.

    On some drives case does not tell names apart.
    """
    parts = [os.path.splitext(os.path.abspath(path))[0].split(os.sep) for path in pictures]
    depths = [1] * len(parts)
    while True:
        names = ["_".join(own[-depth:]) for own, depth in zip(parts, depths)]
        often = Counter(name.casefold() for name in names)
        shared = [
            place
            for place, name in enumerate(names)
            if often[name.casefold()] > 1 and depths[place] < len(parts[place])
        ]
        if not shared:
            break
        for place in shared:
            depths[place] += 1
    here = os.path.realpath(folder)
    folders = {path: os.path.realpath(path) for path in set(map(os.path.dirname, taken))}
    beside = [path for path in taken if folders[os.path.dirname(path)] == here]
    end = "_drawn" if beside else ""
    gone = {os.path.basename(path).casefold() for path in beside}
    found = []
    for name in names:
        own, number = f"{name}{end}.png", 1
        while own.casefold() in gone:  # a.jpg and a.png of one folder
            number += 1
            own = f"{name}{end}_{number}.png"
        gone.add(own.casefold())
        found.append(own)
    return found


def _keep_apart(outputs: dict[str, str | None], others: Iterable[str]) -> None:
    """Raise `ConfigError` where an option names a file that is read, or written by another."""
    there = {os.path.realpath(path) for path in others}
    for option, path in outputs.items():
        if path and os.path.realpath(path) in there:
            raise ConfigError(
                f"{option} {path} is a file that is read or drawn here; choose another name"
            )
        if path:
            there.add(os.path.realpath(path))


def _marks(dataset: str, image_id: int | str, shown: Sequence[Detections]) -> list:
    """Which detections are right, None for the objects, which are the first of `shown`."""
    truth = None
    if MetadataCatalog.get(dataset).get("json_file"):  # else every class counts
        truth = dataset_ground_truth(dataset)
    marks: list = [None]
    for found in shown[1:]:
        counts = truth and truth.looked_for(truth.index(image_id), found.classes)
        marks.append(judged(found, shown[0], counts)[0])
    return marks


def _save(path: str, pixels: np.ndarray) -> None:
    """As a picture of the kind that the name ends in."""
    content = io.BytesIO()
    try:
        kind = Image.registered_extensions()[os.path.splitext(path)[1].lower()]
        Image.fromarray(pixels).save(content, kind)
    except (KeyError, OSError, ValueError):
        raise ConfigError(f"{path} is no name of a picture; end it in .png or .jpg") from None
    write_atomically(path, content.getvalue())


def _check_sizes(configs: Sequence[CfgNode]) -> None:
    """Raise `ConfigError` where a class of one model may be none of the other's."""
    sizes = [cfg.MODEL.ROI_HEADS.NUM_CLASSES for cfg in configs]
    if len(set(sizes)) > 1:
        raise ConfigError(
            f"the models find {sizes[0]} and {sizes[1]} classes (MODEL.ROI_HEADS.NUM_CLASSES); "
            f"draw models of the same classes side by side"
        )


def _classes(cfg: CfgNode, model: nn.Module) -> tuple[Sequence[str], np.ndarray | None]:
    """Class names, and their groups where the training frequencies can be had."""
    trained, counted = trained_frequency(cfg, model), known_frequency(config_frequency(cfg))
    groups = None if trained is None else trained.groups()
    if counted is not None:
        return counted.class_names, groups
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        names = MetadataCatalog.get(name).get("thing_classes")
        if names:
            return names, groups
    return [f"class {index}" for index in range(cfg.MODEL.ROI_HEADS.NUM_CLASSES)], groups

"""`python -m iif_d2 demo`: what a trained model, or two side by side, find on pictures."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..files import write_atomically
from .arguments import add_confidence, add_model_arguments, add_old_spelling, add_verbose
from .drawn import drawn_names, keep_apart, picture_files, save_picture

if TYPE_CHECKING:
    import numpy as np
    from detectron2.config import CfgNode
    from torch import nn

    from ..evaluation import Detections


EXAMPLE = "iif-d2 demo --output output/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    sources = parser.add_mutually_exclusive_group()
    sources.add_argument(
        "--input", nargs="+", default=[], help="picture files, patterns of them, or folders"
    )
    sources.add_argument("--dataset", help="take the pictures of a registered data set instead")
    parser.add_argument(
        "--image-ids", nargs="+", default=[], help="of --dataset, only these, in this order"
    )
    parser.add_argument("--most", type=int, help="stop after so many pictures")
    parser.add_argument(
        "--output", metavar="DIR", help="folder for the drawn pictures, or of the models' runs"
    )
    parser.add_argument(
        "--train", action="store_true", help="of the package's own demo: train both models first"
    )
    add_verbose(parser)
    add_confidence(parser)
    add_old_spelling(parser, "--confidence-threshold", dest="confidence", type=float)
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
    add_model_arguments(parser, required=False)


def run(args: argparse.Namespace) -> str:
    """Without a model of one's own, softmax beside IIF on mini_lvis."""
    if not (args.config_file or args.opts or args.input or args.dataset):
        from .showcase import showcase

        return showcase(args.output or "output/demo", train=args.train, verbose=args.verbose)
    if not args.config_file or not args.output or args.train:
        raise ConfigError(
            "give --config-file, --output and --input or --dataset to draw what your model finds, "
            "or none of them for the package's own demo, which --train belongs to"
        )
    return draw_folder(
        args.config_file,
        args.opts,
        output=args.output,
        inputs=args.input,
        dataset=args.dataset,
        image_ids=args.image_ids,
        most=args.most,
        confidence_threshold=args.confidence,
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
        inputs: picture files, patterns of them, or folders.
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
        DataError: a picture that cannot be read, or with `annotations` has another size than they
            say.

    Examples:
        >>> opts, some = ["MODEL.WEIGHTS", "output/iif/model_final.pth"], ["my/images/*/*1.png"]
        >>> print(draw_folder("output/iif/config.yaml", opts, inputs=some, output="drawn"))
        1 pictures written to drawn
        next: look at drawn; --confidence, now 0.5, decides what is drawn
    """
    import msgspec
    from detectron2.data import MetadataCatalog
    from tqdm import tqdm

    from ..checkpoint import check_class_names, load_trained_model
    from ..config import load_config
    from ..evaluation import Detections
    from ..evaluation.detect import detect, read_annotated, read_picture
    from ..plots.drawing import draw_detections, side_by_side, stacked

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
    names = drawn_names([picture["file_name"] for picture in pictures], output, taken)
    files = [os.path.join(output, name) for name in names]
    read = [config_file, *(cfg.MODEL.WEIGHTS for cfg in configs)]
    if dataset:
        read.append(MetadataCatalog.get(dataset).get("json_file", ""))
    keep_apart({"--figure": figure, "--json": json}, [*taken, *files, *read])
    _check_sizes(configs)
    panel_titles = (["Annotated"] if annotations else []) + titles
    if len(panel_titles) == 1:
        panel_titles = []  # a single panel needs none
    models = [(cfg, load_trained_model(cfg)) for cfg in configs]
    for _, model in models if dataset else ():
        check_class_names(model, dataset)
    class_names, groups = _classes(*models[0])
    judge = _judge(dataset) if annotations else None
    rows, records = [], []
    for file, picture in zip(files, tqdm(pictures, desc="drawing", unit="picture")):
        path, image_id = picture["file_name"], picture.get("image_id")
        image = read_annotated(picture) if annotations else read_picture(path)
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
        right = judge(image_id, shown) if judge else [None] * len(shown)
        panels = [
            draw_detections(image, found, class_names, groups, marks)
            for found, marks in zip(shown, right)
        ]
        drawn = side_by_side(panels, panel_titles)
        save_picture(file, drawn)
        if figure:
            rows.append(drawn)
    lines = [f"{len(files)} pictures written to {output}"]
    if rows:
        save_picture(figure, stacked(rows))
        lines.append(f"all of them in {figure}")
    if json:
        write_atomically(json, msgspec.json.encode(records))
        lines.append(f"{len(records)} detections in {json}")
    lines.append(
        f"next: look at {output}; --confidence, now {confidence_threshold:g}, decides what is drawn"
    )
    return "\n".join(lines)


def _of_files(names: Sequence[str]) -> list[dict]:
    """A dict with the `file_name` of each picture."""
    files = picture_files(names, "give --input FILES or --dataset NAME")
    return [{"file_name": path} for path in files]


def _of_data_set(name: str) -> Sequence[dict]:
    """The dict of each picture."""
    from detectron2.data import DatasetCatalog

    from ..data import require_registered

    require_registered(name)
    return DatasetCatalog.get(name)


def _chosen(name: str, records: Sequence[dict], image_ids: Sequence[str]) -> list[dict]:
    """Those with these ids, in this order."""
    by_id = {str(record["image_id"]): record for record in records}
    unknown = [image_id for image_id in image_ids if image_id not in by_id]
    if unknown:
        raise ConfigError(f"--image-ids: {name} has no image {', '.join(unknown)}")
    return [by_id[image_id] for image_id in dict.fromkeys(image_ids)]


def _judge(dataset: str) -> Callable[[int | str, Sequence[Detections]], list]:
    """A function of an image's id and what is shown of it, whose first are the objects: which
    detections are right, and None for the objects."""
    from detectron2.data import MetadataCatalog

    from ..evaluation import dataset_ground_truth
    from ..plots.drawing import judged

    truth = None
    if MetadataCatalog.get(dataset).get("json_file"):  # else every class counts
        truth = dataset_ground_truth(dataset)

    def marks(image_id: int | str, shown: Sequence[Detections]) -> list:
        marks: list = [None]
        for found in shown[1:]:
            counts = truth and truth.looked_for(truth.index(image_id), found.classes)
            marks.append(judged(found, shown[0], counts)[0])
        return marks

    return marks


def _check_sizes(configs: Sequence[CfgNode]) -> None:
    """Raise `ConfigError` where a class of one model may be none of the other's."""
    from ..data import class_count

    sizes, keys = zip(*map(class_count, configs))
    if len(set(sizes)) > 1:
        raise ConfigError(
            f"the models find {sizes[0]} and {sizes[1]} classes ({keys[0]}); draw models of the "
            f"same classes side by side"
        )


def _classes(cfg: CfgNode, model: nn.Module) -> tuple[Sequence[str], np.ndarray | None]:
    """Class names, and their groups where the training frequencies can be had."""
    from ..checkpoint import known_class_names, trained_frequency
    from ..data import class_count

    trained = trained_frequency(cfg, model)
    names = known_class_names(model, (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN), trained)
    groups = None if trained is None else trained.groups()
    return names or [f"class {index}" for index in range(class_count(cfg)[0])], groups

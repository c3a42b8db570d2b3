"""`iif-d2 predict`: what a trained model finds on pictures, from its checkpoint alone."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..files import write_atomically
from .arguments import add_confidence, add_weights_arguments
from .drawn import drawn_names, keep_apart, picture_files, save_picture

if TYPE_CHECKING:
    from ..engine.detector import Detector

_MOST_CLASSES = 5  # of a line


EXAMPLE = "iif-d2 predict photos/ --weights output/mine/model_final.pth --output drawn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="picture files, patterns of them, or folders"
    )
    parser.add_argument(
        "--weights", required=True, help="a checkpoint, or a folder that `iif-d2 package` wrote"
    )
    parser.add_argument("--output", default="", metavar="DIR", help="folder for the drawn pictures")
    parser.add_argument("--json", default="", help="file for the detections, as COCO has results")
    add_confidence(parser)
    parser.add_argument("--batch", type=int, default=1, help="pictures at once; default 1")
    parser.add_argument("--device", default="", help="such as cpu; default a GPU, if there is one")
    add_weights_arguments(parser)


def run(args: argparse.Namespace) -> str:
    return predict(
        args.images,
        args.weights,
        output=args.output,
        json=args.json,
        confidence=args.confidence,
        batch_size=args.batch,
        device=args.device,
        config_file=args.config_file,
        opts=args.opts,
    )


def predict(
    images: Sequence[str],
    weights: str | os.PathLike,
    *,
    output: str = "",
    json: str = "",
    confidence: float = 0.5,
    batch_size: int = 1,
    device: str = "",
    config_file: str = "",
    opts: Sequence[str] = (),
) -> str:
    """Find, draw and write; says what was found, what was written, and what to do next.

    Args:
        images: picture files, patterns of them, or folders.
        weights: see `iif_d2.load`.
        device: see there, too.
        config_file: see there, too.
        opts: its `overrides`.
        output: folder for a drawn png of each picture, named as `draw_folder` does: no picture is
            written over. "" draws none.
        json: file for COCO's result records, with `file_name` and `class_name` beside; `image_id`
            counts the pictures from 1, and `category_id` is the class, 0 to C-1. "" writes none.
        confidence: least score of what counts.
        batch_size: see `Detector`.

    Raises:
        ConfigError: arguments that cannot work together.
        CheckpointError: see `iif_d2.load`.
        DataError: a picture cannot be read, or a file not be written.

    Examples:
        >>> said = predict(["my/images/*/*.png"], "output/iif/model_final.pth", output="drawn")
    """
    from tqdm import tqdm

    from ..checkpoint.folder import weights_file
    from ..engine.detector import load

    files = picture_files(images, "name some")
    drawn = [os.path.join(output, name) for name in drawn_names(files, output, files)]
    read = [*files, *(drawn if output else ()), weights_file(weights), config_file]
    keep_apart({"--json": json}, read)
    model = load(weights, config_file=config_file, device=device, overrides=opts)
    lines, records, total = [], [], Counter()
    bar = tqdm(files, desc="predicting", unit="picture", disable=len(files) < 2)
    found_on = model.stream(bar, confidence, batch_size=batch_size)
    for number, (found, path) in enumerate(zip(found_on, files), start=1):
        names = [model.class_names[label] for label in found.classes]
        total.update(names)
        lines.append(f"{path}: {_counts(Counter(names))}")
        if output:
            _draw(drawn[number - 1], path, found, model)
        for name, record in zip(names, found.to_coco(number) if json else ()):
            records.append({"file_name": path, "class_name": name, **record})
    if json:
        _write_json(json, records)
    said = [] if output or json else lines
    said.append(f"{total.total()} detections in {len(files)} pictures: {_counts(total)}")
    if output:
        said.append(f"{len(files)} pictures written to {output}")
    if json:
        said.append(f"{len(records)} detections in {json}")
    said.append(f"next: {_next(weights, output, json, confidence, total)}")
    return "\n".join(said)


def _counts(found: Counter) -> str:
    """The most frequent classes, and how often each was found."""
    few = [f"{count} {name}" for name, count in found.most_common(_MOST_CLASSES)]
    others = len(found) - len(few)
    return ", ".join([*few, *([f"{others} other classes"] if others > 0 else [])]) or "nothing"


def _next(
    weights: str | os.PathLike, output: str, json: str, confidence: float, total: Counter
) -> str:
    if not total:
        return f"lower --confidence, now {confidence:g}"
    if output:
        return f"look at {output}; --confidence, now {confidence:g}, decides what is drawn"
    if json:
        return f"Detections.from_json({json!r}) reads it in Python"
    return (
        f"--output DIR draws them, --json FILE writes them; in Python "
        f"iif_d2.load({os.fspath(weights)!r})(picture).to_pandas()"
    )


def _draw(file: str, path: str, found: Any, model: Detector) -> None:
    from ..evaluation.detect import read_picture
    from ..plots.drawing import draw_detections

    save_picture(file, draw_detections(read_picture(path), found, model.class_names, model.groups))


def _write_json(path: str, records: list[dict[str, Any]]) -> None:
    import msgspec

    write_atomically(path, msgspec.json.encode(records))

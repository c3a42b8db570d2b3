"""`iif-d2 package`: a trained model as a folder to give away, in the Hugging Face layout."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .arguments import add_weights_arguments

if TYPE_CHECKING:
    from ..evaluation.results import Results


EXAMPLE = "iif-d2 package output/mine/model_final.pth --output mine --half --license apache-2.0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", help="a checkpoint, or a package to write anew")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="the folder to write, new or empty"
    )
    parser.add_argument(
        "--half", action="store_true", help="float16 weights: half the size, scores move a little"
    )
    parser.add_argument(
        "--license", default="unknown", help="of the weights, in the Hub's words, as apache-2.0"
    )
    parser.add_argument(
        "--results", default="",
        help="results.json for the card; default the run's own, where it is this checkpoint's",
    )  # fmt: skip
    add_weights_arguments(parser)


def run(args: argparse.Namespace) -> str:
    return package(
        args.weights,
        args.output,
        half=args.half,
        license=args.license,
        results=args.results,
        config_file=args.config_file,
        opts=args.opts,
    )


def package(
    weights: str | os.PathLike,
    output: str | os.PathLike,
    *,
    half: bool = False,
    license: str = "unknown",
    results: str = "",
    config_file: str = "",
    opts: Sequence[str] = (),
) -> str:
    """Write a folder that `iif_d2.load` reads: model.safetensors, config.yaml, config.json (class
    names), class_frequency.json and README.md, the model card. Says what was written.

    Optimizer, iteration and paths stay behind.

    Args:
        weights: see `iif_d2.load`.
        config_file: see there, too.
        opts: its `overrides`, which stay in the config.
        output: the folder, new or empty.
        half: float16 weights.
        license: for the card.
        results: a results.json for the card; "" takes the run folder's, where the checkpoint is its
            last one and not younger.

    Raises:
        CheckpointError: see `iif_d2.load`.
        ConfigError: the folder has something in it, or a `.py` config is given.
        DataError: it cannot be written, or the results not be read.

    Examples:
        >>> said = package("output/iif/model_final.pth", "my-model", license="cc-by-4.0")
    """
    from ..checkpoint.folder import weights_file
    from ..checkpoint.package import check_new, write_package
    from ..checkpoint.reading import read_checkpoint
    from ..engine.detector import load
    from ..report.card import model_card

    output = os.fspath(output)
    check_new(output)
    path = weights_file(weights)
    detector = load(path, config_file=config_file, device="cpu", overrides=opts)
    found = _results(path, results)
    name = os.path.basename(os.path.abspath(output))
    write_package(
        output,
        detector.model,
        detector.cfg,
        model_card(name, detector, license, found),
        class_names=list(detector.class_names),
        frequency=detector.frequency,
        folded=read_checkpoint(path, mapped=True).get("folded"),
        half=half,
    )
    files = {file: os.path.getsize(os.path.join(output, file)) for file in os.listdir(output)}
    before = os.path.getsize(path)
    said = [
        f"{output}: {len(detector.class_names)} classes, {sum(files.values()) / 1e6:.1f} MB "
        f"({path} has {before / 1e6:.1f} MB)",
        *(f"  {file}" for file in sorted(files)),
    ]
    if not found:
        said.append("the card has no results: evaluate, and give --results FILE")
    if license == "unknown":
        said.append("the card says no license: give --license")
    said.append(f"next: iif-d2 predict PICTURE --weights {output}; hf upload OWNER/{name} {output}")
    return "\n".join(said)


def _results(weights: str, given: str) -> Results | None:
    """Those given, else the run folder's, where they are this checkpoint's."""
    from ..evaluation.results import load_results

    if given:
        return load_results(given)
    folder = os.path.dirname(weights)
    path = os.path.join(folder, "inference", "results.json")
    last = os.path.join(folder, "last_checkpoint")
    if not (os.path.isfile(path) and os.path.isfile(last)):
        return None
    with open(last, encoding="utf-8", errors="replace") as file:
        if file.read().strip() != os.path.basename(weights):
            return None
    return load_results(path) if os.path.getmtime(path) >= os.path.getmtime(weights) else None

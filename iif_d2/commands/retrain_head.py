"""`iif-d2 retrain-head`: a new box classifier for a trained detector, by any method, in minutes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from ..errors import ConfigError, DivergedError
from .arguments import add_model_arguments
from .own_data import OwnData, add_data_arguments

EXAMPLE = """iif-d2 retrain-head --config-file output/softmax/config.yaml --methods Softmax IIF \\
    --output output/heads MODEL.WEIGHTS output/softmax/model_final.pth"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--methods", nargs="+", required=True, metavar="METHOD",
        help="such as Softmax IIF IIF:VARIANT=base10 LADE:ALPHA=0.05,LAM=0.1",
    )  # fmt: skip
    parser.add_argument(
        "--output", required=True,
        help="folder of the table, and with one method, rate and seed of the checkpoint",
    )  # fmt: skip
    parser.add_argument(
        "--cache", default="",
        help="file of the detector's regions, made once; default regions.pth in --output",
    )  # fmt: skip
    parser.add_argument("--optimizer", choices=["sgd", "adamw"], default="sgd", help="default sgd")
    parser.add_argument(
        "--lrs", type=float, nargs="+", default=[],
        help="learning rates, for features of mean norm 8; default 0.5, adamw 0.01",
    )  # fmt: skip
    parser.add_argument("--iterations", type=int, default=2000, help="steps; default 2000")
    parser.add_argument("--batch", type=int, default=512, help="regions a step; default 512")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="default 0")
    add_data_arguments(parser)
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> str:
    own = OwnData.of(args)
    words = own.overrides()
    own.keep(args.output)
    return retrain_head(
        args.config_file,
        args.methods,
        output=args.output,
        cache=args.cache,
        optimizer=args.optimizer,
        lrs=args.lrs,
        iterations=args.iterations,
        batch=args.batch,
        seeds=args.seeds,
        opts=[*words, *args.opts],
    )


def retrain_head(
    config_file: str,
    methods: Sequence[str],
    *,
    output: str,
    cache: str = "",
    optimizer: str = "sgd",
    lrs: Sequence[float] = (),
    iterations: int = 2000,
    batch: int = 512,
    seeds: Sequence[int] = (0,),
    opts: Sequence[str] = (),
) -> str:
    """Train new box classifiers on a trained detector's regions; box AP of each on DATASETS.TEST.

    The detector runs once over DATASETS.TRAIN and DATASETS.TEST, and `cache` keeps what its
    classifier sees. Rows that the output folder has are not run again, but the checkpoint of a
    single one is always written anew. Nothing is chosen.

    Args:
        config_file: the detector's config, with its own METHOD.
        methods: names of the registry, with options as in "IIF:VARIANT=base10".
        output: the folder of results.csv and results.md. With one method, rate and seed also of
            model_final.pth and config.yaml, which `eval`, `predict` and `fold` take.
        cache: by default regions.pth in the output folder. Another detector's is refused.
        optimizer: "sgd" with SOLVER.MOMENTUM, or "adamw"; both with SOLVER.WEIGHT_DECAY.
        lrs: for features of mean norm 8; the rate rises over 5 % of the steps and falls to 0 along
            a cosine.
        iterations: steps.
        batch: regions a step.
        seeds: of the start, the batches and what the method draws.
        opts: KEY VALUE overrides, among them MODEL.WEIGHTS.

    Returns:
        The table in Markdown, and where the files lie.

    Raises:
        IIFError: the detector cannot be served, a method does not work here, or the cache or the
            output folder is of something else.

    Examples:
        >>> opts = ["MODEL.WEIGHTS", "output/softmax/model_final.pth"]
        >>> words = {"output": "heads", "opts": opts}
        >>> said = retrain_head("my.yaml", ["Softmax", "IIF"], **words)  # doctest: +SKIP
    """
    import torch
    from tqdm import tqdm

    from ..checkpoint import load_trained_model, trained_frequency
    from ..config import load_config
    from ..engine.regions import box_predictor, cached_regions
    from ..engine.retrain_head import (
        OWN,
        RATES,
        HeadRecipe,
        HeadTable,
        method_config,
        options_text,
        save_head,
        score_head,
        train_head,
    )
    from ..evaluation import LongTailEvaluator
    from ..files import hold_folder

    _check_numbers(lrs, iterations, batch, seeds)
    cfgs = {text: method_config(config_file, text, opts) for text in methods}
    cfg = load_config(config_file, opts)
    model = load_trained_model(cfg)
    predictor = box_predictor(model)
    hold_folder(output)
    regions = cached_regions(cache or os.path.join(output, "regions.pth"), cfg, model)
    table = HeadTable(output, regions, cfg)
    evaluator = LongTailEvaluator(
        cfg.DATASETS.TEST[0], tasks=["bbox"], frequency=trained_frequency(cfg, model)
    )
    recipes = [
        (HeadRecipe(of.MODEL.LONG_TAIL.METHOD, options_text(of), optimizer, lr, iterations, batch,
                    seed), of)
        for of in cfgs.values()
        for lr in lrs or [RATES[optimizer]]
        for seed in seeds
    ]  # fmt: skip
    checkpoint = os.path.join(output, "model_final.pth") if len(recipes) == 1 else ""
    if not table.has(HeadRecipe(OWN)):
        table.add(HeadRecipe(OWN), score_head(predictor.cpu(), regions, evaluator))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for products as small as these, several threads wait for each other
    try:
        for recipe, of in tqdm(recipes, "retrain-head", unit="head"):
            if table.has(recipe) and not checkpoint:
                continue
            try:
                head = train_head(predictor, regions, recipe, of)
            except DivergedError:
                if checkpoint:
                    raise
                table.add(recipe, {})
                continue
            metrics = score_head(head, regions, evaluator)
            if checkpoint:
                save_head(model, head, of, output)
            table.add(recipe, metrics)
    finally:
        torch.set_num_threads(threads)
    said = [table.markdown(), "", f"{table.path}: every row"]
    if checkpoint:
        config = os.path.join(output, "config.yaml")
        said += [
            f"{checkpoint}: the detector with the new classifier; masks are scored by",
            f"  iif-d2 eval --config-file {config}",
            "and for plain Detectron2, where method and backbone allow it, written by",
            f"  iif-d2 fold --config-file {config} --output {os.path.join(output, 'folded.pth')}",
        ]
    return "\n".join(said)


def _check_numbers(lrs: Sequence[float], iterations: int, batch: int, seeds: Sequence[int]) -> None:
    for name, numbers, least in (
        ("--iterations", [iterations], 1),
        ("--batch", [batch], 1),
        ("--seeds", seeds, 0),
        ("--lrs", lrs, 1e-12),
    ):
        if not all(least <= number < float("inf") for number in numbers):
            raise ConfigError(
                f"{name} is {', '.join(map(str, numbers))}; each must be {least} or more"
            )

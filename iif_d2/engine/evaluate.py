"""Evaluation of a model on one data set or several, whatever the kind of config."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format
from detectron2.utils import comm
from torch import nn

from ..checkpoint import model_frequency
from ..evaluation import LongTailEvaluator, rle_masks
from ..evaluation.results import load_results, save_results

logger = logging.getLogger(__name__)


def evaluate(
    model: nn.Module,
    tests: Iterable[tuple[str, Iterable, DatasetEvaluator]],
    output_dir: str,
    mask_threshold: float = 0.5,
    ending: str = "",
) -> dict[str, Any]:
    """Evaluate the model and write output_dir/inference/results.json. All ranks have to call it.

    Every rank evaluates the model that is saved, rank 0's. Masks reach a `LongTailEvaluator` as
    `pred_masks_rle`, another evaluator as Detectron2 pastes them.

    Args:
        tests: each data set's name, loader and evaluator; one is done before the next is asked for.
        mask_threshold: pixels of at least this probability are in a `LongTailEvaluator`'s masks.
        ending: of the tasks' names, such as "_TTA"; results.json then keeps what is in it.

    Returns:
        The results by task; by data set and task, where there are several data sets.
    """
    share_statistics(model)
    by_dataset, frequency = {}, model_frequency(model)
    for name, loader, evaluator in tests:
        ours = isinstance(evaluator, LongTailEvaluator)
        if ours and frequency is not None:
            evaluator.use_frequency(frequency)
        tested = rle_masks(model, mask_threshold) if ours else model
        results = inference_on_dataset(tested, loader, evaluator)
        by_dataset[name] = {f"{task}{ending}": row for task, row in (results or {}).items()}
        if comm.is_main_process():
            logger.info("Evaluation results for %s in csv format:", name)
            print_csv_format(by_dataset[name])
    if comm.is_main_process() and by_dataset:
        path = os.path.join(output_dir, "inference", "results.json")
        before = load_results(path) if ending and os.path.isfile(path) else {}
        save_results(path, before | {n: {**before.get(n, {}), **r} for n, r in by_dataset.items()})
    give_back_memory()
    return next(iter(by_dataset.values())) if len(by_dataset) == 1 else by_dataset


def share_statistics(model: nn.Module) -> None:
    """Give every rank the BatchNorm statistics of rank 0, whose model is the one that is saved.

    Each rank gathers its own in training; evaluated with them, AP would depend on the ranks. All
    ranks have to call it.
    """
    if comm.get_world_size() == 1:
        return
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for buffer in module.buffers(recurse=False):
                torch.distributed.broadcast(buffer, 0)


def give_back_memory() -> None:
    """Have the C library return what it keeps of freed memory, where it is glibc.

    Results come and go in all sizes; glibc keeps the holes that they leave, of 20 to 45 MB in a
    training of 450 MB, and more from evaluation to evaluation.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):  # another C library; another system
        pass

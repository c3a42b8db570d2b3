"""The parts of a training, and how a yaml config says each; `lazy.py` reads a `.py` config."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.engine.hooks import PreciseBN
from detectron2.evaluation import DatasetEvaluator
from detectron2.solver import build_lr_scheduler
from detectron2.solver.build import (
    build_optimizer,
    get_default_optimizer_params,
    maybe_add_gradient_clipping,
)
from detectron2.utils import comm
from fvcore.nn.precise_bn import get_bn_modules
from omegaconf import DictConfig
from torch import nn

from ..data import (
    LongTailDatasetMapper,
    TrainingBatches,
    attach_class_frequency,
    class_count,
    config_frequency,
    dicts_kept,
    known_frequency,
    prepare_workers,
    shared_dicts,
)
from ..errors import ConfigError, UnknownNameError, built_from_config
from ..evaluation import LongTailEvaluator
from ..evaluation.lvis_evaluation import evaluation_folder
from ..files import check_writable
from ..frequency import ClassFrequency
from ..modeling import warn_without_method
from .augmentation import with_augmentation
from .best import check_best_metric
from .checks import check_datasets, check_expected_results, check_test_sets
from .evaluate import evaluate
from .schedule import fit_schedule
from .second_stage import optimizer_for

OPTIMIZERS = ("SGD", "ADAMW")


@dataclass(frozen=True)
class TrainingParts:
    """What `LongTailTrainer` takes from a config, of either kind. Periods are in iterations."""

    cfg: CfgNode | DictConfig  # its schedule fitted to this run
    model: nn.Module  # on its device; for a second stage, frozen but for its methods
    data_loader: Iterable[list[dict]]  # without end; exactly resumed if a `TrainingBatches`
    optimizer: torch.optim.Optimizer  # of the parameters that learn
    scheduler: torch.optim.lr_scheduler.LRScheduler  # stepped by the iteration
    evaluate: Callable[[nn.Module], dict]  # gives a model's results
    evaluate_last: Callable[[nn.Module], dict]  # the same at the end, which may take longer
    datasets: Sequence[str]  # registered names that it learns from
    weights: str  # the checkpoint to start from; "" for none
    output_dir: str
    max_iter: int
    checkpointer: Mapping[str, Any]  # arguments of Detectron2's `PeriodicCheckpointer`
    eval_period: int  # 0: at the end only
    best_metric: str  # of `BestModel`; "": none
    patience: int  # evaluations without a new best; 0: without end
    log_period: int  # between two lines of metrics.json
    amp: bool  # mixed precision
    accumulate: int  # parts of a batch that go through the model one after the other
    ema_decay: float | None  # of `WeightAverage`; None: the weights are not averaged
    ddp: Mapping[str, Any]  # arguments of Detectron2's `create_ddp_model`
    fixed_statistics: bool  # BatchNorm of the backbone keeps the statistics that it came with
    class_frequency: Callable[[], ClassFrequency] | None  # None: nothing is known of the classes
    classifier_period: int  # between two looks of `ClassifierStats`; 0: never
    hooks: Sequence[HookBase] = ()  # further ones, which come before a checkpoint is saved


class CfgBuilders:
    """Makes each part from a yaml config, by the names that `DefaultTrainer` has for it.

    As there, a subclass of the trainer overrides one to have another part.
    """

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        with built_from_config("the model"):
            model = DefaultTrainer.build_model(cfg)
        warn_without_method(model, cfg)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """SGD as Detectron2 builds it, or AdamW with the same groups and clipping.

        Raises:
            UnknownNameError: SOLVER.OPTIMIZER is neither.
        """
        if cfg.SOLVER.OPTIMIZER not in OPTIMIZERS:
            raise UnknownNameError.of("SOLVER.OPTIMIZER", cfg.SOLVER.OPTIMIZER, OPTIMIZERS)
        if cfg.SOLVER.OPTIMIZER == "SGD":
            return build_optimizer(cfg, model)
        params = get_default_optimizer_params(
            model,
            base_lr=cfg.SOLVER.BASE_LR,
            weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
            bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
            weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        )
        adamw = maybe_add_gradient_clipping(cfg, torch.optim.AdamW)
        # A fused step takes AMP's scale out itself, after clipping and after the look at gradients.
        fused = not cfg.SOLVER.AMP.ENABLED and _has_fused_adamw(torch.device(cfg.MODEL.DEVICE))
        return adamw(
            params,
            lr=cfg.SOLVER.BASE_LR,
            weight_decay=cfg.SOLVER.WEIGHT_DECAY,
            fused=fused,
        )

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        with built_from_config("the learning rate's schedule"):
            return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[list[dict]]:
        _check_training_data(cfg)
        for name in cfg.DATASETS.TRAIN:
            attach_class_frequency(name)
        with built_from_config(f"the data of {' + '.join(cfg.DATASETS.TRAIN)}"):
            return TrainingBatches.from_config(cfg, LongTailDatasetMapper(cfg, True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[list[dict]]:
        check_datasets([dataset_name], *class_count(cfg))
        _check_proposals(cfg)
        with built_from_config(f"the data of {dataset_name}"):
            # Detectron2's arguments of a config, with data that ranks share.
            dicts = shared_dicts(dataset_name, filter_empty=False)
            loader = build_detection_test_loader(
                dicts,
                mapper=LongTailDatasetMapper(cfg, False),
                num_workers=cfg.DATALOADER.NUM_WORKERS,
            )
            return prepare_workers(loader)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        return LongTailEvaluator(
            dataset_name,
            output_dir=evaluation_folder(cfg.OUTPUT_DIR, dataset_name),
            frequency=known_frequency(config_frequency(cfg)),
            write_results=cfg.TEST.WRITE_RESULTS,
        )

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module) -> dict:
        """`evaluate` on DATASETS.TEST."""
        threshold = cfg.MODEL.ROI_MASK_HEAD.THRESH_TEST
        return evaluate(model, cls._tests(cfg), cfg.OUTPUT_DIR, threshold)

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> dict:  # noqa: N802  Detectron2's name
        """The same by Detectron2's test-time augmentation, TEST.AUG; tasks end in "_TTA"."""
        threshold = cfg.MODEL.ROI_MASK_HEAD.THRESH_TEST
        own = cfg.clone()
        own.defrost()
        own.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, "TTA")  # of the evaluators' files
        augmented = with_augmentation(cfg, model)
        return evaluate(augmented, cls._tests(own), cfg.OUTPUT_DIR, threshold, "_TTA")

    @classmethod
    def _tests(cls, cfg: CfgNode) -> Iterator[tuple[str, Iterable[list[dict]], DatasetEvaluator]]:
        for name in cfg.DATASETS.TEST:
            yield name, cls.build_test_loader(cfg, name), cls.build_evaluator(cfg, name)


def parts_from_cfg(cfg: CfgNode, build: type[CfgBuilders] = CfgBuilders) -> TrainingParts:
    """The parts that a yaml config describes.

    Args:
        build: makes them; `LongTailTrainer`, or a subclass that has parts of its own.

    Raises:
        ConfigError: a key's value cannot work, or names data that are not there.
        DataError: the data are not what they should be.
    """
    _check_training_data(cfg)
    check_test_sets(cfg.DATASETS.TEST, *class_count(cfg), cfg.DATASETS.TRAIN)
    with dicts_kept():  # a schedule in epochs asks for the images that the loader asks for
        cfg = fit_schedule(cfg, comm.get_world_size())
        data_loader = build.build_train_loader(cfg)
    model = build.build_model(cfg)
    optimizer = optimizer_for(model, functools.partial(build.build_optimizer, cfg, model))
    best_metric = cfg.TEST.BEST_METRIC
    evaluate_now, evaluate_last = evaluations(cfg, model, build, best_metric)
    return TrainingParts(
        cfg=cfg,
        model=model,
        data_loader=data_loader,
        optimizer=optimizer,
        scheduler=build.build_lr_scheduler(cfg, optimizer),
        evaluate=evaluate_now,
        evaluate_last=evaluate_last,
        datasets=cfg.DATASETS.TRAIN,
        weights=cfg.MODEL.WEIGHTS,
        output_dir=cfg.OUTPUT_DIR,
        max_iter=cfg.SOLVER.MAX_ITER,
        checkpointer={"period": cfg.SOLVER.CHECKPOINT_PERIOD},
        eval_period=cfg.TEST.EVAL_PERIOD,
        best_metric=best_metric,
        patience=cfg.TEST.PATIENCE,
        log_period=20,  # Detectron2's
        amp=cfg.SOLVER.AMP.ENABLED,
        accumulate=cfg.SOLVER.ACCUMULATE,
        ema_decay=cfg.MODEL_EMA.DECAY if cfg.MODEL_EMA.ENABLED else None,
        ddp={"broadcast_buffers": False},
        fixed_statistics=cfg.MODEL.RESNETS.FIXED_STATISTICS,
        class_frequency=config_frequency(cfg).resolve,
        classifier_period=cfg.LOG.CLASSIFIER_PERIOD,
        hooks=_precise_bn(cfg, model, build),
    )


def evaluations(
    cfg: CfgNode,
    model: nn.Module,
    build: type[CfgBuilders] = CfgBuilders,
    best_metric: str = "",
) -> tuple[Callable[[nn.Module], dict], Callable[[nn.Module], dict]]:
    """What evaluates now and then, and at the end; TEST.AUG is for the end, as in Detectron2.

    What they need is built once now, so that nothing is refused after hours of training. The test
    sets are kept, and not read again.

    Args:
        best_metric: what training asks for; it has to be among the results.

    Raises:
        IIFError: DATASETS.TEST, an evaluator, OUTPUT_DIR or TEST cannot be used.
    """
    kept: dict[Any, Any] = {}
    check_expected_results(cfg)
    if cfg.TEST.AUG.ENABLED:
        with_augmentation(cfg, model)
    with dicts_kept(kept):
        tests = [(name, evaluator) for name, _, evaluator in build._tests(cfg)]
    for name, _ in tests:
        check_writable(evaluation_folder(cfg.OUTPUT_DIR, name))
    check_best_metric(best_metric, tests)

    def now(model: nn.Module) -> dict:
        with dicts_kept(kept):
            return build.test(cfg, model)

    def last(model: nn.Module) -> dict:
        results = now(model)
        with dicts_kept(kept):
            augmented = build.test_with_TTA(cfg, model)
        if len(cfg.DATASETS.TEST) == 1:
            return {**results, **augmented}
        return {name: {**results[name], **augmented[name]} for name in results}

    return now, last if cfg.TEST.AUG.ENABLED else now


def _check_training_data(cfg: CfgNode) -> None:
    if not cfg.DATASETS.TRAIN:
        raise ConfigError("nothing to train on: set DATASETS.TRAIN")
    _check_proposals(cfg)
    check_datasets(cfg.DATASETS.TRAIN, *class_count(cfg))


def _check_proposals(cfg: CfgNode) -> None:
    if cfg.MODEL.LOAD_PROPOSALS:
        raise ConfigError(
            "MODEL.LOAD_PROPOSALS would have Detectron2 load a pickle, which can run code; set it "
            "to False and MODEL.PROPOSAL_GENERATOR.NAME to RPN"
        )


def _precise_bn(cfg: CfgNode, model: nn.Module, build: type[CfgBuilders]) -> list[HookBase]:
    """As `DefaultTrainer` has it: on a loader of its own, without workers."""
    if not cfg.TEST.PRECISE_BN.ENABLED or not get_bn_modules(model):
        return []
    if cfg.MODEL_EMA.ENABLED:
        raise ConfigError(
            "TEST.PRECISE_BN takes the statistics of the weights, and MODEL_EMA evaluates their "
            "average; set one of the two ENABLED to False"
        )
    own = cfg.clone()
    own.defrost()
    own.DATALOADER.NUM_WORKERS = 0
    loader = build.build_train_loader(own)
    return [PreciseBN(cfg.TEST.EVAL_PERIOD, model, loader, cfg.TEST.PRECISE_BN.NUM_ITER)]


def _has_fused_adamw(device: torch.device) -> bool:
    """Whether torch has the fused step on this device; on a CPU older ones only fail when asked."""
    parameter = nn.Parameter(torch.zeros(1, device=device))
    parameter.grad = torch.zeros_like(parameter)
    try:
        torch.optim.AdamW([parameter], fused=True).step()
    except RuntimeError:
        return False
    return True

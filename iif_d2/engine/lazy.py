"""The parts of a training from a LazyConfig, Detectron2's configs in Python."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data import build_detection_train_loader, get_detection_dataset_dicts
from detectron2.data.samplers import TrainingSampler
from detectron2.evaluation import DatasetEvaluator
from detectron2.solver import LRMultiplier
from detectron2.utils.registry import locate
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn
from torch.utils.data import DataLoader, Sampler

from ..checkpoint import load_trained_weights
from ..config import config_path
from ..data import (
    DatasetDicts,
    TrainingBatches,
    attach_class_frequency,
    deferred_frequency,
    dicts_kept,
    prepare_workers,
    shared_dicts,
)
from ..errors import ConfigError, built_from_config
from ..files import check_writable
from ..frequency import ClassFrequency
from ..methods import LongTailMethod
from .best import check_best_metric
from .checks import check_datasets, check_test_sets
from .evaluate import evaluate
from .parts import TrainingParts
from .schedule import warn_of_warmup
from .second_stage import optimizer_for

logger = logging.getLogger(__name__)
_CLASSES_KEY = "model.roi_heads.num_classes"

_LOADER_OPTIONS = ("total_batch_size", "aspect_ratio_grouping", "num_workers")
_NOTHING = object()
_BAD_CONFIG = (  # RuntimeError: Detectron2 has no such file in its model zoo
    SyntaxError, ImportError, KeyError, AttributeError, RuntimeError, OmegaConfBaseException,
    HydraException,
)  # fmt: skip


def load_lazy_config(config_file: str, overrides: list[str]) -> DictConfig:
    """What a `.py` config and KEY=VALUE overrides say, fitted to this machine.

    The file is code and is executed. A key must be there already or be an argument of a call;
    `+KEY=VALUE` adds another.

    Raises:
        ConfigError: the file is missing or no config, or an override names nothing.
    """
    path = config_path(config_file)
    try:
        cfg = LazyConfig.load(path)
        for override in overrides:
            _check_override(cfg, override)
        cfg = LazyConfig.apply_overrides(cfg, list(overrides))
        _fit_machine(cfg)
    except _BAD_CONFIG as error:
        raise ConfigError(f"config {path}: {type(error).__name__}: {error}") from error
    return cfg


def parts_from_lazy(cfg: DictConfig) -> TrainingParts:
    """The parts that a LazyConfig describes: `model`, `dataloader`, `optimizer`, `lr_multiplier`
    and `train`, as Detectron2's have them.

    Some keys of `train` are this package's and may be left out: `seed`, `fixed_statistics`
    (MODEL.RESNETS.FIXED_STATISTICS of a yaml config), `classifier_period` (LOG.CLASSIFIER_PERIOD),
    `model_ema.enabled` and `model_ema.decay` (MODEL_EMA), `best_metric` and `patience` (of TEST),
    `accumulate` (SOLVER.ACCUMULATE). Test-time augmentation (TEST.AUG) is a yaml config's:
    Detectron2's reads one.

    Raises:
        ConfigError: a key's value cannot work, or names data that are not there.
        DataError: the data are not what they should be.
    """
    train, names = cfg.train, cfg.dataloader.train.dataset.names
    names = [names] if isinstance(names, str) else list(names)
    check_datasets(names, _num_classes(cfg), _CLASSES_KEY)
    for name in names:
        attach_class_frequency(name)
    best_metric = train.get("best_metric", "")
    evaluate_cfg = lazy_evaluation(cfg, best_metric=best_metric)
    model = _build_model(cfg)
    optimizer = optimizer_for(model, functools.partial(_build_optimizer, cfg, model))
    with built_from_config("dataloader.train"):
        data_loader = _training_loader(cfg)
    with built_from_config("lr_multiplier"):
        scheduler = LRMultiplier(optimizer, instantiate(cfg.lr_multiplier), train.max_iter)
    warmup = OmegaConf.select(cfg, "lr_multiplier.warmup_length")
    if isinstance(warmup, (int, float)) and warmup >= 1:
        warn_of_warmup(f"lr_multiplier.warmup_length {warmup:g}", train.max_iter)
    return TrainingParts(
        cfg=cfg,
        model=model,
        data_loader=data_loader,
        optimizer=optimizer,
        scheduler=scheduler,
        evaluate=evaluate_cfg,
        evaluate_last=evaluate_cfg,
        datasets=names,
        weights=train.init_checkpoint,
        output_dir=train.output_dir,
        max_iter=train.max_iter,
        checkpointer=train.checkpointer,
        eval_period=train.eval_period,
        best_metric=best_metric,
        patience=train.get("patience", 0),
        log_period=train.log_period,
        amp=train.amp.enabled,
        accumulate=train.get("accumulate", 1),
        ema_decay=_ema_decay(train),
        ddp=train.ddp,
        fixed_statistics=train.get("fixed_statistics", False),
        class_frequency=_class_frequency(cfg, model, names),
        classifier_period=train.get("classifier_period", 20),
    )


def load_lazy_model(cfg: DictConfig, resume: bool) -> nn.Module:
    """The model for evaluation, with train.init_checkpoint or, with `resume`, the last checkpoint.

    Raises:
        CheckpointError: see `LongTailCheckpointer.load`.
    """
    model = _build_model(cfg)
    train, datasets = cfg.train, (*_names(cfg.dataloader.test), *_names(cfg.dataloader.train))
    return load_trained_weights(model, train.init_checkpoint, train.output_dir, resume, datasets)


def lazy_evaluation(
    cfg: DictConfig, learned: Sequence[str] | None = None, best_metric: str = ""
) -> Callable[[nn.Module], dict]:
    """What evaluates a model on `dataloader.test` by `dataloader.evaluator`, if there is one.

    Both are built once now, so that nothing is refused after hours of training. The test set is
    kept, and not read again.

    Args:
        learned: the class names in the model's checkpoint, if it has been loaded and has them.
        best_metric: what training asks for; it has to be among the results.

    Raises:
        IIFError: the data set, the evaluator or train.output_dir cannot be used.
    """
    if OmegaConf.select(cfg, "dataloader.evaluator") is None:  # as Detectron2 does
        return lambda model: {}
    names, kept = _names(cfg.dataloader.get("test", {})), {}
    training = _names(cfg.dataloader.get("train", {}))
    check_test_sets(names, _num_classes(cfg), _CLASSES_KEY, training, learned)
    with dicts_kept(kept):
        _, evaluator = _test(cfg)
    check_best_metric(best_metric, [("", evaluator)])
    folder = os.path.join(cfg.train.output_dir, "inference")
    check_writable(folder)

    def evaluate_kept(model: nn.Module) -> dict:
        with dicts_kept(kept):
            return evaluate_lazy(cfg, model)

    return evaluate_kept


def evaluate_lazy(cfg: DictConfig, model: nn.Module) -> dict:
    """`evaluate` on `dataloader.test`, by `dataloader.evaluator`."""
    names = _names(cfg.dataloader.test)
    return evaluate(model, [(" + ".join(names) or "test", *_test(cfg))], cfg.train.output_dir)


def _test(cfg: DictConfig) -> tuple[Iterable, DatasetEvaluator]:
    with built_from_config("dataloader.test"):  # first: the evaluator shares its annotations
        loader = _instantiate_loader(cfg.dataloader.test)
    if isinstance(loader, DataLoader):
        prepare_workers(loader)
    with built_from_config("dataloader.evaluator"):
        return loader, instantiate(cfg.dataloader.evaluator)


def _build_model(cfg: DictConfig) -> nn.Module:
    with built_from_config("model"):
        return instantiate(cfg.model).to(cfg.train.device)


def _build_optimizer(cfg: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    with built_from_config("optimizer"):
        cfg.optimizer.params.model = model
        optimizer = instantiate(cfg.optimizer)
        del cfg.optimizer.params.model  # a config holds no weights
    return optimizer


def _ema_decay(train: DictConfig) -> float | None:
    if not OmegaConf.select(train, "model_ema.enabled", default=False):
        return None
    return OmegaConf.select(train, "model_ema.decay", default=0.999)


def _class_frequency(
    cfg: DictConfig, model: nn.Module, names: list[str]
) -> Callable[[], ClassFrequency] | None:
    """What gives the counts of the model's method, or else those of the training data."""
    for module in model.modules():
        if isinstance(module, LongTailMethod) and module.uses_frequency:
            return module.source_frequency
    classes = _num_classes(cfg)
    if classes is None:
        return None
    return deferred_frequency(classes, names, cache_dir=cfg.train.output_dir).resolve


def _training_loader(cfg: DictConfig) -> Iterable[list[dict]]:
    """`dataloader.train` by the iteration, where it is Detectron2's loader of a list of dicts."""
    train = cfg.dataloader.train
    options = {key: train[key] for key in _LOADER_OPTIONS if key in train}
    others = set(train) - {*_LOADER_OPTIONS, "_target_", "dataset", "sampler", "mapper"}
    usual = _target(train) is build_detection_train_loader and not others and "mapper" in train
    with _shared_data(train):
        dataset = instantiate(train.dataset) if usual else None
        if not isinstance(dataset, (list, DatasetDicts)):
            logger.warning(
                "dataloader.train is not Detectron2's loader of a list of dicts with %s alone: a "
                "resumed run draws other images than one that is not stopped, and metrics.json "
                "has iterations twice",
                ", ".join(_LOADER_OPTIONS),
            )
            return instantiate(train)

        def make_sampler(dicts: DatasetDicts) -> Sampler:
            if train.get("sampler") is None:
                return TrainingSampler(len(dicts))
            with _shared_data(train):
                return instantiate(train.sampler)

        seed = OmegaConf.select(cfg, "train.seed")
        return TrainingBatches(
            dataset, make_sampler, seed, mapper=instantiate(train.mapper), **options
        )


def _instantiate_loader(cfg: DictConfig) -> Any:
    """A loader whose data are loaded once a machine."""
    with _shared_data(cfg):
        return instantiate(cfg)


@contextlib.contextmanager
def _shared_data(cfg: DictConfig) -> Iterator[None]:
    """Inside, a loader's data are loaded once a machine, though its sampler names them again."""
    if "dataset" not in cfg or _target(cfg.dataset) is not get_detection_dataset_dicts:
        yield
        return
    target = cfg.dataset._target_
    cfg.dataset._target_ = shared_dicts
    try:
        with dicts_kept():
            yield
    finally:
        cfg.dataset._target_ = target


def _names(loader: DictConfig) -> list[str]:
    """The data sets of a loader; none where it is of another kind than Detectron2's."""
    names = OmegaConf.select(loader, "dataset.names") or []
    return [names] if isinstance(names, str) else list(names)


def _target(cfg: Any) -> Any:
    """What a call in a config calls."""
    target = OmegaConf.select(cfg, "_target_") if OmegaConf.is_dict(cfg) else None
    return locate(target) if isinstance(target, str) else target


def _num_classes(cfg: DictConfig) -> int | None:
    return OmegaConf.select(cfg, _CLASSES_KEY)


def _check_override(cfg: DictConfig, override: str) -> None:
    """A key that nothing reads would be a typing error that nobody sees."""
    key, equals, _ = override.partition("=")
    if not equals:
        raise ConfigError(f"override {override!r} is not KEY=VALUE, as a .py config takes it")
    if key.lstrip("+").startswith("TEST."):
        raise ConfigError(
            f"override {override!r}: TEST.AUG and other keys of TEST are a yaml config's; a .py "
            f"config tests by its dataloader.test and dataloader.evaluator, and has no test-time "
            f"augmentation"
        )
    parent = OmegaConf.select(cfg, key.rpartition(".")[0]) if "." in key else cfg
    known = OmegaConf.is_config(parent) and (
        OmegaConf.select(cfg, key, default=_NOTHING) is not _NOTHING or "_target_" in parent
    )
    if not known and not key.startswith(("+", "~")):
        raise ConfigError(f"override {override!r}: the config has no {key}; +{override} adds it")


def _fit_machine(cfg: DictConfig) -> None:
    if str(cfg.train.device).startswith("cuda") and not torch.cuda.is_available():
        logger.info("no GPU here: train.device is cpu")
        cfg.train.device = "cpu"
    if cfg.train.device == "cpu" and cfg.train.amp.enabled:
        logger.warning("train.amp needs a GPU; training goes on in float32")
        cfg.train.amp.enabled = False

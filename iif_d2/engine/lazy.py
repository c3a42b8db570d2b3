"""Training and evaluation from a LazyConfig: the same parts as `LongTailTrainer`, from a `.py`."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data import build_detection_train_loader, get_detection_dataset_dicts
from detectron2.data.samplers import TrainingSampler
from detectron2.engine import AMPTrainer, SimpleTrainer, create_ddp_model, default_writers, hooks
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm
from detectron2.utils.registry import locate
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn
from torch.utils.data import DataLoader, Sampler

from ..checkpoint import LongTailCheckpointer, load_trained_weights, settle_frequencies
from ..config import config_path
from ..data import (
    TrainingBatches,
    attach_class_frequency,
    dicts_kept,
    prepare_workers,
    shared_dicts,
)
from ..data.dicts import DatasetDicts
from ..errors import ConfigError, built_from_config
from ..evaluation import LongTailEvaluator, rle_masks
from ..evaluation.results import save_results
from .determinism import ExactResume
from .finite import diverged, refuse_bad_gradients, refuse_endless_overflow
from .free_memory import give_back_memory
from .history import BoundedHistory
from .preemption import evaluation_hooks
from .second_stage import second_stage_methods
from .statistics import share_statistics
from .trainer import check_datasets

logger = logging.getLogger(__name__)

_LOADER_OPTIONS = ("total_batch_size", "aspect_ratio_grouping", "num_workers")
_NOTHING = object()
# RuntimeError: Detectron2 has no such file in its model zoo
_BAD_CONFIG = (
    SyntaxError,
    ImportError,
    KeyError,
    AttributeError,
    RuntimeError,
    OmegaConfBaseException,
    HydraException,
)


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


def evaluate_lazy(cfg: DictConfig, resume: bool) -> dict:
    """Evaluate train.init_checkpoint, or with `resume` the last checkpoint, on `dataloader.test`.

    Raises:
        ConfigError: the data set is not there or of another number of classes.
        CheckpointError: see `LongTailCheckpointer.load`.
    """
    model = _build_model(cfg)
    load_trained_weights(model, cfg.train.init_checkpoint, cfg.train.output_dir, resume)
    return _evaluate(cfg, model)


def _evaluate(cfg: DictConfig, model: nn.Module) -> dict:
    """Evaluate on `dataloader.test`; writes train.output_dir/inference/results.json."""
    name = cfg.dataloader.test.dataset.names
    check_datasets([name], _num_classes(cfg))
    with built_from_config("dataloader.test"):  # first: the evaluator shares its annotations
        loader = _instantiate_loader(cfg.dataloader.test)
    if isinstance(loader, DataLoader):
        prepare_workers(loader)
    with built_from_config("dataloader.evaluator"):
        evaluator = instantiate(cfg.dataloader.evaluator)
    ours = isinstance(evaluator, LongTailEvaluator)
    share_statistics(model)
    results = inference_on_dataset(rle_masks(model) if ours else model, loader, evaluator)
    if comm.is_main_process():
        print_csv_format(results)
        path = os.path.join(cfg.train.output_dir, "inference", "results.json")
        save_results(path, {name: results})
    give_back_memory()
    return results


def prepare_lazy_training(cfg: DictConfig, resume: bool) -> Callable[[], None]:
    """Everything up to the first step; what is returned trains.

    Raises:
        ConfigError: the data sets are not there or of another number of classes.
        CheckpointError: see `LongTailCheckpointer.load`.
        DivergedError: what is returned raises it for NaN and infinite losses and gradients.
    """
    names = cfg.dataloader.train.dataset.names
    names = [names] if isinstance(names, str) else names
    check_datasets(names, _num_classes(cfg))
    for name in names:
        attach_class_frequency(name)
    model = _build_model(cfg)
    if second_stage_methods(model):
        raise ConfigError("a method over a frozen model (DisAlign, LogN) trains from yaml only")
    with built_from_config("optimizer"):
        cfg.optimizer.params.model = model
        optimizer = instantiate(cfg.optimizer)
        del cfg.optimizer.params.model  # a config holds no weights
    with built_from_config("dataloader.train"):
        loader = _training_loader(cfg)
    on_cpu = cfg.train.device == "cpu"
    model = create_ddp_model(model, **cfg.train.ddp, **({"device_ids": None} if on_cpu else {}))
    trainer = (AMPTrainer if cfg.train.amp.enabled else SimpleTrainer)(model, loader, optimizer)
    refuse_bad_gradients(model, optimizer)
    output_dir = cfg.train.output_dir
    checkpointer = LongTailCheckpointer(model, output_dir, trainer=trainer)
    trainer.register_hooks(
        [
            BoundedHistory(),
            hooks.CallbackHook(after_train=_end_at_the_end),
            hooks.IterationTimer(),
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
        ]
    )
    if cfg.train.amp.enabled:
        look = hooks.CallbackHook(after_step=lambda t: refuse_endless_overflow(t.grad_scaler))
        trainer.register_hooks([look])
    if comm.is_main_process():
        periodic = hooks.PeriodicCheckpointer(checkpointer, **cfg.train.checkpointer)
        trainer.register_hooks([periodic])
    evaluate = functools.partial(_evaluate, cfg, model)
    later = evaluation_hooks(checkpointer, cfg.train.eval_period, evaluate)
    writers = default_writers(output_dir, cfg.train.max_iter) if comm.is_main_process() else []
    if writers:
        later.append(hooks.PeriodicWriter(writers, period=cfg.train.log_period))
    trainer.register_hooks(later)
    if isinstance(loader, TrainingBatches):
        exact = ExactResume(loader, writers, os.path.join(output_dir, "metrics.json"), later)
        exact.resumed = resume
        trainer.register_hooks([exact])
    resuming = resume and checkpointer.has_checkpoint()
    checkpointer.strict_shapes = resuming
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    weights = checkpointer.get_checkpoint_file() if resuming else cfg.train.init_checkpoint
    settle_frequencies(model, training=True, checkpoint=weights)
    first = trainer.iter + 1 if resuming else 0

    def train() -> None:
        try:
            trainer.train(first, cfg.train.max_iter)
        except FloatingPointError as error:
            raise diverged(error, trainer.iter, loader.images, checkpointer) from error

    return train


def _end_at_the_end(trainer: TrainerBase) -> None:
    """Resumed after the last iteration, Detectron2 counts one more."""
    trainer.iter = trainer.storage.iter = min(trainer.iter, trainer.max_iter)


class _Named:
    """A loader that remembers the images of the batch that it gave last."""

    def __init__(self, loader: Iterable[list[dict]]) -> None:
        self._loader = loader
        self.images: list[str] = []

    def __iter__(self) -> Iterator[list[dict]]:
        for batch in self._loader:
            self.images = [str(image.get("file_name", "")) for image in batch]
            yield batch


def _build_model(cfg: DictConfig) -> nn.Module:
    with built_from_config("model"):
        return instantiate(cfg.model).to(cfg.train.device)


def _training_loader(cfg: DictConfig) -> TrainingBatches | _Named:
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
            return _Named(instantiate(train))

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


def _target(cfg: Any) -> Any:
    """What a call in a config calls."""
    target = OmegaConf.select(cfg, "_target_") if OmegaConf.is_dict(cfg) else None
    return locate(target) if isinstance(target, str) else target


def _num_classes(cfg: DictConfig) -> int | None:
    return OmegaConf.select(cfg, "model.roi_heads.num_classes")


def _check_override(cfg: DictConfig, override: str) -> None:
    """A key that nothing reads would be a typing error that nobody sees."""
    key, equals, _ = override.partition("=")
    if not equals:
        raise ConfigError(f"override {override!r} is not KEY=VALUE, as a .py config takes it")
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

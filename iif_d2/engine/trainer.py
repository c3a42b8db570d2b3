"""The trainer: Detectron2's, with this package's data, evaluator, checkpoints and optimiser."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_test_loader,
)
from detectron2.engine import (
    AMPTrainer,
    DefaultTrainer,
    SimpleTrainer,
    create_ddp_model,
    hooks,
)
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.solver.build import (
    build_optimizer,
    get_default_optimizer_params,
    maybe_add_gradient_clipping,
)
from detectron2.utils import comm
from torch import nn

from ..checkpoint import LongTailCheckpointer, settle_frequencies
from ..data import (
    LongTailDatasetMapper,
    TrainingBatches,
    attach_class_frequency,
    config_frequency,
    dicts_kept,
    known_frequency,
    prepare_workers,
    shared_dicts,
)
from ..errors import ConfigError, UnknownNameError, built_from_config
from ..evaluation import LongTailEvaluator, rle_masks
from ..evaluation.results import save_results
from ..modeling import warn_without_method
from .classifier_stats import ClassifierStats
from .determinism import ExactResume
from .finite import diverged, refuse_bad_gradients, refuse_endless_overflow
from .free_memory import give_back_memory
from .history import BoundedHistory
from .preemption import evaluation_hooks
from .schedule import fit_schedule
from .second_stage import (
    FrozenNorms,
    ObservingTrainer,
    freeze_first_stage,
    second_stage_methods,
)
from .statistics import share_statistics
from .writers import extra_writers

OPTIMIZERS = ("SGD", "ADAMW")


class LongTailTrainer(DefaultTrainer):
    """`DefaultTrainer` for long-tailed detection, on GPUs or CPU, one process or many."""

    def __init__(self, cfg: CfgNode) -> None:
        TrainerBase.__init__(self)  # DefaultTrainer's wraps the model in a way that CPU refuses
        _check_training_data(cfg)
        with dicts_kept():  # a schedule in epochs asks for the images that the loader asks for
            cfg = fit_schedule(cfg, comm.get_world_size())
            data_loader = self.build_train_loader(cfg)
        model = self.build_model(cfg)
        self._second_stage = second_stage_methods(model)
        learns = not self._second_stage or freeze_first_stage(model, self._second_stage)
        # Where nothing learns the optimizer is never stepped; scheduler and checkpoints want one.
        optimizer = (
            self.build_optimizer(cfg, model) if learns else torch.optim.SGD(model.parameters(), 0.0)
        )
        on_cpu = cfg.MODEL.DEVICE == "cpu"
        if learns:  # DistributedDataParallel refuses a model without gradients
            model = create_ddp_model(
                model, broadcast_buffers=False, **({"device_ids": None} if on_cpu else {})
            )
            trainer = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
            self._trainer = trainer(model, data_loader, optimizer)
        else:
            self._trainer = ObservingTrainer(model, data_loader, optimizer, self._second_stage)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = LongTailCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())
        refuse_bad_gradients(model, optimizer)

    def resume_or_load(self, resume: bool = True) -> None:
        """As `DefaultTrainer`'s; resuming refuses a checkpoint that does not fit.

        Raises:
            CheckpointError: see `LongTailCheckpointer.load`.
            ConfigError: the method is a second stage, and there is no model to stand on.
        """
        resuming = resume and self.checkpointer.has_checkpoint()
        if self._second_stage and not resuming and not self.cfg.MODEL.WEIGHTS:
            raise ConfigError(
                f"{type(self._second_stage[0]).__name__} is a second stage over a frozen model; "
                f"set MODEL.WEIGHTS to a checkpoint trained with METHOD Softmax"
            )
        self._exact_resume.resumed = resume
        self.checkpointer.strict_shapes = resuming
        super().resume_or_load(resume)
        checkpoint = self.checkpointer.get_checkpoint_file() if resuming else self.cfg.MODEL.WEIGHTS
        settle_frequencies(self.model, training=True, checkpoint=checkpoint)
        for method in self._second_stage:
            if method.has_state and not resuming:
                method.reset()  # an earlier pass may have come with MODEL.WEIGHTS

    def build_hooks(self) -> list:
        """Detectron2's, with what SIGTERM needs before its evaluation; what a step needs comes
        first, what resuming needs last."""
        evaluation = evaluation_hooks(self.checkpointer, self.cfg.TEST.EVAL_PERIOD, self._evaluate)
        usual = []
        for hook in super().build_hooks():
            usual += evaluation if isinstance(hook, hooks.EvalHook) else [hook]
        self._exact_resume = ExactResume(
            self.data_loader,
            getattr(self, "_writers", ()),
            os.path.join(self.cfg.OUTPUT_DIR, "metrics.json"),
            usual,
        )
        return [
            BoundedHistory(),
            self._frozen_norms(),
            self._classifier_stats(),
            *usual,
            self._exact_resume,
        ]

    def _evaluate(self) -> dict:
        self._last_eval_results = self.test(self.cfg, self.model)
        return self._last_eval_results

    def _frozen_norms(self) -> FrozenNorms | None:
        if self._second_stage:
            return FrozenNorms(self.model)
        if self.cfg.MODEL.RESNETS.FIXED_STATISTICS:
            backbone = getattr(self.model, "module", self.model).backbone
            return FrozenNorms(getattr(backbone, "bottom_up", backbone))
        return None

    def _classifier_stats(self) -> ClassifierStats | None:
        period = self.cfg.LOG.CLASSIFIER_PERIOD
        return ClassifierStats(self.cfg, period) if period > 0 and comm.is_main_process() else None

    def build_writers(self) -> list:
        """Console, metrics.json and TensorBoard as `DefaultTrainer` has them, and LOG.WRITERS."""
        self._writers = [*super().build_writers(), *extra_writers(self.cfg)]
        return self._writers

    def run_step(self) -> None:
        """One iteration.

        Raises:
            DivergedError: losses, gradients or proposals are NaN or infinite.
        """
        try:
            super().run_step()
            if self.cfg.SOLVER.AMP.ENABLED and hasattr(self._trainer, "grad_scaler"):
                refuse_endless_overflow(self._trainer.grad_scaler)
        except FloatingPointError as error:
            raise diverged(error, self.iter, self.data_loader.images, self.checkpointer) from error

    def after_train(self) -> None:
        self.iter = min(self.iter, self.max_iter)  # resumed after the last iteration, it is one on
        super().after_train()

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        with built_from_config("the model"):
            model = super().build_model(cfg)
        warn_without_method(model, cfg)
        return model

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        with built_from_config("the learning rate's schedule"):
            return super().build_lr_scheduler(cfg, optimizer)

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
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        _check_training_data(cfg)
        for name in cfg.DATASETS.TRAIN:
            attach_class_frequency(name)
        with built_from_config(f"the data of {' + '.join(cfg.DATASETS.TRAIN)}"):
            return TrainingBatches.from_config(cfg, LongTailDatasetMapper(cfg, True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        check_datasets([dataset_name], cfg.MODEL.ROI_HEADS.NUM_CLASSES)
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
            output_dir=os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name),
            frequency=known_frequency(config_frequency(cfg)),
            write_results=cfg.TEST.WRITE_RESULTS,
        )

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> dict:
        """As `DefaultTrainer.test`; also writes OUTPUT_DIR/inference/results.json.

        Every rank evaluates the model that is saved, rank 0's. Masks reach the evaluators as
        `pred_masks_rle`, at MODEL.ROI_MASK_HEAD.THRESH_TEST, unless evaluators are given.
        """
        share_statistics(model)
        if evaluators is None:
            results = super().test(cfg, rle_masks(model, cfg.MODEL.ROI_MASK_HEAD.THRESH_TEST))
        else:
            results = super().test(cfg, model, evaluators)
        if comm.is_main_process() and cfg.DATASETS.TEST:
            by_dataset = {cfg.DATASETS.TEST[0]: results} if len(cfg.DATASETS.TEST) == 1 else results
            save_results(os.path.join(cfg.OUTPUT_DIR, "inference", "results.json"), by_dataset)
        give_back_memory()
        return results


def _has_fused_adamw(device: torch.device) -> bool:
    """Whether torch has the fused step on this device; on a CPU older ones only fail when asked."""
    parameter = nn.Parameter(torch.zeros(1, device=device))
    parameter.grad = torch.zeros_like(parameter)
    try:
        torch.optim.AdamW([parameter], fused=True).step()
    except RuntimeError:
        return False
    return True


def _check_training_data(cfg: CfgNode) -> None:
    if not cfg.DATASETS.TRAIN:
        raise ConfigError("nothing to train on: set DATASETS.TRAIN")
    _check_proposals(cfg)
    check_datasets(cfg.DATASETS.TRAIN, cfg.MODEL.ROI_HEADS.NUM_CLASSES)


def _check_proposals(cfg: CfgNode) -> None:
    if cfg.MODEL.LOAD_PROPOSALS:
        raise ConfigError(
            "MODEL.LOAD_PROPOSALS would have Detectron2 load a pickle, which can run code; set it "
            "to False and MODEL.PROPOSAL_GENERATOR.NAME to RPN"
        )


def check_datasets(names: Sequence[str], num_classes: int | None) -> None:
    """Raise `ConfigError` unless the data sets are there and have the model's number of classes.

    Where that number is None, a model without ROI heads, it is not compared.
    """
    for name in names:
        if name not in DatasetCatalog:
            raise ConfigError(
                f"DATASETS names {name!r}, which is not registered; call "
                f"iif_d2.register_long_tail_instances first, or check the name"
            )
        classes = MetadataCatalog.get(name).get("thing_classes")
        if None not in (classes, num_classes) and len(classes) != num_classes:
            raise ConfigError(
                f"MODEL.ROI_HEADS.NUM_CLASSES is {num_classes}, but data set "
                f"{name} has {len(classes)} classes; set it to {len(classes)}"
            )

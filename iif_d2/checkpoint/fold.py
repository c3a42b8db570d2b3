"""A trained model for plain Detectron2: the method folded into the box classifier."""

from __future__ import annotations

import os
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import ROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ..errors import CheckpointError, ConfigError, IIFError
from ..files.tensors import save_tensors
from ..modeling import (
    ClassSpecificMasks,
    ClassSpecificOutputLayers,
    LongTailDenseHeadMixin,
    LongTailPredictorMixin,
)
from ..modeling.dense import shift_of
from .carried import CONFIG, FREQUENCY
from .checkpointer import LongTailCheckpointer
from .classes import KEY, saved_class_names
from .frequencies import model_frequency, settle_frequencies

# How far plain Detectron2's scores may lie from the method's, in float32: what comes of rounding
# scale * (w . x + b) here and (scale w) . x + (scale b) there. Measured with LVIS v1's classes,
# 1,024 features and adjusted logits up to 170: 9e-6 for IIF, 1e-6 for the others.
TOLERANCE = 1e-5


def fold_checkpoint(
    model_or_path: nn.Module | str | os.PathLike,
    output: str | os.PathLike | None = None,
    cfg: CfgNode | None = None,
) -> dict[str, Any]:
    """A checkpoint that plain Detectron2 loads, and that predicts what the model's method does.

    Of every box predictor (each stage of a cascade) row c of `cls_score` becomes s_c * weight and
    s_c * bias + t_c with the method's `affine`, computed in float64 and rounded once, to float32.
    Of a dense head (RetinaNet, FCOS) each anchor's bias becomes bias + t_c.
    Scores agree within `TOLERANCE`, absolute. What the method keeps in the state is left out, and
    so are optimizer and iteration. The model's weights stay as they are.

    Args:
        model_or_path: a model whose box predictors or dense heads have a method, or the path of its
            checkpoint.
        output: the `.pth` to write, in one step; None only returns.
        cfg: the checkpoint's config; with a model it is not needed.

    Returns:
        `{"model": state, "folded": {"method": name, "config": {key: value}}}`: CPU tensors, and
        the keys whose values plain Detectron2 needs; see `plain_config`. `class_names` beside them,
        where the checkpoint has them, the counts that the method had, and with `cfg` the config.

    Raises:
        ConfigError: the method, the classifier or another part of the model cannot be folded
            (the message says why), a path comes without a config, or the output is the input.
        CheckpointError: the checkpoint is missing, damaged or incomplete, was folded before, or has
            no class frequencies where the method needs them and the config's cannot be had.
        DataError: the output cannot be written.

    Examples:
        >>> folded = fold_checkpoint("output/iif/model_final.pth", "folded.pth", cfg)
        >>> folded["folded"]["method"]
        'IIF'
    """
    if output is not None:
        _check_output(output, model_or_path)
    if isinstance(model_or_path, nn.Module):
        model = model_or_path
    elif cfg is None:
        raise ConfigError("to fold a checkpoint's path, give the config it was trained with as cfg")
    else:
        model = _load(os.fspath(model_or_path), cfg)
    if isinstance(model, (DataParallel, DistributedDataParallel)):
        model = model.module
    checkpoint = _fold(model)
    if names := getattr(model, KEY, None):
        checkpoint[KEY] = list(names)
    if counts := model_frequency(model):
        checkpoint[FREQUENCY] = counts.to_json()
    if cfg is not None:
        checkpoint[CONFIG] = plain_config(cfg, checkpoint).dump()
    if output is not None:
        save_tensors(output, checkpoint)
    return checkpoint


def plain_config(cfg: CfgNode, checkpoint: dict[str, Any], weights: str = "") -> CfgNode:
    """`cfg` as plain Detectron2 takes it, for a folded checkpoint.

    Args:
        cfg: the config of the model that was folded.
        checkpoint: what `fold_checkpoint` returned.
        weights: MODEL.WEIGHTS, where the folded checkpoint lies.

    Returns:
        Of Detectron2's own keys those that differ from its defaults: a yaml by `.dump()`.
    """
    plain = get_cfg()
    plain.merge_from_other_cfg(_changes(cfg, plain))
    for key, value in checkpoint["folded"]["config"].items():
        plain.merge_from_list([key, value])
    plain.MODEL.WEIGHTS = weights
    plain.OUTPUT_DIR = get_cfg().OUTPUT_DIR  # the original run's files are not to be written over
    changes = _changes(plain, get_cfg())
    changes.VERSION = plain.VERSION  # without it Detectron2 would have to guess
    return changes


def _changes(cfg: CfgNode, default: CfgNode) -> CfgNode:
    """The keys of `cfg` that `default` has with another value."""
    changes = CfgNode()
    for key, value in cfg.items():
        if isinstance(value, CfgNode) and key in default:
            value = _changes(value, default[key])
            if value:
                changes[key] = value
        elif key in default and value != default[key]:
            changes[key] = value
    return changes


def _fold(model: nn.Module) -> dict[str, Any]:
    predictors = {
        f"{name}." if name else "": module
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, (LongTailPredictorMixin, LongTailDenseHeadMixin))
    }
    if not predictors:
        raise ConfigError(
            "there is nothing to fold: no box predictor of the model has a method; set "
            "MODEL.ROI_HEADS.NAME to LongTailROIHeads (or Res5, Cascade), or call apply_method"
        )
    state = model.state_dict()  # with the versions of the modules in its _metadata
    for prefix, predictor in predictors.items():
        if isinstance(predictor, LongTailDenseHeadMixin):
            state[f"{prefix}cls_score.bias"] = _shifted_bias(predictor)
        else:
            _check_predictor(predictor)
            weight, bias = _folded_rows(prefix, predictor)
            state.update({f"{prefix}cls_score.weight": weight, f"{prefix}cls_score.bias": bias})
        for key in list(state):
            # without FED_LOSS, which is for training, Detectron2 has no table of class weights
            if key.startswith((f"{prefix}method.", f"{prefix}fed_loss_cls_weights")):
                del state[key]
    _check_rest(model, predictors)
    for key, value in state.items():
        state[key] = value.detach().cpu().clone()
    methods = {predictor.method for predictor in predictors.values()}
    sigmoid = {
        predictor.method.sigmoid_scores
        for predictor in predictors.values()
        if isinstance(predictor, LongTailPredictorMixin)
    }
    if len(sigmoid) > 1:
        raise ConfigError("some stages score by sigmoid, others by softmax; Detectron2 has one key")
    config: dict[str, Any] = {}
    if sigmoid:
        config["MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE"] = sigmoid.pop()
        config["MODEL.ROI_BOX_HEAD.USE_FED_LOSS"] = False  # it would ask for training counts
    for heads in (module for module in model.modules() if isinstance(module, ROIHeads)):
        config["MODEL.ROI_HEADS.NAME"] = _plain_class(heads).__name__
    names = sorted({type(method).__name__ for method in methods})
    return {"model": state, "folded": {"method": ", ".join(names), "config": config}}


def _folded_rows(prefix: str, predictor: FastRCNNOutputLayers) -> tuple[Tensor, Tensor]:
    """`cls_score`'s weight (C+1, D) and bias (C+1,) with the method in them, on the CPU."""
    scale, shift = map(torch.from_numpy, predictor.method.affine())
    layer = predictor.cls_score
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    rows = len(scale)  # another method may have needed more
    weight, bias = layer.weight.detach()[:rows].cpu(), layer.bias.detach()[:rows].cpu()
    weight = (weight.double() * scale[:, None]).to(dtype)
    bias = (bias.double() * scale + shift).to(dtype)
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise CheckpointError(f"{prefix}cls_score has numbers that are not finite when folded")
    return weight, bias


def _shifted_bias(head: LongTailDenseHeadMixin) -> Tensor:
    """A dense head's `cls_score` bias (A C,) with the method in it, on the CPU."""
    bias, shift = head.cls_score.bias.detach().cpu(), torch.from_numpy(shift_of(head.method))
    return (bias.double().view(-1, len(shift)) + shift).flatten().to(bias.dtype)


def _check_predictor(predictor: FastRCNNOutputLayers) -> None:
    """Raise ConfigError unless scaled and shifted rows give scaled and shifted logits."""
    layer, plain = predictor.cls_score, _plain_class(predictor)
    if type(layer) is not nn.Linear:
        raise ConfigError(
            f"the classifier cannot be folded: plain Detectron2's is linear, "
            f"{type(layer).__name__} is not, so that scaled rows need not give scaled logits"
        )
    if any(
        getattr(plain, name) is not getattr(FastRCNNOutputLayers, name)
        for name in ("forward", "predict_probs")
    ):
        raise ConfigError(
            f"the box predictor {plain.__name__} has its own way from cls_score to the scores; "
            f"what folding would do to them is not known"
        )


def _check_rest(model: nn.Module, predictors: dict[str, nn.Module]) -> None:
    """Raise ConfigError for a part of the model that plain Detectron2 does not have."""
    for name, module in model.named_modules():
        # A normed mask head is refused for its predictor, which Detectron2 has not.
        known = isinstance(
            module,
            (
                LongTailPredictorMixin, LongTailDenseHeadMixin, ClassSpecificOutputLayers,
                ClassSpecificMasks, ROIHeads,
            ),
        )  # fmt: skip
        known = known or f"{name}.".startswith(tuple(f"{prefix}method." for prefix in predictors))
        if not known and _is_ours(type(module)):
            raise ConfigError(
                f"the model cannot be folded: plain Detectron2 has no {type(module).__name__}, "
                f"which {name} is"
            )


def _plain_class(module: nn.Module) -> type:
    """What the module would be without this package."""
    return next(kind for kind in type(module).__mro__ if not _is_ours(kind))


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == __name__.partition(".")[0]


class _StrictCheckpointer(LongTailCheckpointer):
    strict_shapes = True
    _remedy = "fold a trained model with the config it was trained with"


def _load(path: str, cfg: CfgNode) -> nn.Module:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    rest = _StrictCheckpointer(model).load(path, checkpointables=[])
    model.class_names = saved_class_names(rest)
    if "folded" in rest:
        raise CheckpointError(
            f"{path} has {rest['folded']['method']} folded in already; fold the original"
        )
    try:
        settle_frequencies(model, training=False, checkpoint=path)
    except IIFError as error:
        raise CheckpointError(
            f"checkpoint {path} holds no class frequencies, and the config's cannot be had: {error}"
        ) from None
    return model


def _check_output(output: str | os.PathLike, source: Any) -> None:
    output = os.fspath(output)
    if not output.endswith(".pth"):
        raise ConfigError(f"{output} must end in .pth; Detectron2 reads other names in other ways")
    if isinstance(source, nn.Module):
        return
    source = os.fspath(source).partition("?")[0]
    if os.path.exists(output) and os.path.exists(source) and os.path.samefile(output, source):
        raise ConfigError(f"{output} is the checkpoint to fold; write to another file")

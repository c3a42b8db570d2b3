"""One pass of a detector over a data set, scored under many test-time methods as it goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import ConfigError
from ..methods import LongTailMethod, Reads
from ..modeling import (
    LongTailCascadeROIHeads,
    LongTailOutputLayers,
    LongTailRes5ROIHeads,
    LongTailROIHeads,
)
from ..ops.exact_topk import exact_topk_inference
from ..ops.mask_rle import postprocess_to_rle
from .detections import Detections
from .ground_truth import GroundTruth
from .matching import Matcher

_MAX_DETS = 300  # best detections of an image that LVIS scores


@torch.no_grad()
def sweep_pass(
    model: nn.Module,
    loader: Iterable[list[dict[str, Any]]],
    truth: GroundTruth,
    methods: list[LongTailMethod],
    mask_threshold: float | None = None,
) -> list[np.ndarray]:
    """Precision under each method, of boxes or of masks, as `LongTailEvaluator` would have it.

    Backbone, proposals and box head run once an image. Each method turns the head's logits into
    scores, its detections are matched, and nothing of the image is kept. Box regression does not
    depend on the method, so neither do a cascade's later proposals.

    Args:
        model: in evaluation mode; see `predictors` for which.
        loader: batches of test inputs.
        truth: their annotations.
        methods: on any device; each reads the model's logits.
        mask_threshold: score masks, not boxes; each that any method detects is predicted once.

    Returns:
        For each method what `Matcher.precision` gives.
    """
    last = predictors(model)[-1]
    stage = (last.test_score_thresh, last.test_nms_thresh, last.test_topk_per_image)
    methods = [method.to(model.device) for method in methods]
    task = "bbox" if mask_threshold is None else "segm"
    matchers = [Matcher(truth, task) for _ in methods]
    for batch in tqdm(loader, desc=f"{len(methods)} settings, {task}", unit="batch"):
        images = model.preprocess_image(batch)
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features, None)
        stages, proposals = model.roi_heads.box_stages(features, proposals)
        boxes = last.predict_boxes(stages[-1], proposals)
        sizes = [len(p) for p in proposals]
        logits = zip(*(scores.split(sizes) for scores, _ in stages))
        unions, found = [], []
        for of_image, of_stages, size in zip(boxes, logits, images.image_sizes):
            scores = (_average(method, of_stages) for method in methods)
            each = [exact_topk_inference(of_image, s, size, *stage)[0] for s in scores]
            union, places = _union(each)
            unions.append(union)
            found.append([(p, one.scores.cpu().numpy()) for p, one in zip(places, each)])
        if mask_threshold is not None:
            unions = model.roi_heads.forward_with_given_boxes(features, unions)
        for input, union, kept in zip(batch, unions, found):
            _match(truth, matchers, input, union, kept, mask_threshold)
    return [matcher.precision() for matcher in matchers]


def predictors(model: nn.Module) -> list[LongTailOutputLayers]:
    """The box predictors of each stage.

    Raises:
        ConfigError: no method can be exchanged in this model for another; says why.
    """
    heads = (LongTailROIHeads, LongTailRes5ROIHeads, LongTailCascadeROIHeads)
    if type(model) is not GeneralizedRCNN or not isinstance(model.roi_heads, heads):
        raise ConfigError(
            "a sweep needs a GeneralizedRCNN with a long-tail box predictor; set "
            "MODEL.ROI_HEADS.NAME to LongTailROIHeads (or Res5, Cascade)"
        )
    stages = [module for module in model.modules() if isinstance(module, LongTailOutputLayers)]
    for method in {stage.method for stage in stages}:
        if not (method.is_adjusted_softmax or method.reads == Reads("sigmoid")):
            raise ConfigError(
                f"a sweep exchanges one rule over a softmax of classes and background, or over "
                f"sigmoids of classes, for another; the config's {type(method).__name__} takes "
                f"logits for {method.reads}: give a model that was trained with METHOD Softmax, "
                f"IIF or Sigmoid, and its config"
            )
    return stages


def _union(each: list[Instances]) -> tuple[Instances, list[np.ndarray]]:
    """One image's detections under any method, each box and class once; each method's places."""
    boxes = torch.cat([found.pred_boxes.tensor for found in each])
    classes = torch.cat([found.pred_classes for found in each])
    keys = torch.cat([boxes, classes[:, None]], dim=1)  # classes are exact in float32, too
    keys, places = torch.unique(keys, dim=0, return_inverse=True)
    union = Instances(
        each[0].image_size, pred_boxes=Boxes(keys[:, :4]), pred_classes=keys[:, 4].long()
    )
    union.scores = keys.new_zeros(len(keys))  # each method has its own
    union.place = torch.arange(len(keys), device=keys.device)
    return union, np.split(places.cpu().numpy(), np.cumsum([len(found) for found in each])[:-1])


def _average(method: LongTailMethod, stages: tuple[Tensor, ...]) -> Tensor:
    """A cascade's stages are averaged as Detectron2 does."""
    scores = [method.probabilities(logits[:, : method.num_logits]) for logits in stages]
    return scores[0] if len(scores) == 1 else sum(scores) * (1.0 / len(scores))


def _match(
    truth: GroundTruth,
    matchers: list[Matcher],
    input: dict[str, Any],
    union: Instances,
    kept: list[tuple[np.ndarray, np.ndarray]],
    mask_threshold: float | None,
) -> None:
    """One image under every method."""
    index, num_places = truth.index(input["image_id"]), len(union)
    height = input.get("height", union.image_size[0])
    width = input.get("width", union.image_size[1])
    if mask_threshold is None:
        union = detector_postprocess(union, height, width)
    else:
        union = postprocess_to_rle(union, height, width, mask_threshold)
    source = f"image {input['image_id']!r}"
    everything = Detections.from_instances(union, len(truth.categories), source)
    looked_for = truth.looked_for(index, everything.classes)
    row = np.full(num_places, -1)  # boxes that became empty have none
    row[union.place.cpu().numpy()] = np.arange(len(union))
    for matcher, (places, scores) in zip(matchers, kept):
        rows = row[places]
        rows, scores = rows[rows >= 0][:_MAX_DETS], scores[rows >= 0][:_MAX_DETS]
        counts = looked_for[rows]
        matcher.add(index, everything.take(rows[counts]).scored(scores[counts]))

"""One pass of a detector over a data set, scored under many test-time methods as it goes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import ConfigError
from ..methods import LongTailMethod, Reads
from ..modeling import LongTailPredictorMixin
from ..ops.mask_rle import postprocess_to_rle
from ..ops.shared_topk import exact_topk_many
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
        methods: C + 1 columns in and out, on any device.
        mask_threshold: score masks, not boxes; each that any method detects is predicted once.

    Returns:
        For each method what `Matcher.precision` gives.
    """
    stages = predictors(model)
    methods = [method.to(model.device) for method in methods]
    task = "bbox" if mask_threshold is None else "segm"
    matchers = [Matcher(truth, task) for _ in methods]
    for batch in tqdm(loader, desc=f"{len(methods)} settings, {task}", unit="batch"):
        images = model.preprocess_image(batch)
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features, None)
        with _recorded(stages) as seen:
            model.roi_heads(images, features, proposals, None)
        sizes = [len(boxes) for boxes in seen.boxes]
        logits = zip(*(stage.split(sizes) for stage in seen.logits))
        unions, found = [], []
        for image, (boxes, of_stages) in enumerate(zip(seen.boxes, logits)):
            scores = [lambda m=m, z=of_stages: _average(m, z) for m in methods]
            union, kept = exact_topk_many(
                boxes, scores, images.image_sizes[image], stages[-1].test_score_thresh,
                stages[-1].test_nms_thresh, stages[-1].test_topk_per_image,
            )  # fmt: skip
            union.scores = torch.zeros(len(union), device=boxes.device)  # each method has its own
            union.place = torch.arange(len(union), device=boxes.device)
            unions.append(union)
            found.append(kept)
        if mask_threshold is not None:
            unions = model.roi_heads.forward_with_given_boxes(features, unions)
        for input, union, kept in zip(batch, unions, found):
            _match(truth, matchers, input, union, kept, mask_threshold)
    return [matcher.precision() for matcher in matchers]


def predictors(model: nn.Module) -> list[LongTailPredictorMixin]:
    """The box predictors of each stage.

    Raises:
        ConfigError: no method can be exchanged in this model for another; says why.
    """
    stages = [module for module in model.modules() if isinstance(module, LongTailPredictorMixin)]
    if type(model) is not GeneralizedRCNN or not stages:
        raise ConfigError(
            "a sweep needs a GeneralizedRCNN with a long-tail box predictor; set "
            "MODEL.ROI_HEADS.NAME to LongTailROIHeads (or Res5, Cascade)"
        )
    for method in {stage.method for stage in stages}:
        if (
            method.reads != Reads("softmax")
            or method.second_stage
            or method.num_logits != 1 + method.num_classes
        ):
            raise ConfigError(
                f"a sweep exchanges one softmax over classes and background for another; the "
                f"config's {type(method).__name__} takes logits for {method.reads}: give a model "
                f"that was trained with METHOD Softmax, and its config"
            )
    return stages


class _Seen:
    """What the box head gave for one batch."""

    def __init__(self) -> None:
        self.logits: list[Tensor] = []  # of each stage (rows of all images, C + 1)
        self.boxes: list[Tensor] = []  # of the last stage, by image


@contextlib.contextmanager
def _recorded(stages: list[LongTailPredictorMixin]) -> Iterator[_Seen]:
    """Record logits and boxes; the model itself finds nothing, so that it predicts no masks."""
    seen = _Seen()
    last = stages[-1]
    predict_boxes = last.predict_boxes

    def record_boxes(predictions, proposals):
        seen.boxes = list(predict_boxes(predictions, proposals))
        return seen.boxes

    def record_logits(predictions, proposals):
        logits = predictions[0][:, : last.num_classes + 1]
        seen.logits.append(logits)
        below_any_threshold = torch.full_like(logits, -1.0)
        return list(below_any_threshold.split([len(p) for p in proposals]))

    try:
        for stage in stages:
            stage.predict_probs = record_logits
        last.predict_boxes = record_boxes
        yield seen
    finally:
        for stage in stages:
            del stage.predict_probs
        del last.predict_boxes


def _average(method: LongTailMethod, stages: tuple[Tensor, ...]) -> Tensor:
    """A cascade's stages are averaged as Detectron2 does."""
    scores = [method.probabilities(logits) for logits in stages]
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

"""A Detectron2 model that returns run lengths in place of pasted masks, while it is asked to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Instances
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import ConfigError
from ..ops.mask_rle import postprocess_to_rle

__all__ = ["rle_masks"]


@contextlib.contextmanager
def rle_masks(model: nn.Module, threshold: float = 0.5) -> Iterator[None]:
    """In this context `model` returns `pred_masks_rle` where it would return `pred_masks`.

    The run lengths are those of the masks that Detectron2 would paste, at a fraction of the time
    and memory. A model with an inference of its own, which may do more than paste, is left alone;
    so is one without masks.

    Args:
        model: a `GeneralizedRCNN`, in DistributedDataParallel or not.
        threshold: pixels of at least this probability are in the mask, in [0, 1]; 0.5 is
            Detectron2's.

    Raises:
        ConfigError: another threshold than 0.5 for a model that is left alone.
    """
    rcnn = model.module if isinstance(model, DistributedDataParallel) else model
    if getattr(type(rcnn), "inference", None) is not GeneralizedRCNN.inference:
        if threshold != 0.5:
            raise ConfigError(
                f"MODEL.ROI_MASK_HEAD.THRESH_TEST is {threshold}, but {type(rcnn).__name__} pastes "
                "its masks itself, at 0.5; set the key to 0.5"
            )
        yield
        return
    plain = rcnn.inference

    def inference(
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list:
        results = plain(batched_inputs, detected_instances, do_postprocess=False)
        if not do_postprocess:
            return results
        outputs = []
        for image, instances in zip(batched_inputs, results):
            height = image.get("height", instances.image_size[0])
            width = image.get("width", instances.image_size[1])
            encoded = postprocess_to_rle(instances, height, width, threshold)
            outputs.append({"instances": encoded})
        return outputs

    rcnn.inference = inference
    try:
        yield
    finally:
        del rcnn.inference

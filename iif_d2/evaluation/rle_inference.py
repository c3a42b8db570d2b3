"""A Detectron2 model that returns run lengths in place of pasted masks."""

from __future__ import annotations

from typing import Any

from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Instances
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import ConfigError
from ..ops.mask_rle import postprocess_to_rle

__all__ = ["rle_masks"]


def rle_masks(model: nn.Module, threshold: float = 0.5) -> nn.Module:
    """A model that returns `pred_masks_rle` where `model` would return `pred_masks`.

    The run lengths are those of the masks that Detectron2 would paste, at a fraction of the time
    and memory. A model with an inference of its own, which may do more than paste, is returned as
    it is; one without masks gives what it gave.

    Args:
        model: a `GeneralizedRCNN`, in DistributedDataParallel or not.
        threshold: pixels of at least this probability are in the mask, in [0, 1]; 0.5 is
            Detectron2's.

    Returns:
        For inference only; it holds the model itself, no copy.

    Raises:
        ConfigError: another threshold than 0.5 for a model with an inference of its own.

    Examples:
        >>> outputs = rle_masks(model.eval())([{"image": image}])
        >>> sorted(outputs[0]["instances"].pred_masks_rle[0])
        ['counts', 'size']
    """
    rcnn = model.module if isinstance(model, DistributedDataParallel) else model
    if getattr(type(rcnn), "inference", None) is GeneralizedRCNN.inference:
        return _RleMasks(rcnn, threshold)
    if threshold != 0.5:
        raise ConfigError(
            f"MODEL.ROI_MASK_HEAD.THRESH_TEST is {threshold}, but {type(rcnn).__name__} pastes "
            "its masks itself, at 0.5; set the key to 0.5"
        )
    return model


class _RleMasks(nn.Module):
    def __init__(self, rcnn: GeneralizedRCNN, threshold: float) -> None:
        super().__init__()
        self.rcnn = rcnn
        self.training = rcnn.training  # what evaluation puts back afterwards
        self.threshold = threshold

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        outputs = []
        results = self.rcnn.inference(batched_inputs, do_postprocess=False)
        for image, instances in zip(batched_inputs, results):
            height = image.get("height", instances.image_size[0])
            width = image.get("width", instances.image_size[1])
            encoded = postprocess_to_rle(instances, height, width, self.threshold)
            outputs.append({"instances": encoded})
        return outputs

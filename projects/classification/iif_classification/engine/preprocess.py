"""What happens to a batch on the device: normalisation, memory format, mixup, autocast."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2

from iif_d2.errors import ConfigError, UnknownNameError

from ..modeling.recognizer import Mix

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Prepare:
    """uint8 (R, 3, S, S) to normalised float32 on the device, in the model's memory format.

    Args:
        mean, std: of pixels in [0, 1], per channel.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], device: torch.device, channels_last: bool
    ) -> None:
        self.device = device
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        std = torch.tensor(std).view(1, -1, 1, 1)
        self.factor = (1 / (255 * std)).to(device)
        self.shift = (-torch.tensor(mean).view(1, -1, 1, 1) / std).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        images = images.to(self.device, non_blocking=True)
        images = images.to(torch.float32, memory_format=self.format)
        return torch.addcmul(self.shift, images, self.factor)


class MixUp:
    """torchvision's mixup, with the two labels kept apart, as every method's loss takes them.

    Draws from torch's global generator, whose state a checkpoint holds.

    Args:
        alpha: of Beta(alpha, alpha), > 0.
    """

    def __init__(self, alpha: float) -> None:
        if not alpha > 0:
            raise ConfigError(f"SOLVER.MIXUP is {alpha}; it must be above 0, or 0 for none")
        # Older torchvision demands num_classes, for the labels that are not mixed here, and has the
        # two steps under private names.
        mixup = v2.MixUp(alpha=alpha, num_classes=1)
        self._draw = getattr(mixup, "make_params", None) or mixup._get_params
        self._mix = getattr(mixup, "transform", None) or mixup._transform

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Mix]:
        """Mixed images of the same shape, and what was mixed into them."""
        parameters = self._draw([images])
        parameters.update(labels=labels, batch_size=len(labels))
        mixed = self._mix(images, parameters)
        # torchvision mixes image i with image i - 1
        return mixed, Mix(labels.roll(1, 0), parameters["lam"])


def autocast(amp: str, device: torch.device) -> contextlib.AbstractContextManager:
    """Autocast by SOLVER.AMP; nothing for "".

    Raises:
        UnknownNameError: no such precision.
        ConfigError: fp16 without a GPU.
    """
    if not amp:
        return contextlib.nullcontext()
    if amp not in AMP_TYPES:
        raise UnknownNameError.of("SOLVER.AMP", amp, ("''", *AMP_TYPES))
    if amp == "fp16" and device.type == "cpu":
        raise ConfigError("SOLVER.AMP fp16 needs a GPU; use bf16")
    return torch.autocast(device.type, AMP_TYPES[amp])


def build_mixup(alpha: float) -> MixUp | None:
    """The mixup of SOLVER.MIXUP; None for 0."""
    return MixUp(alpha) if alpha else None

"""Augmentation of a whole batch of equally large uint8 images at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from iif_d2.errors import UnknownNameError

POLICIES = {policy.value: policy for policy in v2.AutoAugmentPolicy}
_GREY = [128, 128, 128]  # what AutoAugment's paper fills with
_SHARED_POLICY = 16


def autoaugment(policy: str) -> v2.AutoAugment | None:
    """torchvision's AutoAugment by the policy's name; None for "".

    Raises:
        UnknownNameError: no such policy.
    """
    if not policy:
        return None
    if policy not in POLICIES:
        raise UnknownNameError.of("DATA.AUTOAUGMENT", policy, sorted(POLICIES))
    return v2.AutoAugment(POLICIES[policy], fill=_GREY)


class BatchAugment:
    """Crop, mirror, AutoAugment and Cutout over uint8 (N, 3, S, S), by torch's global generator.

    torchvision's AutoAugment draws one policy for all it is given. Here 16 images drawn at random
    from the N share one, which leaves each image's distribution as it is and costs a tenth; with N
    many times the batch size, images of one policy rarely meet in a batch.
    """

    def __init__(self, padding: int, flip: bool, policy: str, cutout: int) -> None:
        self.padding, self.flip, self.cutout = padding, flip, cutout
        self.autoaugment = autoaugment(policy)

    def __call__(self, images: Tensor) -> Tensor:
        if self.padding:
            images = random_crop(images, self.padding)
        if self.flip:
            mirrored = torch.rand(len(images), device=images.device) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        if self.autoaugment is not None:
            images = images.clone()
            for group in torch.randperm(len(images)).split(_SHARED_POLICY):
                group = group.to(images.device)
                images[group] = self.autoaugment(images[group])
        if self.cutout:
            images = cutout(images, self.cutout)
        return images


def random_crop(images: Tensor, padding: int) -> Tensor:
    """Each of (N, C, H, W) at its own place in its black border of `padding` pixels."""
    size = images.shape[-2:]
    windows = F.pad(images, [padding] * 4).unfold(2, size[0], 1).unfold(3, size[1], 1)
    index = torch.arange(len(images), device=images.device)
    top, left = torch.randint(2 * padding + 1, (2, len(images)), device=images.device)
    return windows[index, :, top, left]


def cutout(images: Tensor, side: int) -> Tensor:
    """A black square of `side` pixels, centred anywhere in each of (N, C, H, W), cut at borders."""
    height, width = images.shape[-2:]
    device = images.device

    def outside(length: int) -> Tensor:
        start = torch.randint(length, (len(images), 1), device=device) - side // 2
        place = torch.arange(length, device=device)
        return (place < start) | (place >= start + side)

    keep = outside(height)[:, :, None] | outside(width)[:, None, :]
    return images * keep[:, None]

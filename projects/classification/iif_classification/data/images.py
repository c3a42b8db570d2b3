"""A set of labelled images, on disk or decoded in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from iif_d2.errors import DataError
from iif_d2.files.pictures import check_depth
from iif_d2.frequency import ClassFrequency


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """N images with one of C classes each.

    Attributes:
        class_names: C names, in the order of the labels.
        labels: int64 (N,), each in [0, C).
        names: N names that identify the images: paths relative to the root, or CIFAR's indices.
        paths: N files; None where `pixels` holds them.
        pixels: uint8 (N, 3, H, W); None until decoded.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    names: Sequence[str]
    paths: Sequence[str] | None = None
    pixels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def counts(self) -> np.ndarray:
        """int64 (C,): images of each class."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def frequency(self) -> ClassFrequency:
        """Eq. 1 for single-label images; there are no instance counts."""
        return ClassFrequency(self.class_names, self.counts(), None, len(self))

    def digest(self) -> str:
        """16 hex digits of the sorted "name label" lines: which images and labels, no pixels."""
        lines = sorted(f"{name} {label}" for name, label in zip(self.names, self.labels.tolist()))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def subset(self, indices: np.ndarray) -> LabelledImages:
        """The images at these positions, in this order."""
        return LabelledImages(
            self.class_names,
            self.labels[indices],
            [self.names[i] for i in indices],
            None if self.paths is None else [self.paths[i] for i in indices],
            None if self.pixels is None else self.pixels[torch.from_numpy(np.asarray(indices))],
        )

    def decoded(self, size: int) -> LabelledImages:
        """The same with `pixels`, each image of `size` x `size`.

        Raises:
            DataError: an image cannot be read or has another size.
        """
        if self.pixels is not None:
            return self
        pixels = torch.empty((len(self), 3, size, size), dtype=torch.uint8)
        for index, path in enumerate(self.paths):
            image = read_image(path)
            if image.size != (size, size):
                raise DataError(
                    f"{path} is {image.size[0]}x{image.size[1]} pixels, but DATA.IMAGE_SIZE is "
                    f"{size}; images in memory all have one size, set DATA.IN_MEMORY False"
                )
            pixels[index] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return LabelledImages(self.class_names, self.labels, self.names, self.paths, pixels)


def read_image(path: str) -> Image.Image:
    """An RGB image.

    Raises:
        DataError: the file is missing, cut short or no image, or has more than 8 bits a pixel.
    """
    try:
        with Image.open(path) as image:
            check_depth(image, f"image {path}")
            return image.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"image {path} does not exist; check DATA.ROOT") from None
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise DataError(f"image {path} cannot be read: {error}") from None

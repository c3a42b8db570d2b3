"""Copy-paste of rare classes: objects of few training pictures in many others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from torch import Tensor

from ..errors import ConfigError
from .dicts import DatasetDicts


class CopyPaste:
    """Draws which picture's objects are pasted into another one, and pastes them.

    After Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance
    Segmentation", CVPR 2021. As there, both pictures go through the mapper's own augmentations,
    objects keep their sharp edges, what they cover is cut out of the other masks, boxes are
    recomputed, and what is covered wholly is dropped. Otherwise than there

    - only objects of rare classes are pasted, which is what the paper's LVIS results ask for;
    - a rare class is drawn first, each alike, then one of its pictures: the rarer, the more often
      an object of it comes again;
    - each object goes to a place of its own, drawn at random, where it fits whole if it can;
    - crowds are never pasted, and stay where they are: training leaves them out.

    Class frequencies, such as IIF's, stay those of the data as annotated.

    Args:
        probability: of a picture to get pasted objects, in [0, 1].
        max_instances: classes with fewer training objects than this are pasted.

    Raises:
        ConfigError: they cannot be that.
    """

    def __init__(self, probability: float, max_instances: int) -> None:
        if not 0 <= probability <= 1:
            raise ConfigError(f"INPUT.COPY_PASTE.PROB is {probability!r}; it must be in [0, 1]")
        if max_instances < 2:
            raise ConfigError(
                f"INPUT.COPY_PASTE.MAX_INSTANCES is {max_instances!r}; classes with fewer objects "
                f"are pasted, so it must be 2 or more"
            )
        self.probability, self.max_instances = probability, max_instances
        self._dicts: Sequence[dict[str, Any]] | None = None
        self._places: dict[int, np.ndarray] = {}  # of each rare class its pictures

    def take_from(self, dicts: DatasetDicts) -> None:
        """Paste objects of these pictures, the training set, from now on.

        Raises:
            ConfigError: no class is rare enough.
        """
        count: Counter[int] = Counter()
        places: dict[int, list[int]] = {}
        for place, record in enumerate(dicts.labels()):
            own = [a["category_id"] for a in record["annotations"] if not a.get("iscrowd", 0)]
            count.update(own)
            for label in set(own):
                places.setdefault(label, []).append(place)
        rare = sorted(label for label in count if count[label] < self.max_instances)
        if not rare:
            raise ConfigError(
                f"INPUT.COPY_PASTE pastes classes of fewer than {self.max_instances} training "
                f"objects, and the rarest here has {min(count.values(), default=0)}; raise "
                f"MAX_INSTANCES, or set PROB to 0"
            )
        self._places = {label: np.array(places[label]) for label in rare}
        self._dicts = dicts

    def draw(self) -> dict[str, Any] | None:
        """The dict of a picture with nothing but its rare objects; None: paste nothing this time.

        From numpy's global generator.

        Raises:
            ConfigError: `take_from` was not called.
        """
        if self._dicts is None:
            raise ConfigError(
                "copy-paste does not know the training pictures: train by TrainingBatches, or call "
                "mapper.copy_paste.take_from(dicts) with iif_d2.data.DatasetDicts"
            )
        if np.random.random() >= self.probability:
            return None
        labels = list(self._places)
        places = self._places[labels[np.random.randint(len(labels))]]
        record = self._dicts[int(places[np.random.randint(len(places))])]
        rare = [
            annotation
            for annotation in record["annotations"]
            if annotation["category_id"] in self._places and not annotation.get("iscrowd", 0)
        ]
        return {**record, "annotations": rare}

    def paste(self, into: dict[str, Any], source: dict[str, Any]) -> None:
        """Paste the objects of one mapped picture into another, in place.

        Args:
            into: `image` (channels, H, W) and `instances` with boxes, classes and masks, polygons
                or bitmaps. Its masks are bitmaps afterwards, which every mask head takes, too.
            source: the same, of any size; all its objects are pasted.
        """
        image, instances = into["image"], into["instances"]
        pixels, objects = source["image"], source["instances"]
        before = _bitmaps(instances)
        masks, classes = before, instances.gt_classes
        for mask, label in zip(_bitmaps(objects), objects.gt_classes):
            if not mask.any():  # too thin, or cropped away
                continue
            stamp = torch.zeros(image.shape[1:], dtype=torch.bool)
            to, cut = _placed(mask, stamp.shape)
            stamp[to] = mask[cut]
            image[:, stamp] = pixels[(slice(None), *cut)][:, mask[cut]]
            masks = torch.cat([masks & ~stamp, stamp[None]])
            classes = torch.cat([classes, label[None]])
        boxes = BitMasks(masks).get_bounding_boxes().tensor
        whole = (masks[: len(before)] == before).flatten(1).all(dim=1)
        boxes[: len(before)][whole] = instances.gt_boxes.tensor[whole]  # as they were annotated
        seen = masks.flatten(1).any(dim=1)
        seen[: len(before)] |= whole  # one too thin to have a pixel has lost none
        result = Instances(instances.image_size)
        result.gt_boxes, result.gt_classes = Boxes(boxes[seen]), classes[seen]
        result.gt_masks = BitMasks(masks[seen])
        into["instances"] = result


def _bitmaps(instances: Instances) -> Tensor:
    """bool (N, H, W): their masks."""
    if not len(instances):  # which may have none at all
        return torch.zeros((0, *instances.image_size), dtype=torch.bool)
    masks = instances.gt_masks
    if isinstance(masks, PolygonMasks):
        masks = BitMasks.from_polygon_masks(masks, *instances.image_size)
    return masks.tensor


def _placed(mask: Tensor, size: torch.Size) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where an object is pasted, and what is cut out for it: rows and columns of each.

    Along an axis on which it is longer than the picture, what sticks out is cut off.
    """
    to, cut = [], []
    for axis, room in enumerate(size):
        found = torch.where(mask.any(dim=1 - axis))[0]
        first, length = int(found[0]), int(found[-1] - found[0]) + 1
        kept = min(length, room)
        first += int(np.random.randint(length - kept + 1))
        start = int(np.random.randint(room - kept + 1))
        to.append(slice(start, start + kept))
        cut.append(slice(first, first + kept))
    return (to[0], to[1]), (cut[0], cut[1])

"""Detectron2's dataset mapper, with errors that say which image and which file."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import SizeMismatchError, read_image
from detectron2.utils.logger import log_every_n_seconds

from ..errors import ConfigError, DataError
from ..files import local_record
from ..files.pictures import look_at, size_words, turn_words
from .copy_paste import CopyPaste

logger = logging.getLogger(__name__)

_WAITS = (0.2, 1.0)  # seconds before a file that could not be read is tried again
_SLOW = 5.0  # seconds of reading an image that are worth a word


class LongTailDatasetMapper(DatasetMapper):
    """Reads, augments and formats one image as `DatasetMapper` does.

    That its EXIF orientation turns a picture, which boxes have to follow, is said once.

    Args:
        copy_paste: in training, pastes rare objects of other pictures, which are read and augmented
            like this one; in a config INPUT.COPY_PASTE. It needs masks, and no keypoints and no
            semantic segmentation, for which it has no rule.

    Raises:
        ConfigError: `copy_paste` where it cannot work.
        DataError: the image is missing, an address, no file, broken, of more than 8 bits a pixel or
            of another size than its annotation says, or its masks are of a kind that
            INPUT.MASK_FORMAT does not take.
    """

    @configurable
    def __init__(
        self, is_train: bool, *, copy_paste: CopyPaste | None = None, **kwargs: Any
    ) -> None:
        super().__init__(is_train, **kwargs)
        self.copy_paste = copy_paste
        if copy_paste is not None and (not self.use_instance_mask or self.use_keypoint):
            raise ConfigError(
                "INPUT.COPY_PASTE needs MODEL.MASK_ON True and MODEL.KEYPOINT_ON False; set PROB "
                "to 0 without masks, or with keypoints"
            )
        self._turn_said = torch.zeros(1, dtype=torch.bool).share_memory_()  # by any worker

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        node, options = cfg.INPUT.get("COPY_PASTE"), super().from_config(cfg, is_train)
        if is_train and node is not None and node.PROB != 0:
            options["copy_paste"] = CopyPaste(node.PROB, node.MAX_INSTANCES)
        return options

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any] | None:
        mapped = self._map(dataset_dict)
        if self.copy_paste is None or mapped is None:
            return mapped
        if "sem_seg" in mapped:
            raise ConfigError("INPUT.COPY_PASTE has no rule for sem_seg_file_name; set PROB to 0")
        record = self.copy_paste.draw()
        source = None if record is None else self._map(record)
        if source is not None:
            self.copy_paste.paste(mapped, source)
        return mapped

    def _map(self, dataset_dict: dict[str, Any]) -> dict[str, Any] | None:
        where = f"image {dataset_dict.get('file_name')} (id {dataset_dict.get('image_id')})"
        if self.is_train and self.use_instance_mask:
            masks = [a.get("segmentation") for a in dataset_dict.get("annotations", ())]
            if None in masks:
                raise DataError(
                    f"{where} has an object without 'segmentation'; add it, or set MODEL.MASK_ON "
                    f"to False"
                )
            if self.instance_mask_format == "polygon" and any(isinstance(m, dict) for m in masks):
                raise DataError(
                    f"{where} has run-length masks, which INPUT.MASK_FORMAT polygon cannot take; "
                    f"set INPUT.MASK_FORMAT bitmask"
                )
        local_record(dataset_dict)
        start = time.monotonic()
        try:
            return self._patiently(dataset_dict, where)
        except DataError:
            raise
        except FileNotFoundError:
            windows = "\\" in dataset_dict["file_name"]
            raise DataError(
                f"{where} does not exist: its name has a backslash, as Windows writes paths; write "
                f"/ in the json's file_name" if windows else
                f"{where} does not exist; check the image root and $DETECTRON2_DATASETS"
            ) from None  # fmt: skip
        except SizeMismatchError as error:
            raise DataError(f"{where}: {self._mismatch(dataset_dict, where, error)}") from None
        except Exception:  # as many kinds as there are ways to break a file
            try:
                read_image(dataset_dict["file_name"], self.image_format)
            except Exception as error:
                raise DataError(f"{where} cannot be read: {error}; copy it again") from None
            raise
        finally:
            spent = time.monotonic() - start
            if spent > _SLOW:
                log_every_n_seconds(
                    logging.WARNING,
                    f"{where} took {spent:.0f} s to read; the drive holds the run up",
                    60,
                    name=__name__,
                )

    def _patiently(self, dataset_dict: dict[str, Any], where: str) -> dict[str, Any] | None:
        """A network drive may fail for a moment; what still fails after `_WAITS` raises."""
        for wait in _WAITS:
            try:
                return self._read(dataset_dict, where)
            except SizeMismatchError:
                raise
            except (OSError, SyntaxError) as error:
                logger.warning("%s: %s; trying again in %g s", where, error, wait)
                time.sleep(wait)
        return self._read(dataset_dict, where)

    def _read(self, dataset_dict: dict[str, Any], where: str) -> dict[str, Any] | None:
        turn = look_at(dataset_dict["file_name"], where)
        mapped = super().__call__(dataset_dict)
        said = turn_words(turn, dataset_dict.get("width"), dataset_dict.get("height"))
        if said and not self._turn_said:
            self._turn_said.fill_(True)
            logger.warning("%s %s", where, said)
        return mapped

    def _mismatch(self, dataset_dict: dict[str, Any], where: str, error: Exception) -> str:
        """What is wrong with the sizes, and what to do."""
        turn = look_at(dataset_dict["file_name"], where)
        said = size_words(turn, dataset_dict.get("width"), dataset_dict.get("height"))
        return said or f"{error}; correct its width and height"

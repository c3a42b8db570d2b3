"""Detectron2's dataset mapper, with errors that say which image and which file."""

from __future__ import annotations

import logging
import os
import stat
import time
from typing import Any

from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import SizeMismatchError, read_image
from detectron2.utils.logger import log_every_n_seconds

from ..errors import DataError

logger = logging.getLogger(__name__)

_WAITS = (0.2, 1.0)  # seconds before a file that could not be read is tried again
_SLOW = 5.0  # seconds of reading an image that are worth a word


class LongTailDatasetMapper(DatasetMapper):
    """Reads, augments and formats one image as `DatasetMapper` does.

    Raises:
        DataError: the image is missing, no file, broken or of another size than its annotation
            says, or its masks are of a kind that INPUT.MASK_FORMAT does not take.
    """

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any] | None:
        where = f"image {dataset_dict.get('file_name')} (id {dataset_dict.get('image_id')})"
        if self.is_train and self.use_instance_mask:
            masks = [a.get("segmentation") for a in dataset_dict["annotations"]]
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
        if _waits_for_a_writer(dataset_dict["file_name"]):
            raise DataError(f"{where} is no file; check the image root")
        start = time.monotonic()
        try:
            return self._patiently(dataset_dict, where)
        except FileNotFoundError:
            raise DataError(
                f"{where} does not exist; check the image root and $DETECTRON2_DATASETS"
            ) from None
        except SizeMismatchError as error:
            raise DataError(f"{where}: {error}; correct its width and height") from None
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
                return super().__call__(dataset_dict)
            except SizeMismatchError:
                raise
            except (OSError, SyntaxError) as error:
                logger.warning("%s: %s; trying again in %g s", where, error, wait)
                time.sleep(wait)
        return super().__call__(dataset_dict)


def _waits_for_a_writer(path: str) -> bool:
    """Whether it is a pipe or the like, which would be waited for, forever."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False  # missing, or of a kind that only Detectron2's PathManager knows
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))

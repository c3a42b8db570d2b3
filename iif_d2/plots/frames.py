"""Video by OpenCV: frames of a file or a camera, and a file of drawn frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from ..errors import DataError

_RATE = 10.0  # frames a second of what is written


def video_frames(path: str) -> Iterator[np.ndarray]:
    """The frames of a video file; uint8 (H, W, 3), RGB.

    Raises:
        DataError: there is no such file, or OpenCV cannot read it.
    """
    if not os.path.isfile(path):
        raise DataError(f"video {path} does not exist")
    return _frames(cv2.VideoCapture(path), f"video {path}")


def camera_frames(number: int) -> Iterator[np.ndarray]:
    """What a camera sees until Ctrl-C; uint8 (H, W, 3), RGB.

    Raises:
        DataError: there is no such camera.
    """
    return _frames(cv2.VideoCapture(number), f"camera {number}")


def _frames(capture: Any, source: str) -> Iterator[np.ndarray]:
    try:
        good, frame = capture.read()
        if not good:
            raise DataError(f"{source} gives no frame; OpenCV cannot read it")
        while good:
            yield np.ascontiguousarray(frame[:, :, ::-1])
            good, frame = capture.read()
    except KeyboardInterrupt:
        pass  # the way to end a camera; what was seen is kept
    finally:
        capture.release()


class FrameWriter:
    """`demo.mp4` in a folder, started with its first frame. A context manager.

    Attributes:
        path: of the video; None before the first frame.
    """

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self.path: str | None = None
        self._folder = folder
        self._writer: Any = None

    def add(self, frame: np.ndarray) -> None:
        """Append a uint8 RGB frame, all of the same size.

        Raises:
            DataError: OpenCV cannot write here.
        """
        if self._writer is None:
            self.path = os.path.join(self._folder, "demo.mp4")
            size = (frame.shape[1], frame.shape[0])
            self._writer = cv2.VideoWriter(self.path, cv2.VideoWriter_fourcc(*"mp4v"), _RATE, size)
            if not self._writer.isOpened():
                raise DataError(f"{self.path} cannot be written by OpenCV")
        self._writer.write(np.ascontiguousarray(frame[:, :, ::-1]))

    def __enter__(self) -> FrameWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.release()

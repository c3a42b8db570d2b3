"""What the terminal shows of an error: its sentence. log.txt has the traceback, too."""

from __future__ import annotations

import logging
import sys

from ..errors import in_words

LOG_ONLY = {"log_only": True}  # `extra` of a record that is for log.txt alone


def keep_tracebacks_off_terminal() -> None:
    """Detectron2 logs every exception in training; one that has a sentence is said at the end."""
    for name in ("detectron2", "iif_d2", "fvcore"):
        for handler in logging.getLogger(name).handlers:
            if getattr(handler, "stream", None) in (sys.stdout, sys.stderr):
                handler.addFilter(_is_for_terminal)  # the same function is added once


def _is_for_terminal(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    known = error is not None and in_words(error) is not None
    return not (known or getattr(record, "log_only", False))

"""What other packages say on the terminal that nobody who runs a command can act on."""

from __future__ import annotations

import logging
import sys
import warnings

# Each by the words it begins with: any other warning is shown.
_WARNINGS = (
    r"`torch\.jit\.(script|trace|load|save|trace_method)` is (deprecated|not supported)",
    r"`broadcast_buffers` is deprecated",
    r"torch\.meshgrid: in an upcoming release",
    r"__array__ implementation doesn't accept a copy keyword",  # pycocotools under numpy 2
    r"Importing from timm\.models\.layers is deprecated",
    r"(Converting a tensor to a Python|Iterating over a tensor|Using len to get tensor shape)",
    r"torch\.tensor results are registered as constants in the trace",
)
_RECORDS = {
    "torch.fx._symbolic_trace": "is_fx_tracing will return true",
    "torch.multiprocessing.spawn": "Terminating process",  # of several, when one has failed
    "torch.utils.cpp_extension": "No CUDA runtime is found",
}


def quieten() -> None:
    """Leave these out; for the entry of a command, before it imports what warns."""
    for words in _WARNINGS:
        warnings.filterwarnings("ignore", words)
    # Of processes that were ended; a process of its own says it, which takes its options from here.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    for name, words in _RECORDS.items():
        logging.getLogger(name).addFilter(_Without(words))


class _Without(logging.Filter):
    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self._words)

"""Memory that an evaluation has freed, given back to the system."""

from __future__ import annotations

import ctypes


def give_back_memory() -> None:
    """Have the C library return what it keeps of freed memory, where it is glibc.

    Results come and go in all sizes; glibc keeps the holes that they leave, of 20 to 45 MB in a
    training of 450 MB, and more from evaluation to evaluation.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):  # another C library; another system
        pass

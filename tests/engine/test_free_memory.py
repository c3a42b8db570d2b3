import ctypes
import os
import sys

import pytest

from iif_d2.engine import evaluate

from ..stress.usage import of_tree


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")
def test_what_was_freed_below_something_that_stays_goes_back():
    kept = [bytearray(60_000) for _ in range(2000)]  # 120 MB in pieces of the heap
    for index in range(len(kept) - 1):
        kept[index] = None
    before = of_tree(os.getpid()).memory
    evaluate.give_back_memory()
    assert of_tree(os.getpid()).memory < before - 60
    assert len(kept[-1]) == 60_000


def test_another_c_library_is_left_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(evaluate.ctypes, "CDLL", lambda name: asked.append(name) or sys)
    evaluate.give_back_memory()
    assert asked == [None]

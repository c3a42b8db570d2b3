"""What the tests of commands share: the runs of a comparison in this process."""

import threading
import types

import pytest

from iif_d2.engine import compare as engine


@pytest.fixture
def started(monkeypatch):
    """Runs in this process, one at a time, and what was started: (row's folder, command line)."""
    words_of = []
    alone = threading.Lock()  # Detectron2 keeps a run's storage and loggers in the process

    class Process:
        exitcode = 0

        def __init__(self, target, args):
            self.args = args

        def start(self):
            words, folder, _ = self.args
            words_of.append((folder, words))
            parser = engine.add_import_argument(engine.default_argument_parser())
            with alone:
                engine.main(parser.parse_args(words))

        def is_alive(self):
            return False

        def join(self):
            pass

    context = types.SimpleNamespace(Process=Process)
    monkeypatch.setattr(engine, "get_context", lambda kind: context)
    return words_of

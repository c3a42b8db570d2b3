"""Things to break, and what came of it. `python -m tests.stress` runs them all."""

from typing import NamedTuple


class Outcome(NamedTuple):
    """How many things were tried, none of them lost, and the figures in words.

    A module's `run()` gives one, or raises AssertionError with what was lost.
    """

    tried: int
    figures: list[str]

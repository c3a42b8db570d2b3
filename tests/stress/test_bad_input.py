"""A short slice of `make faults`: one case of each kind and reader, and a little fuzz."""

import pytest

from . import bad_input, fuzz
from .bad_cases import all_cases


def test_there_is_enough_of_everything():
    cases = all_cases()
    assert len(cases) >= 300 and len({case.kind for case in cases}) >= 40


@pytest.mark.parametrize("reads", bad_input.READERS)
def test_a_case_of_each_kind_works_or_is_refused_in_words(reads):
    first = {case.kind: case for case in all_cases() if case.reads == reads and not case.heavy}
    problems = {kind: bad_input.attempt(case)[1] for kind, case in first.items()}
    assert not {kind: problem for kind, problem in problems.items() if problem}


def test_fuzzed_files_are_read_or_refused_in_words():
    assert len(fuzz.fuzz(25)) == 4

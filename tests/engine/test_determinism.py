"""metrics.json after a kill: what comes again is cut off, and nothing else."""

import json

import pytest

from iif_d2.engine.determinism import _cut_metrics


def lines(*iterations: int) -> str:
    return "".join(json.dumps({"iteration": i, "loss": 0.5}) + "\n" for i in iterations)


@pytest.mark.parametrize("earlier", ["", lines(19, 39, 59), '{"ite'])
@pytest.mark.parametrize(
    "before, written, after",
    [
        (lines(19, 39, 59), 39, lines(19, 39)),
        (lines(19, 17, 39, 59), 45, lines(19, 17, 39)),  # an evaluation's line comes late
        (lines(19, 39, 59), 99, lines(19, 39, 59)),
        (lines(19, 39, 59), -1, ""),
        (lines(19, 39) + '{"iteration": 5', 39, lines(19, 39)),
        ("", 5, ""),
    ],
)
def test_the_last_run_is_cut_after_what_was_written(tmp_path, earlier, before, written, after):
    path = tmp_path / "metrics.json"
    path.write_text(earlier + before)
    _cut_metrics(str(path), written, len(earlier))
    assert path.read_text() == earlier + after


def test_no_file_is_no_fault(tmp_path):
    _cut_metrics(str(tmp_path / "metrics.json"), 3, 0)

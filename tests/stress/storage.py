"""Disks that are full or read-only, images that vanish or come slowly; in training, evaluation and
report each time a message, what was done stays, and it goes on when that is mended."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

from . import Outcome, drives, runs, sabotage
from .kill_resume import OPTIONS
from .sabotage import at_checkpoint, at_image, at_step, unreadable

OPTS = (*OPTIONS, "MODEL.LONG_TAIL.METHOD", "FedLoss")
SLOW = 7.0  # seconds to open a file; the mapper says so from 5 on


class Case(NamedTuple):
    """A fault and how a process ends with it: exit code, and a part of what it says.

    The fault breaks the process (`within`, called in it with OUTPUT_DIR), or what it stands on
    while it runs (`around`); `mend` puts right what stays broken.
    """

    name: str
    code: int
    message: str
    around: Callable[..., AbstractContextManager] = lambda folder, data: nullcontext()
    within: Callable[[Path], None] | None = None
    mend: Callable[[Path], None] = lambda folder: None

    def sabotage(self, folder: Path) -> Callable | None:
        return self.within and partial(self.within, folder)


FILES = (
    Case("an image that is gone", 2, "does not exist", sabotage.vanished),
    Case("a pipe in the place of an image", 2, "is no file", sabotage.pipe),
    Case(f"an image that takes {SLOW:g} s to open", 0, "s to read", partial(sabotage.slow, SLOW)),
)
DRIVES = (
    Case("a full drive", 2, "cannot be written", sabotage.full),
    Case("a read-only folder", 2, "cannot be written", sabotage.read_only),
)
IN_TRAINING = (
    Case("no room for the third checkpoint (RLIMIT_FSIZE)", 2, "cannot be written",
         within=partial(at_checkpoint, 3, sabotage.limit_files)),
    Case("images unreadable from the 25th on", 2, "cannot be read",
         within=partial(unreadable, True, 25, 99)),
    Case("images unreadable in its evaluation", 2, "cannot be read",
         within=partial(unreadable, False, 9, 99)),
    Case("an image that fails twice, then reads", 0, "again in",
         within=partial(unreadable, True, 25, 2)),
)  # fmt: skip
IN_TRAINING_ON_DRIVES = (
    Case("a drive full at the third checkpoint", 2, "cannot be written",
         within=partial(at_checkpoint, 3, drives.fill), mend=drives.empty),
    Case("a drive full from step 13 on", 2, "cannot be written",
         within=partial(at_step, 13, drives.fill), mend=drives.empty),
    Case("a folder read-only from the third checkpoint on", 2, "cannot be written",
         within=partial(at_checkpoint, 3, drives.make_read_only), mend=drives.make_writable),
)  # fmt: skip
AFTER_ON_DRIVES = (
    Case("a drive full from the fifth image on", 2, "cannot be written",
         within=partial(at_image, 5, drives.fill), mend=drives.empty),
)  # fmt: skip


def run() -> Outcome:
    from ..conftest import make_dataset

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        data = make_dataset(root / "data")
        whole = root / "whole"
        runs.train_to_end(whole, data, *OPTS)
        refused = drives.refused(root / "drive")
        on_drives = () if refused else DRIVES
        after = FILES + on_drives + (() if refused else AFTER_ON_DRIVES)
        training = FILES + IN_TRAINING + on_drives + (() if refused else IN_TRAINING_ON_DRIVES)
        tried = {"training": training, "evaluation": after, "report": after}
        lines = []
        for number, (what, cases) in enumerate(tried.items()):
            check = check_training if what == "training" else partial(check_after, what)
            for place, case in enumerate(cases):
                folder = root / f"{number}-{place}"
                with nullcontext() if refused else drives.drive(folder, "2g"):
                    check(whole, folder, data, case)
                print(f"storage: {what}, {case.name}: passed", flush=True)
            lines.append(f"{what}, {len(cases)} faults: {', '.join(case.name for case in cases)}")
    if refused:
        lines.append(f"full and read-only drives were not tried, mounting is refused: {refused}")
    count = sum(map(len, tried.values()))
    lines.append(
        f"{count} tried: each said so, left what was there, and went on with 0 differences from the "
        f"run without it"
    )
    return Outcome(count, lines)


def check_training(whole: Path, folder: Path, data: sabotage.Data, case: Case) -> None:
    """Break a run, read what it says, resume it where it stopped, compare."""
    with case.around(folder, data):
        code = runs.train(folder, data, *OPTS, sabotage=case.sabotage(folder))
    case.mend(folder)
    _check_said(folder, case, code)
    if code:
        runs.train_to_end(folder, data, *OPTS, resume=True)
    runs.assert_same(whole, folder)


def check_after(what: str, whole: Path, folder: Path, data: sabotage.Data, case: Case) -> None:
    """Break the evaluation or the report of a run that has ended, and do it again unbroken."""
    shutil.copytree(whole, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model_0*"))
    before, page = _digests(folder), folder / "report.html"

    def do(within: Callable | None = None) -> int:
        if what == "report":
            return runs.report(folder, data, page, within)
        return runs.train(folder, data, *OPTS, evaluate=True, sabotage=within)

    with case.around(folder, data):
        code = do(case.sabotage(folder))
    case.mend(folder)
    _check_said(folder, case, code)
    if code:
        after = _digests(folder)
        assert after == before, f"{case.name}: {set(after.items()) ^ set(before.items())}"
        assert do() == 0, runs.output(folder)[-2000:]
    names = ("inference/results.json", "inference/tiny_lvis/per_class_ap_segm.csv")
    for name in names:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), f"{case.name}: {name}"
    assert what != "report" or page.stat().st_size > 100_000


def _check_said(folder: Path, case: Case, code: int) -> None:
    said = runs.output(folder)
    assert code == case.code, f"{case.name}: exit code {code}: {said[-3000:]}"
    assert case.message in said, f"{case.name}: {said[-3000:]}"
    assert code == 0 or "Traceback" not in said.split("error: ")[-1], f"{case.name}: {said[-3000:]}"


def _digests(folder: Path) -> dict[str, str]:
    """Of every file but logs, which grow with what is said."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(("log.txt", "events.out"))
    }

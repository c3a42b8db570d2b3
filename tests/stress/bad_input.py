"""Bad input at scale: each case in a process of its own, with a limit on memory and on time."""

from __future__ import annotations

import logging
import re
import resource
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

from iif_d2.errors import IIFError

from . import Outcome, children
from .bad_cases import GOOD, PRETRAINED_FOR, Case, all_cases

SECONDS = 60  # a case takes milliseconds; the machine may be busy
REMEDY = re.compile(r"; \w")  # after what is wrong, all errors say what to do about it
MEMORY = 3 << 30  # bytes a case may allocate on top of what the process has


def run() -> Outcome:
    """Try every case, then fuzz; raises AssertionError with all that ended otherwise than it should."""
    from . import fuzz

    cases, ends, lost = all_cases(), Counter(), []
    for case in cases:
        end, problem = attempt(case)
        ends[end] += 1
        if problem:
            lost.append(f"{case.kind} ({case.reads}): {problem}")
    assert not lost, "\n".join(lost)
    kinds = len({case.kind for case in cases})
    figures = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
    fuzzed, lines = fuzz.run()
    lines.insert(0, f"{len(cases)} cases of {kinds} kinds: {figures}; none lost")
    return Outcome(len(cases) + fuzzed, lines)


def attempt(case: Case) -> tuple[str, str | None]:
    """How the case ended, and what is wrong with that: None if nothing is."""
    with tempfile.TemporaryDirectory(prefix="iif_d2-fault-") as folder:
        path, out = Path(folder) / f"input{case.suffix}", Path(folder) / "out"
        case.write(path)
        out.mkdir()
        (out / "kept").write_text("the result of yesterday")
        before = _tree(folder)
        receive, send = children.context.Pipe(duplex=False)
        process = children.start(_child, case.reads, path, send)
        send.close()
        try:
            code = children.end(process, SECONDS)
            end, said = receive.recv()
        except AssertionError as error:
            return "hung", str(error)
        except EOFError:
            return "crashed", f"exit code {code}"
        finally:
            receive.close()
        if _tree(folder) != before:
            return end, "a file was changed"
    return end, _lacking(said, path, case.field) if end == "refused" else said or None


def _lacking(said: str, path: Path, field: str) -> str | None:
    """What is wrong with a refusal."""
    if str(path) not in said:
        return f"the message does not name the file: {said}"
    if len(said) > 1000:
        return f"the message has {len(said)} characters"
    if not REMEDY.search(said):
        return f"the message does not say what to do: {said}"
    # What is no json at all has a place in the text, and no fields.
    if not re.search(rf"(\b|_){field}\b", said) and "is not valid json" not in said:
        return f"the message does not name the field {field}: {said}"
    return None


def _child(reads: str, path: Path, send) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    logging.disable()
    warnings.simplefilter("ignore")
    try:
        READERS[reads](path)
        send.send(("worked", ""))
    except IIFError as error:
        send.send(("refused", str(error)))
    except BaseException:
        send.send(("raised", traceback.format_exc(limit=-3)))


def _count(path: Path) -> None:
    from iif_d2 import count_class_frequency

    count_class_frequency(path).describe()


def _instances(path: Path) -> None:
    """Dataset dicts, and their masks as training draws them."""
    from detectron2.data.detection_utils import (
        annotations_to_instances,
        transform_instance_annotations,
    )
    from detectron2.data.transforms import TransformList

    from iif_d2.data import load_instances

    for record in load_instances(str(path), str(path.parent)):
        size = record["height"], record["width"]
        annotations = [transform_instance_annotations(a, TransformList([]), size)
                       for a in record["annotations"]]  # fmt: skip
        annotations_to_instances(annotations, size, mask_format="bitmask")


def _truth(path: Path) -> None:
    """The ground truth, scored against no detections, boxes and masks."""
    from iif_d2.evaluation.ground_truth import GroundTruth
    from iif_d2.evaluation.matching import Matcher

    truth = GroundTruth(path)
    for task in ("bbox", "segm") if truth.has_masks else ("bbox",):
        matcher = Matcher(truth, task)
        matcher.complete(range(len(truth)))
        matcher.precision()


def _frequency(path: Path) -> None:
    from iif_d2 import iif_weights
    from iif_d2.data.frequency import load_frequency

    frequency = load_frequency(str(path))
    frequency.describe(), frequency.groups()
    iif_weights(frequency, variant="smooth")


def _config(path: Path) -> None:
    from iif_d2.config import load_config

    load_config(str(path)).dump()


def _image(path: Path) -> None:
    from iif_d2.config import load_config
    from iif_d2.data import LongTailDatasetMapper

    record = {"file_name": str(path), "height": 8, "width": 8, "image_id": 1, "annotations": []}
    LongTailDatasetMapper(load_config(""), False)(record)


def _checkpoint(path: Path) -> None:
    import torch

    from iif_d2.checkpoint import LongTailCheckpointer

    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = LongTailCheckpointer(model, str(path.parent / "out"), optimizer=optimizer)
    loader.strict_shapes = True
    loader.load(str(path))


def _load(path: Path) -> None:
    import iif_d2

    iif_d2.load(path, device="cpu")


def _regions(path: Path) -> None:
    from iif_d2.engine.regions import read_regions

    list(read_regions(str(path)).images())


def _pretrained(path: Path) -> None:
    from iif_d2.modeling import TimmBackbone

    TimmBackbone(PRETRAINED_FOR, pretrained=str(path))


def _validation(path: Path) -> None:
    """The file as a test set of a model that was trained on GOOD's classes."""
    from iif_d2 import register_long_tail_instances
    from iif_d2.engine.checks import check_test_sets

    names = [category["name"] for category in GOOD["categories"]]
    register_long_tail_instances("stress_validation", str(path), str(path.parent))
    check_test_sets(["stress_validation"], len(names), "MODEL.ROI_HEADS.NUM_CLASSES", (), names)


READERS = {
    "count": _count, "instances": _instances, "truth": _truth, "frequency": _frequency,
    "config": _config, "image": _image, "checkpoint": _checkpoint, "pretrained": _pretrained,
    "validation": _validation, "load": _load, "regions": _regions,
}  # fmt: skip


def _tree(folder: str) -> dict[Path, bytes]:
    """Every name in a folder, and the content of files."""
    paths = Path(folder).rglob("*")
    return {path: path.read_bytes() if path.is_file() else b"" for path in paths}

"""What a GPU can show, within minutes: exactness, half precision, speed, CIFAR100-LT in full.

python projects/gpu/run.py [--minutes 9] [--cifar FOLDER_OR_ZIP] [--toy] [--output DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CIFAR = os.path.join("projects", "classification")
RIVALS = ("balanced_softmax", "logit_adjustment", "lade", "ldam_drw", "ride")
SHARE = {"exactness": 0.15, "half precision": 0.1, "speed": 0.2}  # of all minutes, at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9, help="all parts together; default 9")
    parser.add_argument("--cifar", help="CIFAR100-LT: a folder with train/ and test/, or its zip")
    parser.add_argument("--epochs", type=int, default=400, help="of CIFAR100-LT; default 400")
    parser.add_argument("--rivals", nargs="*", default=list(RIVALS), help="trained after CE")
    parser.add_argument("--toy", action="store_true", help="smallest sizes: a trial without a GPU")
    parser.add_argument("--output", default="output/gpu", metavar="DIR")
    options = parser.parse_args()
    options.output = os.path.abspath(options.output)
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.device == "cpu" and not options.toy:
        sys.exit("error: torch sees no GPU; --toy tries every part on the CPU")
    os.makedirs(options.output, exist_ok=True)
    start, done = time.monotonic(), {}
    for name, words in parts(options):
        left = 60 * options.minutes - (time.monotonic() - start)
        seconds = min(left, 60 * options.minutes * SHARE[name])
        done[name] = run(name, words, seconds, options.output)
        keep(options, done)
    left = 60 * options.minutes - (time.monotonic() - start)
    done["CIFAR100-LT"] = classify(options, left)
    keep(options, done)


def parts(options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Name and command of each part before CIFAR100-LT."""
    yield "exactness", ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ops/test_cuda.py"]
    steps = "4" if options.toy else "40"
    half = "False" if options.device == "cpu" else "True"
    yield "half precision", [
        "train_net.py", "--config-file", "Mini-InstanceSegmentation/mask_rcnn_R_18_FPN_iif.yaml",
        "SOLVER.AMP.ENABLED", half, "SOLVER.MAX_ITER", steps, "SOLVER.IMS_PER_BATCH", "4",
        "DATASETS.TEST", "()", "OUTPUT_DIR", os.path.join(options.output, "half"),
    ]  # fmt: skip
    cases = ["masks"] if options.toy else ["topk", "masks", "heads"]
    yield "speed", [
        "projects/speed/bench.py", "--device", options.device, "--only", *cases,
        "--output", os.path.join(options.output, "bench"),
    ]  # fmt: skip


def run(name: str, words: list[str], seconds: float, output: str) -> str:
    """Run one part, its output in NAME.log; one line of how it ended."""
    log, begin = os.path.join(output, name.replace(" ", "_") + ".log"), time.monotonic()
    with open(log, "w") as file:
        try:
            code = subprocess.run(
                [sys.executable, "-W", "ignore", *words], cwd=ROOT, env=environment(),
                stdout=file, stderr=subprocess.STDOUT, timeout=max(seconds, 1),
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s; {log} has what it wrote"
    took = time.monotonic() - begin
    return f"done in {took:.0f} s" if code == 0 else f"failed with code {code}; {log} says why"


def classify(options: argparse.Namespace, seconds: float) -> dict:
    """Train CE, then its rivals at once, until the time is up; resumable epochs stay on disk."""
    if not options.cifar:
        return {"not run": "name CIFAR100-LT by --cifar"}
    folder = unpacked(options.cifar, options.output)
    deadline = time.monotonic() + seconds
    for names in (["ce"], options.rivals):
        if time.monotonic() >= deadline:
            break
        started = [train(name, folder, options) for name in names]
        while time.monotonic() < deadline and any(p.poll() is None for p in started):
            time.sleep(1)
        for process in started:
            process.terminate()
        for process in started:
            process.wait()
    return {
        name: last_lines(os.path.join(options.output, name, "log.txt"))
        for name in ("ce", *options.rivals)
    }


def train(name: str, folder: str, options: argparse.Namespace) -> subprocess.Popen:
    """One training of the full recipe: bf16, channels last, compiled; data stays on the device."""
    words = [
        os.path.join(CIFAR, "train_net.py"), "--resume",
        "--config-file", os.path.join(CIFAR, "configs", f"cifar100_lt_se_resnet32_{name}.yaml"),
        "DATA.SOURCE", "folder", "DATA.ROOT", folder, "DATA.PROFILE", "as_is",
        "SOLVER.EPOCHS", str(options.epochs), "SOLVER.AMP", "bf16",
        "MODEL.CHANNELS_LAST", "True", "MODEL.COMPILE", str(not options.toy),
        "OUTPUT_DIR", os.path.join(options.output, name),
    ]  # fmt: skip
    words += ["DATA.CHECK", ""] if options.toy else []  # a toy's data are a handful of images
    with open(os.path.join(options.output, f"{name}.log"), "w") as file:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", *words],
            cwd=ROOT, env=environment(), stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip


def unpacked(path: str, output: str) -> str:
    """The folder itself, or the one in a zip, which is unpacked once."""
    if os.path.isdir(path):
        return os.path.abspath(path)
    folder = os.path.join(output, "cifar")
    if not os.path.isdir(folder):
        with zipfile.ZipFile(path) as file:
            file.extractall(folder)
    (inner,) = os.listdir(folder)
    return os.path.join(folder, inner)


def last_lines(log: str, most: int = 4) -> list[str]:
    if not os.path.isfile(log):
        return ["nothing was logged"]
    with open(log) as file:
        return file.read().splitlines()[-most:]


def environment() -> dict[str, str]:
    """Ours, with the checkout and what the kit brought on the path of imports."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([ROOT, *filter(None, sys.path)])}


def keep(options: argparse.Namespace, done: dict) -> None:
    """Write what is known so far, and say it."""
    where = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    content = {"device": where, "torch": torch.__version__, "parts": done}
    with open(os.path.join(options.output, "gpu.json"), "w") as file:
        json.dump(content, file, indent=1)
    name, result = list(done.items())[-1]
    print(f"{name}: {json.dumps(result, indent=1)}", flush=True)


if __name__ == "__main__":
    main()

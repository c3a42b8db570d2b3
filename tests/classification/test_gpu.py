"""`make gpu`, tried on a CPU at its smallest sizes: every part runs and is written down."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_part_runs_and_is_kept(rendered, tmp_path):
    words = ["--toy", "--minutes", "20", "--epochs", "2", "--rivals", "balanced_softmax"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "projects" / "gpu" / "run.py"), *words,
         "--cifar", rendered, "--output", str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    for name in ("exactness", "half precision", "speed"):
        log = (tmp_path / f"{name.replace(' ', '_')}.log").read_text()
        assert parts[name].startswith("done in"), log
        assert f"{name}: " in done.stdout
    assert list(parts["CIFAR100-LT"]) == ["ce", "balanced_softmax"]
    for name, lines in parts["CIFAR100-LT"].items():
        assert any(" test of " in line for line in lines), (tmp_path / f"{name}.log").read_text()

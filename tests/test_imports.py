"""The mathematics needs no Detectron2, and files stay short."""

import inspect
import subprocess
import sys
from pathlib import Path

import iif_d2
from iif_d2.methods import METHOD_REGISTRY

from .conftest import make_dataset

PACKAGE = Path(iif_d2.__file__).parent
BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "detectron2":
            raise ImportError(name)
sys.meta_path.insert(0, Block())
"""


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", BLOCKED + code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_frequencies_and_methods_work_without_detectron2():
    output = run(
        "import iif_d2, torch\n"
        "from iif_d2.methods import build_method\n"
        "frequency = iif_d2.count_class_frequency('lvis_v1_train')\n"
        "method = build_method('IIF', frequency, background=False)\n"
        "print(method.loss(torch.zeros(2, 1203), torch.tensor([0, 5])).item())\n"
    )
    assert float(output) > 0


def test_files_tables_and_dicts_are_counted_without_detectron2(tmp_path):
    path, _ = make_dataset(tmp_path)
    (tmp_path / "labels.csv").write_text("image_id,category\n1,cat\n1,cat\n2,cat\n")
    output = run(
        "import iif_d2\n"
        f"print(iif_d2.count_class_frequency({str(path)!r}).num_images)\n"
        f"print(iif_d2.count_class_frequency({str(tmp_path / 'labels.csv')!r}).image_count)\n"
        "print(iif_d2.count_class_frequency([{'annotations': [{'category_id': 0}]}]).image_count)\n"
    )
    assert output.split() == ["8", "[2]", "[1]"]


def test_frequency_imports_nothing_but_numpy_and_the_standard_library():
    run(
        "import iif_d2.frequency\n"
        "assert not {'torch', 'msgspec', 'duckdb', 'iif_d2.data'} & set(sys.modules)"
    )


def test_every_public_name_is_there():
    for name in iif_d2.__all__:
        assert callable(getattr(iif_d2, name)), name


def test_no_file_is_too_long_to_read_in_one_go():
    for path in PACKAGE.glob("**/*.py"):
        assert len(path.read_text().splitlines()) <= 400, path
    for name, method in METHOD_REGISTRY:
        assert len(Path(inspect.getfile(method)).read_text().splitlines()) < 100, name

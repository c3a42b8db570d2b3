"""The notebook runs on a small part of its data, and keeps what it showed on all of it."""

import json
import re
from pathlib import Path

import pytest

from iif_d2.data.mini_lvis import make_mini_lvis

nbformat = pytest.importorskip("nbformat")
NOTEBOOK = Path(__file__).parents[2] / "projects" / "notebooks" / "mini_lvis.ipynb"
LARGEST = 1_500_000  # bytes, which GitHub still draws at once


@pytest.fixture(scope="module")
def kept():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell):
    """What a cell shows, but for what is in it: its streams, then the types of each picture."""
    streams = sorted({output.name for output in cell.outputs if output.output_type == "stream"})
    return streams + [sorted(output.data) for output in cell.outputs if "data" in output]


def said(notebook):
    """All that is printed or shown as text."""
    parts = []
    for output in (output for cell in code_cells(notebook) for output in cell.outputs):
        parts += [output.get("text", ""), output.get("data", {}).get("text/markdown", "")]
    return "\n".join(parts)


def few_of(folder, split, most):
    """Leave the images of a split that show a class for the first time, at most so many."""
    path, _ = make_mini_lvis(folder, split)
    content = json.loads(Path(path).read_text())
    classes = {}
    for one in content["annotations"]:
        classes.setdefault(one["image_id"], set()).add(one["category_id"])
    seen, left = set(), []
    for image in content["images"]:
        if classes.get(image["id"], seen) - seen and len(left) < most:
            seen |= classes[image["id"]]
            left.append(image)
    kept = {image["id"] for image in left}
    content["images"] = left
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    Path(path).write_text(json.dumps(content))


def test_runs_to_its_end_and_shows_what_is_kept(tmp_path, monkeypatch, kept):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    few_of(tmp_path / "datasets", "train", 60)
    few_of(tmp_path / "datasets", "val", 8)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("NOTEBOOK_STEPS", "20")
    monkeypatch.setenv("NOTEBOOK_OUTPUT", "out")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ran = nbformat.read(NOTEBOOK, as_version=4)
    for cell in code_cells(ran):
        cell.outputs = []
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(ran, timeout=600, kernel_name="python3", resources=resources).execute()
    assert [kinds(cell) for cell in code_cells(ran)] == [kinds(cell) for cell in code_cells(kept)]
    assert "SGD: logits reach" in said(ran) and "1e-12: False" not in said(ran)
    assert (tmp_path / "out" / "heads" / "results.csv").is_file()


def test_keeps_the_outputs_of_one_run(kept):
    cells = code_cells(kept)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        shows = re.search(r"^ *(print|display|plt\.show)\(", cell.source, re.MULTILINE)
        assert bool(cell.outputs) == bool(shows), cell.source
        drawn = re.search(r"plt\.show\(|display\(picture", cell.source)
        assert any("image/png" in kind for kind in kinds(cell)) == bool(drawn), cell.source
        assert all(output.output_type != "error" for output in cell.outputs)
        assert "stderr" not in kinds(cell)  # warnings, bars


def test_the_text_quotes_the_kept_numbers(kept):
    """Every number with decimals is one of the outputs, rounded."""
    shown = [float(number) for number in re.findall(r"\d+\.\d+|\d+", said(kept))]
    text = "\n".join(cell.source for cell in kept.cells if cell.cell_type == "markdown")
    quoted = re.findall(r"(?<![\w.])\d+\.\d+", text)
    assert len(quoted) > 5
    for number in quoted:
        decimals = len(number.partition(".")[2])
        assert any(f"{value:.{decimals}f}" == number for value in shown), number


def test_the_kept_table_is_of_the_rates_and_methods_in_the_code(kept):
    code = "\n".join(cell.source for cell in code_cells(kept))
    rates = re.search(r"^RATES = \[(.*)\]", code, re.MULTILINE)[1].split(", ")
    methods = (
        re.search(r"retrain\(\[(.*?)\], \"sgd\", RATES\)", code)[1].replace('"', "").split(", ")
    )
    rows = re.findall(r"^\| *(\S+) *\| *sgd *\| *(\S+) *\| *(\d+) *\|", said(kept), re.MULTILINE)
    steps = re.search(r'"NOTEBOOK_STEPS", (\d+)', code)[1]
    assert sorted(rows) == sorted((method, rate, steps) for method in methods for rate in rates)


def test_has_no_trace_of_a_machine_and_stays_small(kept):
    for cell in kept.cells:
        assert set(cell.metadata) == set()  # no times
    text = re.sub(r'"image/png": "[^"]*"', "", json.dumps(kept))
    assert not re.search(r"/(home|root|tmp|work|usr|Users|mnt)/|\\u001b|site-packages", text)
    assert NOTEBOOK.stat().st_size < LARGEST

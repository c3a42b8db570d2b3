"""The notebook runs from its first cell to its last, shrunken."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "projects" / "notebooks" / "mini_lvis.ipynb"
SMALL = {"NOTEBOOK_STEPS": "4", "NOTEBOOK_BATCH": "2", "NOTEBOOK_IMAGES": "12"}


def test_runs_to_its_end(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    for name, value in (*SMALL.items(), ("NOTEBOOK_OUTPUT", str(tmp_path / "out"))):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    said = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert "mini_lvis_train" in said and "weight 7." in said and "folded in" in said
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])
             if "image/png" in output.get("data", {})]  # fmt: skip
    assert len(shown) == 3  # the long tail, the sweep, the detections
    assert (tmp_path / "out" / "folded.pth").stat().st_size > 0


def test_is_kept_without_outputs():
    nbformat = pytest.importorskip("nbformat")
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None

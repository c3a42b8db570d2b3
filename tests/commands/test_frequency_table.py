"""python -m iif_d2 frequency: its table, csv and plots."""

import csv

import numpy as np
import pytest
from PIL import Image

from iif_d2 import count_class_frequency, iif_weights
from iif_d2.commands import main
from iif_d2.commands.frequency import describe_frequency
from iif_d2.evaluation import Detections
from iif_d2.frequency import ClassFrequency
from iif_d2.groups import GROUPS
from iif_d2.methods import VARIANTS
from iif_d2.plots import frequency_plot
from iif_d2.plots.drawing import draw_detections


def test_csv_has_every_class_and_variant(dataset, tmp_path, capsys):
    path = tmp_path / "new" / "classes.csv"
    assert main(["frequency", str(dataset[0]), "--csv", str(path), "--all"]) == 0
    said = capsys.readouterr().out
    assert str(path) in said
    frequency = count_class_frequency(str(dataset[0]))
    order = np.argsort(-frequency.image_count, kind="stable")
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [frequency.class_names[i] for i in order]
    assert [int(row["images"]) for row in rows] == frequency.image_count[order].tolist()
    assert [int(row["instances"]) for row in rows] == frequency.instance_count[order].tolist()
    assert {row["group"] for row in rows} == {"r"}
    given = [name for name in VARIANTS if name in rows[0]]
    assert {"raw", "smooth"} <= set(given)
    for name in given:
        found = [float(row[name]) for row in rows]
        np.testing.assert_allclose(found, iif_weights(frequency, name)[order], atol=5e-6)
    for row in rows:
        assert f"| {row['class']} " in said


def test_a_notebook_calls_it_with_arguments(dataset, tmp_path, capsys):
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    said = describe_frequency(str(dataset[0]), csv=str(ours), statistic="instance")
    line = ["frequency", "--statistic", "instance", "--csv", str(theirs), str(dataset[0])]
    assert main(line) == 0
    assert ours.read_text() == theirs.read_text()
    assert said.replace("ours.csv", "theirs.csv") + "\n" == capsys.readouterr().out


def test_statistic_and_normalizer_change_the_weights(dataset, tmp_path):
    columns = []
    for options in ([], ["--statistic", "instance"], ["--normalizer", "images"]):
        path = tmp_path / "classes.csv"
        assert main(["frequency", str(dataset[0]), "--csv", str(path), *options]) == 0
        with open(path, newline="") as file:
            columns.append([row["raw"] for row in csv.DictReader(file)])
    assert columns[0] != columns[1] and columns[0] != columns[2]


def test_dimensions_are_measured_when_asked_and_saved_for_fracal(dataset, tmp_path):
    table, saved = tmp_path / "classes.csv", tmp_path / "counts.json"
    line = ["frequency", str(dataset[0]), "--csv", str(table), "--output", str(saved)]
    assert main(line) == 0 and "dimension" not in table.read_text()
    assert main([*line, "--dimension", "--plot", str(tmp_path / "tail.png")]) == 0
    frequency = ClassFrequency.load(saved)
    assert frequency == count_class_frequency(str(dataset[0]), dimension=True)
    order = np.argsort(-frequency.image_count, kind="stable")
    with open(table, newline="") as file:
        found = [float(row["dimension"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(found, frequency.dimension[order], atol=5e-6)


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_plot_is_a_picture_of_its_kind(dataset, tmp_path, kind):
    path = tmp_path / f"tail.{kind}"
    assert main(["frequency", str(dataset[0]), "--plot", str(path)]) == 0
    data = path.read_bytes()
    if kind == "png":
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape[0] > 400 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    else:
        assert data.lstrip().startswith(b"<?xml" if kind == "svg" else b"%PDF")


@pytest.mark.parametrize("name", ["$x$", "$\\frac{$", "a$b", r"\$x$"])
def test_a_dollar_is_no_formula(dataset, tmp_path, name):
    """A path's in the title, and a class name's on a picture."""
    path = tmp_path / name.replace("/", "") / "train.json"
    path.parent.mkdir()
    path.write_text(dataset[0].read_text())
    assert main(["frequency", str(path), "--plot", str(tmp_path / "tail.svg")]) == 0
    found = Detections(np.array([[5.0, 5, 9, 9]]), np.array([0.5]), np.array([0]))
    picture = draw_detections(np.zeros((480, 480, 3), dtype=np.uint8), found, [name])
    plain = draw_detections(np.zeros((480, 480, 3), dtype=np.uint8), found, ["x"])
    assert picture.shape == plain.shape and (picture != plain).any()


def test_every_group_has_its_colour_in_the_legend(monkeypatch, tmp_path):
    """One without a class, too."""
    figures = []
    monkeypatch.setattr(
        frequency_plot, "save_figure", lambda figure, *_, **__: figures.append(figure)
    )
    frequency = ClassFrequency("abc", [0, 3, 400], None, 1000)
    frequency_plot.plot_frequency(frequency, str(tmp_path / "tail.png"), "title")
    legend = figures[0].axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "rare (2)", "common (no class)", "frequent (1)",
    ]  # fmt: skip
    colors = [handle.get_facecolor()[:3] for handle in legend.legend_handles]
    assert colors == [group.color for group in GROUPS.values()]


def test_another_kind_of_plot_is_refused(dataset, tmp_path, capsys):
    path = tmp_path / "tail.gif"
    assert main(["frequency", str(dataset[0]), "--plot", str(path)]) == 2
    assert "a plot is written as png, svg, pdf" in capsys.readouterr().err and not path.exists()

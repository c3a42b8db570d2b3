"""python -m iif_d2 report: what it computes, and that the page is whole, safe and small."""

import base64
import json
import os
import re
import shutil
import socket
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from iif_d2.commands import main
from iif_d2.config import load_config
from iif_d2.evaluation import METRICS, Detections
from iif_d2.evaluation.ground_truth import GroundTruth
from iif_d2.evaluation.results import load_results, save_results
from iif_d2.report import make_report
from iif_d2.report.diagnosis import Change, Diagnosis, changes
from iif_d2.report.figures import by_class, curves, sorted_classes
from iif_d2.report.runs import name_runs
from iif_d2.report.verdict import COLUMNS, headline, results_rows, verdict

from .conftest import CONFIG, EVIL, found, write_truth

SCRIPTS = 4  # theme.js, the plots as json, plotly.js and page.js


class Reader(HTMLParser):
    """What a browser would make of a page: its tags, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.text, self._raw = [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._raw = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._raw = False

    def handle_data(self, data):
        self.text += "" if self._raw else data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_is_one_safe_file(page):
    text = page.read_text()
    reader = Reader(text)
    assert len(reader.of("script")) == SCRIPTS, "a class name became a script"
    assert not reader.of("i") and not reader.of("b")
    assert EVIL in reader.text and 'bar & "<b>beam</b>"' in reader.text
    assert "Softmax <i> of" in reader.text
    plots = json.loads(text.split('id="plots">')[1].split("</script>")[0])
    names = plots["norms"]["data"][0]["text"]
    assert EVIL.replace("<", "&lt;").replace(">", "&gt;") in names  # plotly.js reads tags, too
    links = [a.get(k) for _, a in reader.tags for k in ("src", "href") if a.get(k)]
    assert links and all(link.startswith(("#", "data:")) for link in links)


def test_a_screen_reader_finds_its_way(page):
    reader = Reader(page.read_text())
    assert reader.of("html") == [{"lang": "en"}] and len(reader.of("h1")) == 1
    assert len(reader.of("main")) == 1 and reader.of("nav")[0]["aria-label"]
    assert len(reader.of("caption")) == len(reader.of("table")) >= 7
    assert reader.of("th") and all("scope" in attributes for attributes in reader.of("th"))
    assert reader.of("img") and all(attributes["alt"] for attributes in reader.of("img"))
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in reader.tags:
        if attributes.get("role") == "group":
            assert attributes["aria-labelledby"] in ids


def test_pictures_show_the_annotations_and_both_runs(page):
    pictures = Reader(page.read_text()).of("img")
    assert len(pictures) == 2 * 3
    for picture in pictures:
        data = base64.b64decode(picture["src"].partition("base64,")[2])
        assert data.startswith(b"\xff\xd8"), "no JPEG"
    alts = [picture["alt"] for picture in pictures[:3]]
    assert [alt.partition(":")[0] for alt in alts] == ["Annotated", "Softmax", "IIF"]
    assert "wrong" in alts[1] and "wrong" not in alts[0]


def test_pictures_show_the_detections_that_the_run_has(page, runs, monkeypatch, tmp_path):
    """No model is asked again, and masks come from the run's file."""
    from iif_d2.report import pictures as module

    drawn = []
    draw = module.draw_detections

    def drawing(image, found, *rest):
        drawn.append(found)
        return draw(image, found, *rest)

    monkeypatch.setattr(module, "draw_detections", drawing)
    monkeypatch.setattr("torch.nn.Module.__call__", lambda *_: pytest.fail("a model ran"))
    line = ["report", runs[1], "--output", str(tmp_path / "r.html"), "--image-ids", "2"]
    assert main([*line, "--confidence-threshold", "0"]) == 0
    results = os.path.join(runs[1], "report", "tiny_report", "lvis_instances_results.json")
    with open(results) as file:
        here = [record for record in json.load(file) if record["image_id"] == 2]
    annotated, found = drawn
    assert np.isnan(annotated.scores).all() and len(found) == len(here) > 0
    np.testing.assert_array_equal(found.scores, [record["score"] for record in here])
    assert [m["counts"] for m in found.masks] == [r["segmentation"]["counts"] for r in here]


def test_detections_of_all_images_serve_a_report_on_some(page, runs, monkeypatch, tmp_path):
    from iif_d2.report import runs as module

    monkeypatch.setattr(module.Run, "_detect", lambda *_: pytest.fail("detected again"))
    line = ["report", runs[0], "--output", str(tmp_path / "r.html"), "--most", "3"]
    assert main([*line, "--pictures", "0"]) == 0
    assert "on 3 images of tiny_report" in (tmp_path / "r.html").read_text()


def test_the_title_names_the_methods_and_says_who_wins(page):
    text = page.read_text()
    title = text.split("<title>")[1].split("</title>")[0]
    interval = r"[+-]\d+\.\d \[-?\d+\.\d, -?\d+\.\d\]"
    assert re.fullmatch(rf"IIF against Softmax: AP {interval}, APr {interval}", title)
    assert f"<h1>{title}</h1>" in text


def test_the_headline_and_the_verdict_follow_the_intervals():
    metrics = [
        Change("AP", 10, 17.5, (6.6, 8.8)), Change("AP50", 9, 9.5, (-1.0, 2.0)),
        Change("APr", 1, 12, (9.9, 13.1)), Change("APf", 30, 28, (-3.0, -1.0)),
    ]  # fmt: skip
    names = ["Softmax", "IIF"]
    assert (
        headline(names, metrics, [], "d")
        == "IIF against Softmax: AP +7.5 [6.6, 8.8], APr +11.0 [9.9, 13.1]"
    )
    assert (
        verdict(metrics)
        == "Higher: AP, APr. Lower: APf. Undecided, for 0 is in the interval: AP50."
    )
    assert headline(names, [Change("AP", 1, 0.99, (-0.04, 1.0))], [], "d").endswith(
        "+0.0 [0.0, 1.0]"
    )
    bare = [Change("AP", 10, 9.5, None)]
    assert headline(names, bare, [], "d") == "IIF against Softmax: AP -0.5" and not verdict(bare)
    rows = results_rows([("IIF", {"d": {"bbox": {"AP": 20.04, "APr": float("nan")}}})])
    assert headline(["IIF"], [], rows, "d") == "IIF: AP 20.0"
    assert headline(["IIF"], [], rows, "another") == "IIF"


def test_results_come_with_their_difference_and_rare_classes_early():
    runs = [
        (name, {"d": {"bbox": {"AP": ap, "APr": 1.0}}}) for name, ap in (("A", 10.0), ("B", 12.5))
    ]
    ((name, rows),) = results_rows(runs)
    assert name == "d" and [label for label, _ in rows] == ["A, box", "B, box", "difference, box"]
    assert rows[2][1] == {"AP": 2.5, "APr": 0.0}
    assert COLUMNS[:4] == ["AP", "APr", "APc", "APf"] and set(COLUMNS) == set(METRICS)


@pytest.mark.parametrize(
    ("methods", "folders", "names"),
    [
        (("Softmax", "IIF"), ("a/x", "b/x"), ["Softmax", "IIF"]),
        (("IIF", "IIF"), ("a/one", "b/two"), ["one", "two"]),
        (("IIF", "IIF"), ("a/x", "b/x"), ["a/x (1)", "b/x (2)"]),
    ],
)
def test_runs_are_called_by_their_method_if_that_tells_them_apart(methods, folders, names):
    runs = [
        SimpleNamespace(folder=folder, cfg=load_config(CONFIG, ["MODEL.LONG_TAIL.METHOD", method]))
        for method, folder in zip(methods, folders)
    ]
    name_runs(runs)
    assert [run.name for run in runs] == names


def test_a_trace_says_which_run_it_shows_and_of_which_group_its_classes_are():
    """Where only the second has a class factor it is still the second."""
    groups, images = np.array(["r", "f", "c"]), np.array([2.0, 300.0, 40.0])
    plot = by_class(
        ["a", "b", "c"], images, groups, [(1, "IIF", np.array([1, np.nan, 3]))], "factor"
    )
    assert plot["data"][0]["meta"] == {"run": 1, "groups": ["r", "c"]}
    named = [(a["text"], a["group"], round(a["x"], 3)) for a in plot["layout"]["annotations"]]
    assert named == [("rare", "r", 0.301), ("common", "c", 1.602), ("frequent", "f", 2.477)]
    loss = curves(
        [("Softmax", {"lr": ([1], [1.0])}), ("IIF", {"lr": ([1], [2.0]), "x": ([1], [3.0])})]
    )
    assert [trace["meta"]["run"] for trace in loss["choices"]["lr"]] == [0, 1]
    assert [trace["meta"]["run"] for trace in loss["choices"]["x"]] == [1]


def test_classes_are_sorted_by_their_difference():
    groups = np.array(["r", "f", "c", "r"])
    plot = sorted_classes(list("abcd"), groups, np.array([-1.0, 5.0, np.nan, 2.0]), "gain")
    assert plot["ticks"]["xaxis"] == ["b", "d", "a"]
    bars = {trace["name"]: (trace["x"], trace["y"], trace["text"]) for trace in plot["data"]}
    assert bars == {"rare": ([1, 2], [2.0, -1.0], ["d", "a"]), "frequent": ([0], [5.0], ["b"])}
    (bar,) = sorted_classes(["a"], None, np.array([1.0]), "gain")["data"]
    assert bar["x"] == [0] and "groups" not in bar["meta"]


def test_training_curves_are_thinned_and_a_cut_line_is_left_out(page):
    plots = json.loads(page.read_text().split('id="plots">')[1].split("</script>")[0])
    curve = plots["curves"]["choices"]["total_loss"][0]
    assert len(curve["x"]) == len(curve["y"]) <= 400
    assert np.mean(curve["y"]) == pytest.approx(4.5005, abs=1e-3)


def test_detections_are_kept_until_the_checkpoint_changes(page, runs, monkeypatch, tmp_path):
    from iif_d2.report import runs as module

    made = []
    monkeypatch.setattr(module.Run, "_detect", lambda run, *_: made.append(run.name))
    run, path = tmp_path / "run", tmp_path / "r.html"
    shutil.copytree(runs[0], run)
    line = ["report", str(run), "--output", str(path), "--pictures", "0"]
    written = [run / "report" / "tiny_report" / "results.json", run / "inference" / "results.json"]
    results = load_results(written[0])
    results["tiny_report"]["bbox"]["AP"] = 77.77
    written[1].parent.mkdir(exist_ok=True)
    for file in written:
        save_results(file, results)
    assert main(line) == 0 and not made and ">77.8<" in path.read_text()
    for file in [*written, *written[0].parent.iterdir()]:
        os.utime(file, (1, 1))
    # Detected again, and no number of the older checkpoint is shown beside it.
    assert main(line) == 0 and made == ["Softmax"] and ">77.8<" not in path.read_text()


def test_the_diagnosis_scores_as_the_evaluation_does(page, runs):
    from detectron2.data import MetadataCatalog

    folder = os.path.join(runs[1], "report", "tiny_report")
    truth = GroundTruth(MetadataCatalog.get("tiny_report").json_file)
    detections = Detections.from_json(
        os.path.join(folder, "lvis_instances_results.json"), [c.id for c in truth.categories]
    )
    groups = np.array(["r"] * 4)
    diagnosis = Diagnosis(truth, range(len(truth)), detections, groups, 0.0)
    ours = load_results(os.path.join(folder, "results.json"))
    metrics = {change.name: change for change in changes([diagnosis, diagnosis], 0, 0)[0]}
    for name in ("AP", "AP50", "AP75"):
        expected = ours["tiny_report"]["bbox"][name]
        assert metrics[name].before == pytest.approx(expected, abs=1e-9)
        assert metrics[name].difference == 0


def test_what_became_of_each_object(tmp_path):
    truth = write_truth(tmp_path / "coco.json", 3, 3, lvis=False)
    here, nowhere = [10, 10, 40, 40], [60, 60, 30, 30]
    first = [
        [0, *here, 0.9, 0],  # class 0 is found
        [1, *here, 0.8, 0],  # class 1 is taken for class 0
        [2, *nowhere, 0.7, 2],  # class 2 is missed, and seen where nothing is
        [2, *here, 0.1, 2],  # below the threshold
    ]
    second = [*first, [1, *here, 0.95, 1]]
    groups = np.array(["f", "r", "c"])
    one, two = (Diagnosis(truth, range(3), found(b), groups, 0.5) for b in (first, second))
    assert one.confusion.tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert one.confused_pairs() == [(1, 0, 1)]
    table = one.group_confusion(groups)
    assert table["r"] == {
        "found": 0, "as another r": 0, "as another c": 0, "as another f": 1, "missed": 0,
        "detected in the background": 0,
    }  # fmt: skip
    assert table["c"]["missed"] == table["c"]["detected in the background"] == 1
    assert table["f"]["found"] == 1 and table["f"]["as another f"] == 0
    assert one.tide["Cls"][1] >= 1 and one.calibration["num_detections"] == 4
    metrics, classes = changes([one, two], 20, 0)
    by_name = {change.name: change for change in metrics}
    assert by_name["APr"].before == 0 and by_name["APr"].after == pytest.approx(100)
    assert by_name["AP"].interval[0] <= by_name["AP"].difference <= by_name["AP"].interval[1]
    assert classes[0].name == "1" and classes[0].difference == pytest.approx(100)


def test_federated_boxes_count_only_where_their_class_was_looked_for(tmp_path):
    truth = write_truth(tmp_path / "lvis.json", 3, 3)
    boxes = found([[0, 60, 60, 30, 30, 0.9, 1], [0, 60, 60, 30, 30, 0.9, 0]])
    confusion = Diagnosis(truth, range(3), boxes, None, 0.5).confusion
    assert confusion[3].tolist() == [1, 0, 0, 0]  # class 1 may be there, unannotated


def test_an_object_to_ignore_is_neither_found_nor_missed(tmp_path):
    path = tmp_path / "lvis.json"
    write_truth(path, 2, 4)
    content = json.loads(path.read_text())
    for annotation in content["annotations"][:2]:
        annotation["ignore"] = 1
    path.write_text(json.dumps(content))
    here = [10, 10, 40, 40]
    boxes = found([[0, *here, 0.9, 0], [2, *here, 0.8, 0], [3, *here, 0.7, 1]])
    diagnosis = Diagnosis(GroundTruth(path), range(4), boxes, None, 0.5)
    assert diagnosis.confusion[:2].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert diagnosis.tide["Miss"][1] == 0
    (ap,) = [change.before for change in changes([diagnosis] * 2, 0, 0)[0] if change.name == "AP"]
    assert ap == pytest.approx(100)


def test_lvis_fits_into_ten_megabytes(large_page):
    assert large_page.stat().st_size < 10e6


def test_a_picture_that_is_gone_and_a_full_drive_are_sentences(
    page, runs, tmp_path, monkeypatch, capsys
):
    from iif_d2.report import report as module

    path = tmp_path / "r.html"
    path.write_text("yesterday's")
    picture = DatasetCatalog.get("tiny_report")[0]["file_name"]
    os.rename(picture, f"{picture}.away")
    try:
        line = ["report", runs[0], "--output", str(path), "--pictures", "99"]
        assert main(line) == 2
        assert f"error: picture {picture} cannot be read" in capsys.readouterr().err
    finally:
        os.rename(f"{picture}.away", picture)

    def full(*_):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(module, "draw", full)
    assert main(line) == 2
    assert "error: somewhere cannot be written or read: No space left" in capsys.readouterr().err
    assert path.read_text() == "yesterday's"


SPOILT = {
    "tiny_report/lvis_instances_results.json": {
        b'[{"image_id": 1, "category_id": 99, "bbox": [0, 0, 1, 1], "score": 1}]': "category_id 99, which",
        b'[{"image_id": 99, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1}]': "no image with id 99",
        b'[{"image_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]': "is not a results file of detections",
        b"[" * 100_000: "is not",
        b'[{"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1, "segmentation": '
        b'{"size": [1000000, 1000000], "counts": [1000000000000]}}]': "has size [1000000, 1000000]",
        b'[{"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1, "segmentation": 3}]':
            "is not a run-length mask",
    },
    "tiny_report/per_class_ap_bbox.csv": {
        b"class,AP\nx,<script>\n": "has no AP of each class", b"\xff\xfe": "has no AP of each class",
        b"class,AP\nx,1\n": "has 1 classes, not 4",
    },
    "tiny_report/results.json": {b"{}{": "is not valid json", b'{"a": 1}': "is not a results file"},
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_run_from_the_internet_is_refused_in_words(
    page, runs, tmp_path, monkeypatch, capsys, name
):
    """What is in a run's folder besides its checkpoint and config; nothing asks the network."""
    folder = tmp_path / "run"
    shutil.copytree(runs[0], folder)
    path = folder / "report" / name
    good = path.read_bytes()
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
    line = ["report", str(folder), "--output", str(tmp_path / "r.html"), "--image-ids", "1"]
    for content, message in SPOILT[name].items():
        path.write_bytes(content)
        assert main(line) == 2, content
        assert message in capsys.readouterr().err
    path.write_bytes(good)
    odd = ["{", "3", "[]", '{"iteration": "x"}', '{"a": 1.5}', '{"iteration": 1e999}', "\xff",
           '{"iteration": 1, "</script><script>": 1.5}', "[" * 100_000]  # fmt: skip
    (folder / "metrics.json").write_text("\n".join(odd), encoding="latin-1")
    assert main(line) == 0
    assert len(Reader((tmp_path / "r.html").read_text()).of("script")) == SCRIPTS


def test_options_in_any_order_and_a_call_with_arguments_give_one_page(page, runs, tmp_path):
    """`page` first: both runs' detections are there."""
    ours, theirs = tmp_path / "ours.html", tmp_path / "theirs.html"
    line = ["--opts", "MODEL.DEVICE", "cpu", "--pictures", "0", "--output", str(theirs)]
    assert main(["report", runs[0], *line]) == 0
    said = make_report([runs[0]], output=str(ours), pictures=0)
    assert said.startswith(f"{ours} (") and "on 8 images of tiny_report" in said
    assert ours.read_text() == theirs.read_text()


def test_bad_input_is_a_sentence(runs, tmp_path, capsys):
    output = ["--output", str(tmp_path / "r.html")]
    assert main(["report", str(tmp_path), *output]) == 2
    assert "has no config.yaml" in capsys.readouterr().err
    assert main(["report", *runs, runs[0], *output]) == 2
    assert "one or two runs" in capsys.readouterr().err
    assert main(["report", runs[0], *output, "--image-ids", "99"]) == 2
    assert "--image-ids names 99" in capsys.readouterr().err
    assert main(["report", runs[0], *output, "--dataset", "gone"]) == 2
    assert (
        "data set 'gone' is not registered here; start the command with" in capsys.readouterr().err
    )
    assert not (tmp_path / "r.html").exists()

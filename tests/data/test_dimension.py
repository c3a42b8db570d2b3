"""Box-counting dimensions: from the definition, on sets made by hand, and from every source."""

import json
import math
import os
from fractions import Fraction

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from iif_d2 import ClassFrequency, count_class_frequency
from iif_d2.data import config_frequency
from iif_d2.data.dimension import BoxCentres
from iif_d2.errors import DataError

LVIS_V1 = {
    "aerosol_can": 1.807722, "air_conditioner": 1.841004, "airplane": 1.750504, "baboon": 1.0,
    "person": 1.975108, "tennis_racket": 1.809287,
}  # fmt: skip


def slow_dimension(centres, sizes):
    """D of one class by its definition, in exact fractions but for the logarithms."""
    if len(centres) < 4:
        return 1.0
    places = [[Fraction(c) / Fraction(s) for c, s in zip(*pair)] for pair in zip(centres, sizes)]
    xs, ys = [], []
    for g in range(1, 65):
        if g * g > len(centres):
            break
        cells = {tuple(math.floor(g * c) for c in place) for place in places}
        xs.append(math.log(g))
        ys.append(math.log(len(cells)))
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((a - x) * (b - y) for a, b in zip(xs, ys)) / sum((a - x) ** 2 for a in xs)
    return max(slope, 1.0)


def measured(centres, sizes):
    labels = np.zeros(len(centres), dtype=np.int64)
    (found,) = BoxCentres(labels, np.array(centres, float), np.array(sizes)).dimension(1)
    return found


@pytest.mark.parametrize(
    ("name", "centres", "dimension"),
    [
        ("a square", [(x + 0.5, y + 0.5) for x in range(64) for y in range(64)], 2.0),
        ("a row", [(x + 0.5, 7.5) for x in range(64) for _ in range(64)], 1.0),
        ("a diagonal", [(x + 0.5, x + 0.5) for x in range(64) for _ in range(64)], 1.0),
        ("a point", [(3.0, 3.0)] * 100, 1.0),
        ("three", [(1.0, 1.0), (50.0, 9.0), (9.0, 50.0)], 1.0),
        ("four corners", [(1.0, 1.0), (1.0, 60.0), (60.0, 1.0), (60.0, 60.0)], 2.0),
        ("three of four", [(1.0, 1.0), (1.0, 60.0), (60.0, 1.0), (60.0, 1.0)], math.log2(3)),
    ],
)  # fmt: skip
def test_sets_of_known_dimension(name, centres, dimension):
    found = measured(centres, [(64, 64)] * len(centres))
    assert found == pytest.approx(dimension, abs=1e-6)
    assert found == pytest.approx(slow_dimension(centres, [(64, 64)] * len(centres)), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_any_set_is_the_definition(seed):
    """Quarters of pixels, so that many centres lie on lines between cells."""
    draws = np.random.default_rng(seed)
    num_classes, total = 5, 2500
    labels = draws.choice(num_classes, total, p=(0.9, 0.08, 0.015, 0.003, 0.002))
    sizes = draws.choice([49, 60, 64, 98], (total, 2))
    spread = draws.uniform(0.05, 1, (num_classes, 2))[labels]
    centres = np.floor(draws.uniform(0, 1, (total, 2)) * spread * sizes * 4) / 4
    found = BoxCentres(labels, centres, sizes).dimension(num_classes + 1)
    for c in range(num_classes):
        own = labels == c
        expected = slow_dimension(centres[own].tolist(), sizes[own].tolist())
        assert found[c] == pytest.approx(expected, abs=1e-12)
    assert found[-1] == 1  # of no box
    assert ((found >= 1) & (found <= 2)).all() and found.max() > 1.2


def test_a_line_between_cells_belongs_to_the_cell_behind_it():
    """49 (1 / 49) is below 1 in floating point, and 49 / 49 is not."""
    on_lines = [(float(k), float(j)) for k in range(49) for j in range(49)]
    assert measured(on_lines, [(49, 49)] * len(on_lines)) == pytest.approx(
        slow_dimension(on_lines, [(49, 49)] * len(on_lines)), abs=1e-12
    )


def test_a_centre_outside_its_image_lies_in_no_cell():
    inside = [(1.0, 1.0), (1.0, 60.0), (60.0, 1.0), (60.0, 60.0)]
    for outside in ((64.0, 1.0), (1.0, 64.0), (-1.0, 1.0), (np.nextafter(64, 65), 1.0)):
        assert measured([*inside[:3], outside], [(64, 64)] * 4) == pytest.approx(math.log2(3))
    measured([*inside[:3], (np.nextafter(64, 0), 1.0)], [(64, 64)] * 4)  # the last cell's


def boxes_json(tmp_path, num_images=3):
    """Four hundred boxes of two classes, written in an order that is not the images'."""
    draws = np.random.default_rng(1)
    images = [
        {"id": 9 - i, "height": 40 + i, "width": 60 - i, "file_name": "-"}
        for i in range(num_images)
    ]
    annotations, classes, centres, sizes = [], [], [], []
    for number in range(400):
        image = images[number % num_images]
        x, y, w, h = (int(v) for v in draws.integers(1, 15, 4))
        label = int(draws.random() < 0.1)
        annotations.append({"id": number, "image_id": image["id"], "category_id": 5 - label,
                            "bbox": [x, y, w, h], "area": w * h, "segmentation": []})  # fmt: skip
        classes.append(1 - label)  # categories are in the order of their ids
        centres.append((x + w / 2, y + h / 2))
        sizes.append((image["width"], image["height"]))
    categories = [{"id": 5, "name": "b"}, {"id": 4, "name": "a"}]
    path = tmp_path / "boxes.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    expected = [
        slow_dimension(*zip(*[(c, s) for k, c, s in zip(classes, centres, sizes) if k == label]))
        for label in range(2)
    ]
    return str(path), expected


def test_a_json_and_its_cache_and_a_saved_file_give_the_same(tmp_path):
    path, expected = boxes_json(tmp_path)
    plain = count_class_frequency(path)
    assert plain.dimension is None
    found = count_class_frequency(path, dimension=True, cache_dir=str(tmp_path / "cache"))
    assert found.dimension == pytest.approx(expected, abs=1e-12) and found.same_counts(plain)
    (kept,) = (
        n
        for n in os.listdir(tmp_path / "cache")
        if n.startswith("class_dimension_") and n.endswith("json")
    )
    assert ClassFrequency.load(tmp_path / "cache" / kept) == found
    os.replace(tmp_path / "cache" / kept, tmp_path / "saved.json")
    assert (
        ClassFrequency.load(tmp_path / "saved.json").dimension.tolist() == found.dimension.tolist()
    )
    plain.save(tmp_path / "plain.json")
    assert "dimension" not in json.loads((tmp_path / "plain.json").read_text())


def test_the_cache_is_of_the_files_content(tmp_path):
    path, _ = boxes_json(tmp_path)
    cache = str(tmp_path / "cache")
    before = count_class_frequency(path, dimension=True, cache_dir=cache)
    (kept,) = (
        n for n in os.listdir(cache) if n.startswith("class_dimension_") and n.endswith("json")
    )
    content = json.loads((tmp_path / "cache" / kept).read_text())
    content["dimension"] = [1.25, 1.5]
    (tmp_path / "cache" / kept).write_text(json.dumps(content))
    again = count_class_frequency(path, dimension=True, cache_dir=cache)
    assert again.dimension.tolist() == [1.25, 1.5]  # it was not measured again
    boxes_json(tmp_path, num_images=2)
    changed = count_class_frequency(path, dimension=True, cache_dir=cache)
    assert changed.dimension.tolist() not in ([1.25, 1.5], before.dimension.tolist())


def test_dataset_dicts_give_what_the_json_gives(dataset_name):
    found = count_class_frequency(dataset_name, dimension=True)
    dicts = [dict(record) for record in DatasetCatalog.get(dataset_name)]
    for record in dicts:
        for annotation in record["annotations"]:
            corners = BoxMode.convert(annotation["bbox"], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
            annotation.update(bbox=corners, bbox_mode=BoxMode.XYXY_ABS)
    names = MetadataCatalog.get(dataset_name).thing_classes
    again = count_class_frequency(iter(dicts), names, dimension=True)
    assert again == found and again.dimension.tolist() == found.dimension.tolist()
    assert MetadataCatalog.get(dataset_name).class_dimension.tolist() == found.dimension.tolist()
    del dicts[0]["width"]
    with pytest.raises(DataError, match="lacks 'width' in its dataset dict"):
        count_class_frequency(dicts, names, dimension=True)


def test_several_training_sets_are_measured_as_one(tmp_path, dataset_name, tiny_cfg):
    once = config_frequency(tiny_cfg()).measured()
    twice = tiny_cfg(
        "mask_rcnn_R_18_FPN_iif", "DATASETS.TRAIN", f"('{dataset_name}', '{dataset_name}')"
    )
    both = config_frequency(twice).measured()
    path = MetadataCatalog.get(dataset_name).json_file
    parts = [BoxCentres.of_json(path)] * 2
    assert both.dimension.tolist() == BoxCentres.joined(parts).dimension(4).tolist()
    assert both.num_images == 2 * once.num_images
    assert once.dimension.tolist() == count_class_frequency(path, dimension=True).dimension.tolist()


def test_the_configs_frequencies_may_hold_them(tmp_path, dataset_name, tiny_cfg):
    found = count_class_frequency(dataset_name, dimension=True)
    found.save(tmp_path / "with.json")
    count_class_frequency(dataset_name).save(tmp_path / "without.json")
    key = "MODEL.LONG_TAIL.FREQUENCY"
    for name in ("with.json", "without.json"):
        source = config_frequency(tiny_cfg("mask_rcnn_R_18_FPN_iif", key, str(tmp_path / name)))
        if name == "with.json":
            assert source.measured().dimension.tolist() == found.dimension.tolist()
        else:
            assert source.resolve().same_counts(found)
            with pytest.raises(DataError, match="no box-counting dimensions; count"):
                source.measured()


def test_without_boxes_it_says_what_to_do(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("image_id,class\n1,a\n2,b\n")
    with pytest.raises(DataError, match="need its boxes, and it is neither a json nor registered"):
        count_class_frequency(str(table), dimension=True)
    if not os.path.isfile(MetadataCatalog.get("lvis_v1_train").json_file):
        with pytest.raises(
            DataError, match="need its boxes, and .*lvis_v1_train.json is not there"
        ):
            count_class_frequency("lvis_v1_train", dimension=True)


def test_lvis_v1_has_the_published_dimensions():
    if not os.path.isfile(MetadataCatalog.get("lvis_v1_train").json_file):
        pytest.skip("LVIS v1's json is not under $DETECTRON2_DATASETS")
    found = count_class_frequency("lvis_v1_train", dimension=True)
    by_name = dict(zip(found.class_names, found.dimension.tolist()))
    assert {name: by_name[name] for name in LVIS_V1} == pytest.approx(LVIS_V1, abs=1e-6)
    assert found.dimension.mean() == pytest.approx(1.642821, abs=1e-6)
    assert (found.dimension == 1).sum() == 139

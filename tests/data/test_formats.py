"""YOLO, Pascal VOC, COCO and LVIS: found out by looking, one content, and bad files named."""

import json
import logging
import shutil

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from iif_d2 import count_class_frequency, register_long_tail_instances
from iif_d2.annotations.formats import find, pictures_root
from iif_d2.annotations.reading import read_annotations
from iif_d2.commands import main
from iif_d2.data import load_instances
from iif_d2.errors import ConfigError, DataError
from iif_d2.evaluation.ground_truth import GroundTruth

from .sets_in_formats import CLASSES, OBJECTS, SIZES, write_coco, write_voc, write_yolo

WRITERS = {"COCO": write_coco, "YOLO": write_yolo, "VOC": write_voc}


@pytest.fixture(params=WRITERS)
def source(request, tmp_path):
    return str(WRITERS[request.param](tmp_path / "set"))


@pytest.fixture
def yolo(tmp_path):
    return write_yolo(tmp_path / "set")


@pytest.fixture
def voc(tmp_path):
    return write_voc(tmp_path / "set")


def refused(path) -> str:
    with pytest.raises(DataError) as error:
        read_annotations(path)
    assert "; " in str(error.value)  # what to do
    return str(error.value)


def test_names_and_counts_are_those_of_every_form(source):
    found = count_class_frequency(source)
    assert found.class_names == CLASSES
    assert found.image_count.tolist() == [2, 1, 1, 1, 0]
    assert found.instance_count.tolist() == [3, 1, 1, 1, 0]
    assert found.num_images == len(SIZES)


def test_boxes_polygons_and_pictures_are_those_of_every_form(source):
    root = pictures_root(source)
    records = load_instances(source, root)
    by_name = {record["file_name"].rpartition("/")[2]: record for record in records}
    assert len(by_name) == len(SIZES)
    for name, (width, height) in SIZES.items():
        record = by_name[name.rpartition("/")[2]]
        assert Image.open(record["file_name"]).size == (width, height)
        assert (record["width"], record["height"]) == (width, height)
        wanted = OBJECTS.get(name, [])
        assert len(record["annotations"]) == len(wanted)
        for ours, (label, box, polygon) in zip(record["annotations"], wanted):
            assert ours["category_id"] == label
            assert ours["bbox"] == pytest.approx(box, abs=1e-3)
            if polygon:
                assert ours["segmentation"][0] == pytest.approx(polygon, abs=1e-3)
            else:
                assert "segmentation" not in ours


def test_registered_data_count_and_evaluate(source):
    register_long_tail_instances("in_a_format", source)
    try:
        metadata = MetadataCatalog.get("in_a_format")
        assert metadata.class_frequency.instance_count.tolist() == [3, 1, 1, 1, 0]
        assert metadata.thing_classes == list(CLASSES)
        assert len(DatasetCatalog.get("in_a_format")) == len(SIZES)
        assert len(GroundTruth(metadata.json_file)) == len(SIZES)
    finally:
        DatasetCatalog.pop("in_a_format")
        MetadataCatalog.pop("in_a_format")


def test_another_image_root_than_the_format_says_is_refused(yolo):
    with pytest.raises(ConfigError, match="leave image_root out"):
        register_long_tail_instances("elsewhere", str(yolo), str(yolo.parent / "images"))


def test_what_lies_where_is_found_out(yolo, tmp_path):
    folder = yolo.parent
    for path in (yolo, folder, folder / "images/train", folder / "labels/train", f"{yolo}:train"):
        assert find(str(path)).kind == "YOLO", path
        assert count_class_frequency(str(path)).num_images == len(SIZES)
    voc = write_voc(tmp_path / "voc")
    for path in (voc, voc / "Annotations"):
        assert count_class_frequency(str(path)).class_names == CLASSES
    coco = write_coco(tmp_path / "coco")
    assert count_class_frequency(str(coco.parent)).num_images == len(SIZES)
    shutil.copy(coco, coco.with_name("val.json"))
    assert "name one: " in refused(str(coco.parent))
    assert "no annotations that are known" in refused(str(coco.parent / "images"))


def test_splits_of_yolo(yolo):
    shutil.copytree(yolo.parent / "images/train", yolo.parent / "images/val")
    yolo.write_text(yolo.read_text() + "val: ../images/val\n")  # as Roboflow writes it
    assert f"name one: {yolo}:train, {yolo}:val" in refused(str(yolo))
    assert "none of the 4 pictures has a label file" in refused(f"{yolo}:val")
    shutil.copytree(yolo.parent / "labels/train", yolo.parent / "labels/val")
    (yolo.parent / "labels/val/b.txt").unlink()
    assert count_class_frequency(f"{yolo}:val").instance_count.tolist() == [3, 1, 0, 1, 0]
    assert count_class_frequency(str(yolo.parent / "images/val")).instance_count.sum() == 5
    listed = yolo.parent / "list.txt"
    listed.write_text("./images/val/a.jpg\nimages/val/empty.jpg\n")
    yolo.write_text(yolo.read_text() + "test: list.txt\n")
    assert count_class_frequency(f"{yolo}:test").num_images == 2
    listed.write_text("images/val/a.jpg\n../../x.jpg\n")
    assert f"{listed}, line 2" in refused(f"{yolo}:test")


def test_splits_of_voc_have_the_classes_of_all(voc, tmp_path):
    (voc / "classes.txt").unlink()
    lists = voc / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nempty\n")
    (lists / "val.txt").write_text("b\n")
    assert f"name one: {voc}:train, {voc}:val" in refused(str(voc))
    train, val = (count_class_frequency(f"{voc}:{split}") for split in ("train", "val"))
    assert train.class_names == val.class_names == ("007", "a & b", "no", "person")
    assert (train.num_images, val.num_images) == (2, 1)
    (lists / "val.txt").write_text("b\nz\n")
    assert f"{lists / 'val.txt'}, line 2" in refused(f"{voc}:val")
    folders = tmp_path / "folders"
    for name, stems in {"train": ["a"], "valid": ["b"]}.items():
        (folders / name).mkdir(parents=True)
        for stem in stems:
            shutil.copy(voc / "Annotations" / f"{stem}.xml", folders / name)
            shutil.copy(next((voc / "JPEGImages").glob(f"{stem}.*")), folders / name)
    assert count_class_frequency(f"{folders}:valid").class_names == ("007", "no", "person")
    assert load_instances(f"{folders}:valid", str(folders))[0]["file_name"].endswith("valid/b.png")


def test_a_changed_label_file_is_read_again(yolo, tmp_path):
    before = count_class_frequency(str(yolo), cache_dir=str(tmp_path / "cache"))
    label = yolo.parent / "labels/train/b.txt"
    label.write_text(label.read_text() * 2)
    after = count_class_frequency(str(yolo), cache_dir=str(tmp_path / "cache"))
    assert after.instance_count.sum() == before.instance_count.sum() + 1


LINES = {
    "1 0.5 0.5 0.2": "4 numbers; write 5",
    "1 0.5 0.5 0.2 0.2 0.9": "without a score",
    "1 0.1 0.1 0.2 0.2 0.3 0.3 0.4": "8 numbers",
    "9 0.5 0.5 0.2 0.2": "class 9, and",
    "-1 0.5 0.5 0.2 0.2": "class -1, and",
    "0.5 0.5 0.5 0.2 0.2": "class 0.5, and",
    "1 0.5 x 0.2 0.2": "'x' is no number",
    "1 0.5 nan 0.2 0.2": "nan is no share",
    "1 32 24 10 10": "32 is no share of the picture's side",
    "1 0.5 0.5 -0.2 0.2": "-0.2 is no share",
    "\x00": "no number",
}


@pytest.mark.parametrize("line, said", LINES.items())
def test_bad_yolo_lines_are_named(yolo, line, said):
    label = yolo.parent / "labels/train/b.txt"
    label.write_text(f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    message = refused(str(yolo))
    assert f"{label}, line 3: " in message and said in message


def edited(path, old, new) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


YAMLS = {
    ("nc: 5", "nc: 4"): "line 2: nc is 4, and names has 5",
    ("names: [person, ", "names: [person, [x], "): "no name",
    ("names: ", "nams: "): "names is missing",
    ("names: [person", "names: {0: a, 0: b}\nx: [person"): "names has '0'",
    ("names: [person", "names: {0: a, 2: b}\nx: [person"): "no class 1",
    ("names: [person", f"names: {{? {'1' * 5000} : a}}\nx: [person"): "number the classes 0, 1, 2",
    ("train: images/train", f"train: images/train\nkpt_shape: [{'1' * 5000}, 2]"): "no [K, 2]",
    ("train: images/train", "train: http://x.org/a/../b"): "an address",
    ("train: images/train", "train: /etc"): "leads out of",
    ("train: images/train", "train: images/gone"): "not there under",
    ("train: images/train", "train: images/train\ntrain: x"): "train is there twice",
    ("train: images/train", "x: &a [*a, *a]"): "no valid yaml",
    ("train: images/train", "train: !!python/object/apply:os.system [true]"): "not there",
    ("train: ", ""): "not valid yaml",
}


@pytest.mark.parametrize("edit, said", YAMLS.items())
def test_bad_yamls_are_named(yolo, edit, said):
    edited(yolo, *edit)
    message = refused(str(yolo))
    assert str(yolo) in message and said.replace("no valid", "not valid") in message


def test_a_label_file_whose_picture_is_gone_is_no_silent_loss(yolo):
    (yolo.parent / "images/train/b.png").unlink()
    assert str(yolo.parent / "labels/train/b.txt") in refused(str(yolo))


def test_two_pictures_with_one_label_file_are_refused(yolo):
    shutil.copy(yolo.parent / "images/train/b.png", yolo.parent / "images/train/b.jpg")
    assert "would label both" in refused(str(yolo))


def test_a_picture_that_cannot_be_read_is_named(yolo):
    picture = yolo.parent / "images/train/b.png"
    picture.write_bytes(b"no picture")
    assert str(picture) in refused(str(yolo))


def test_a_turned_picture_has_the_size_that_detectron2_reads(yolo):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64)).save(yolo.parent / "images/train/a.jpg", exif=exif)
    record = next(
        r for r in load_instances(str(yolo), str(yolo.parent)) if "a.jpg" in r["file_name"]
    )
    assert (record["width"], record["height"]) == (64, 48)
    assert record["annotations"][0]["bbox"] == pytest.approx((4, 6, 20, 12), abs=1e-3)


XMLS = {
    ("<xmin>5</xmin>", ""): "<xmin> is missing",
    ("<xmin>5</xmin>", "<xmin>five</xmin>"): "<xmin> is 'five'",
    ("<xmin>5</xmin>", "<xmin>inf</xmin>"): "<xmin> is 'inf'",
    ("<name>person</name>", "<name> </name>"): "no <name>",
    ("<name>person</name>", "<name>persn</name>"): "'persn' is not in",
    ("<x1>31</x1>", ""): "numbers; write three",
    ("<x1>31</x1><y1>6</y1>", "<pt/><pt/>"): "<x1> is missing",
    ("<width>64</width>", "<width>-64</width>"): "are no size",
    ("a.jpg</filename>", "../../a.jpg</filename>"): "leads out of",
    ("a.jpg</filename>", "http://x.org/a.jpg</filename>"): "an address",
    ("</annotation>", ""): "not valid xml",
    ("<annotation>", "<page>"): "not valid xml",
}


@pytest.mark.parametrize("edit, said", XMLS.items())
def test_bad_xml_is_named(voc, edit, said):
    path = voc / "Annotations" / "a.xml"
    edited(path, *edit)
    message = refused(str(voc))
    assert str(path) in message and said in message
    assert "line " in message


def test_entities_are_not_expanded(voc):
    path = voc / "Annotations" / "a.xml"
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]>'
    path.write_text(bomb + path.read_text().replace("person", "&c;"))
    assert f"{path} defines entities" in refused(str(voc))


def test_a_difficult_object_is_kept(voc):
    file = read_annotations(str(voc))
    assert file.ignored.sum() == 1 and len(file.classes) == 6


def test_a_box_from_pixel_0_stays_inside(voc):
    edited(voc / "Annotations" / "a.xml", "<xmin>5</xmin>", "<xmin>0</xmin>")
    record = next(r for r in load_instances(str(voc), str(voc)) if "a.jpg" in r["file_name"])
    assert record["annotations"][0]["bbox"] == pytest.approx((0, 6, 24, 12))


def test_an_xml_whose_picture_is_gone_needs_its_size(voc):
    (voc / "JPEGImages" / "b.png").unlink()
    assert count_class_frequency(str(voc)).instance_count.sum() == 6
    edited(voc / "Annotations" / "b.xml", "<width>40</width>", "<width>0</width>")
    assert f"{voc / 'Annotations' / 'b.xml'}: its picture is not there" in refused(str(voc))


def test_doubts_name_the_file_and_the_line(yolo, caplog):
    label = yolo.parent / "labels/train/b.txt"
    label.write_text("0 0.5 0.5 0.0 0.1\n")
    with caplog.at_level(logging.WARNING):
        load_instances(str(yolo), str(yolo.parent))
    assert f"{label}, line 1" in caplog.text


def test_the_json_is_what_it_was(tmp_path):
    """Looking for other formats leaves a json's dicts alone."""
    path = write_coco(tmp_path)
    assert find(str(path)) == ("json", str(path), str(tmp_path), (), (), None)
    assert json.loads(path.read_text())["images"][0]["file_name"] == "images/a.jpg"


def test_registered_sets_in_other_formats_are_checked(yolo, capsys):
    register_long_tail_instances("checked_yolo_train", str(yolo))
    try:
        assert main(["data", "check", "checked_yolo_train"]) == 0
        assert "3 of 3 are there" in capsys.readouterr().out
        assert main(["frequency", f"{yolo}:train", "--dimension"]) == 0
        assert "5 classes, 4 images" in capsys.readouterr().out
    finally:
        DatasetCatalog.pop("checked_yolo_train")
        MetadataCatalog.pop("checked_yolo_train")

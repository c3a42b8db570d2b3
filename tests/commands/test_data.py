"""iif-d2 data convert, split and check."""

import json
import re
import shutil

import pytest
from PIL import Image
from pycocotools.coco import COCO

from iif_d2 import count_class_frequency
from iif_d2.annotations.reading import read_annotations
from iif_d2.commands import main
from iif_d2.data import load_instances

from ..conftest import make_dataset
from ..data.sets_in_formats import CLASSES, write_coco, write_voc, write_yolo

WRITERS = {"COCO": write_coco, "YOLO": write_yolo, "VOC": write_voc}


@pytest.mark.parametrize("form", WRITERS)
def test_convert_writes_what_cocos_tools_read(form, tmp_path, capsys):
    source, out = str(WRITERS[form](tmp_path / "set")), tmp_path / "new" / "out.json"
    assert main(["data", "convert", source, "--output", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"{out}: 4 images, 6 objects, 5 classes" in said
    assert said.count("next: ") == 1 and f"next: iif-d2 data check {out} --images" in said
    assert count_class_frequency(str(out)) == count_class_frequency(source)
    coco = COCO(str(out))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert all(annotation["area"] > 0 for annotation in coco.anns.values())
    ours, theirs = (load_instances(path, "") for path in (str(out), source))
    assert [r["annotations"] for r in ours] == [r["annotations"] for r in theirs]
    assert [r["file_name"] for r in ours] == [r["file_name"] for r in theirs]


def test_convert_keeps_what_lvis_says_and_makes_whole_ids(tmp_path):
    path, _ = make_dataset(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"][0].update(id="a-1", iscrowd=None, segmentation="", area=None)
    for image in content["images"]:
        image["id"] = f"image {image['id']}"
    for annotation in content["annotations"]:
        annotation["image_id"] = f"image {annotation['image_id']}"
    path.write_text(json.dumps(content))
    out = tmp_path / "out.json"
    assert main(["data", "convert", str(path), str(out)]) == 0
    made = json.loads(out.read_text())
    assert [image["id"] for image in made["images"]] == list(range(1, 9))
    assert [a["id"] for a in made["annotations"]] == list(range(1, len(made["annotations"]) + 1))
    assert made["images"][0]["file_name"] == "train2017/000000000001.png"
    assert made["images"][0]["neg_category_ids"] == content["images"][0]["neg_category_ids"]
    first = made["annotations"][0]
    assert first["iscrowd"] == 0 and first["segmentation"] == [] and first["area"] > 0
    assert count_class_frequency(str(out)) == count_class_frequency(str(path))


def test_convert_leaves_nothing_behind_when_it_fails(tmp_path, capsys):
    yolo = write_yolo(tmp_path / "set")
    label = yolo.parent / "labels/train/a.txt"
    label.write_text("0 0.5 0.5 0.1 0.1\n0 5 5 1 1\n")
    out = tmp_path / "out.json"
    out.write_text("yesterday's")
    assert main(["data", "convert", str(yolo), str(out)]) == 2
    assert f"error: {label}, line 2: 5 is no share" in capsys.readouterr().err
    assert out.read_text() == "yesterday's"
    coco = write_coco(tmp_path / "coco")
    assert main(["data", "convert", str(coco), str(coco)]) == 2
    assert "is what is read; " in capsys.readouterr().err


def test_split_prints_a_table_and_check_finds_nothing_wrong(tmp_path, capsys):
    path, root = make_dataset(tmp_path, num_images=20, lvis=False)
    out = tmp_path / "out"
    assert (
        main(["data", "split", str(path), "--val", "0.3", "--seed", "1", "--output", str(out)]) == 0
    )
    said = capsys.readouterr().out
    assert "| rare " in said and "in val" in said and str(out / "train.json") in said
    halves = [str(out / f"{half}.json") for half in ("train", "val")]
    files = f"{halves[0]} --val {halves[1]} --images IMAGE_ROOT"
    assert f"next: iif-d2 data check {files}\nthen: iif-d2 train --train {files}\n" in said
    line = ["data", "check", halves[0], "--val", halves[1], "--images", str(root)]
    assert main([*line, "--near-duplicates"]) == 0
    said = capsys.readouterr().out
    assert "WRONG" not in said and "nothing is wrong; next: " in said
    assert "| 0 | 1 | " in said  # the tail at a glance
    assert "1 classes have no training image (never)" in said


def test_a_split_of_another_form_names_its_pictures(tmp_path, capsys):
    source = str(write_yolo(tmp_path / "set"))
    assert main(["data", "split", source, "--val", "0.5", "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count(f"--images {tmp_path / 'set'}\n") == 2


@pytest.fixture
def pair(tmp_path):
    """Training and validation with a root each in one folder, and all right."""
    path, root = make_dataset(tmp_path, num_images=12, lvis=False)
    content = json.loads(path.read_text())
    halves = []
    for name, keep in (("train", lambda n: n % 2), ("val", lambda n: n % 2 == 0)):
        part = {**content, "images": [i for i in content["images"] if keep(i["id"])],
                "annotations": [a for a in content["annotations"] if keep(a["image_id"])]}  # fmt: skip
        halves.append(tmp_path / f"{name}.json")
        halves[-1].write_text(json.dumps(part))
    return (*halves, root)


def checked(pair, capsys, *options) -> tuple[int, list[str]]:
    train, val, root = pair
    code = main(["data", "check", str(train), "--val", str(val), "--images", str(root), *options])
    text = capsys.readouterr().out
    return code, [line for line in text.splitlines() if line.startswith("WRONG")]


def spoil(path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


SPOILT = {
    "box reaches out": (0, lambda c: c["annotations"][0].update(bbox=[50, 50, 40, 5]), "1 boxes reach out"),
    "empty box": (0, lambda c: c["annotations"][0].update(bbox=[5, 5, 0, 5]), "that is empty"),
    "other size": (1, lambda c: c["images"][0].update(width=65), "1 pictures have another size"),
    "missing picture": (1, lambda c: c["images"][0].update(file_name="x.png"), "1 pictures are not there"),
    "listed twice": (0, lambda c: c["images"][1].update(file_name=c["images"][0]["file_name"]),
                     "1 pictures are listed more than once"),
    "in both": (1, lambda c: c["images"][0].update(file_name="train2017/000000000001.png"),
                "share 1 pictures by their bytes"),
    "unseen class": (1, lambda c: c["annotations"][0].update(category_id=11),
                     "1 classes are never seen in training (never)"),
    "other classes": (1, lambda c: c["categories"].__setitem__(slice(2), c["categories"][1::-1])
                      or [c.update(id=i) for c, i in zip(c["categories"], (3, 5))], "the order differs"),
    "id twice": (0, lambda c: c["annotations"][1].update(id=c["annotations"][0]["id"]), "is there twice"),
}  # fmt: skip


def test_a_sound_pair_passes(pair, capsys):
    assert checked(pair, capsys) == (0, [])


@pytest.mark.parametrize("side, change, said", SPOILT.values(), ids=SPOILT.keys())
def test_what_is_wrong_is_one_line_with_what_to_do(pair, capsys, side, change, said):
    spoil(pair[side], change)
    code, wrong = checked(pair, capsys)
    assert code == 1 and len(wrong) == 1
    assert said in wrong[0] and str(pair[side]) in wrong[0]
    assert re.search(r"(; |\. )[a-zA-Z]\w+ \w+", wrong[0])  # what to do


def test_pictures_that_cannot_be_used_are_counted(pair, capsys):
    (pair[2] / "train2017/000000000001.png").write_bytes(b"x")
    code, wrong = checked(pair, capsys, "--near-duplicates")
    assert code == 1 and "1 pictures cannot be used" in wrong[0] and "copy it again" in wrong[0]


def test_a_copy_of_another_name_and_one_saved_again_are_found(pair, capsys):
    folder = pair[2] / "train2017"
    shutil.copy(folder / "000000000001.png", folder / "000000000002.png")
    code, wrong = checked(pair, capsys)
    assert code == 1 and "by their bytes" in wrong[0]
    with Image.open(folder / "000000000001.png") as image:
        image.save(folder / "000000000002.png", compress_level=1, optimize=False)
    if (folder / "000000000001.png").read_bytes() == (folder / "000000000002.png").read_bytes():
        pytest.skip("this Pillow writes the same bytes")
    assert checked(pair, capsys) == (0, [])
    code, wrong = checked(pair, capsys, "--near-duplicates")
    assert code == 1 and "look nearly the same" in wrong[0]


def test_exif_is_named(pair, capsys):
    picture = pair[2] / "train2017/000000000001.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32)).save(picture, exif=exif)
    spoil(pair[0], lambda c: c["images"][0].update(height=32))
    _, wrong = checked(pair, capsys)
    assert "EXIF" in " ".join(wrong) and "exiftool" in " ".join(wrong)


def test_without_pictures_it_says_so(pair, tmp_path, capsys):
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in pair[:2]:
        shutil.copy(path, alone)
    assert main(["data", "check", str(alone / "train.json"), "--val", str(alone / "val.json")]) == 0
    said = capsys.readouterr().out
    assert said.count("pictures were not looked at") == 2 and "--images DIR" in said


def test_other_formats_are_checked(tmp_path, capsys):
    assert main(["data", "check", str(write_yolo(tmp_path / "set"))]) == 0
    assert "4 images" in capsys.readouterr().out
    voc = write_voc(tmp_path / "voc")
    assert read_annotations(str(voc)).doubts == []
    assert main(["data", "check", str(voc)]) == 0


def test_a_source_that_cannot_be_read_is_an_error(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path / "gone.json")]) == 2
    assert "does not exist" in capsys.readouterr().err

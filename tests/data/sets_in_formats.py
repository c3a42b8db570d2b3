"""One small data set, written as COCO json, YOLO and Pascal VOC."""

from __future__ import annotations

import json
from pathlib import Path
from xml.sax.saxutils import escape

from PIL import Image

CLASSES = ("person", "no", "007", "a & b", "never seen")  # yaml's false, a number, xml's escape
SIZES = {"a.jpg": (64, 48), "b.png": (40, 80), "sub/c.jpg": (31, 17), "empty.jpg": (20, 20)}
# of each picture: class, box x y w h, and a polygon or none
OBJECTS = {
    "a.jpg": [(0, (4, 6, 20, 12), None), (0, (30, 5, 10, 30), (30, 5, 40, 5, 40, 35)),
              (1, (0, 0, 64, 48), None)],
    "b.png": [(2, (1, 2, 3, 4), (1, 2, 4, 2, 4, 6, 1, 6))],
    "sub/c.jpg": [(3, (5, 5, 20, 10), None), (0, (5, 5, 20, 10), None)],
}  # fmt: skip


def draw(folder: Path) -> None:
    for number, (name, size) in enumerate(SIZES.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (number, 99, 9)).save(path)


def write_coco(root: Path) -> Path:
    draw(root / "images")
    images = [
        {"id": i, "file_name": f"images/{name}", "width": w, "height": h}
        for i, (name, (w, h)) in enumerate(SIZES.items())
    ]
    ids = {name: i for i, name in enumerate(SIZES)}
    annotations = []
    for name, objects in OBJECTS.items():
        for label, box, polygon in objects:
            record = {"id": len(annotations) + 1, "image_id": ids[name], "bbox": box,
                      "category_id": label * 7, "iscrowd": 0, "area": box[2] * box[3]}  # fmt: skip
            annotations.append({**record, "segmentation": [polygon]} if polygon else record)
    categories = [{"id": 7 * i, "name": name} for i, name in enumerate(CLASSES)]
    path = root / "train.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


def write_yolo(root: Path) -> Path:
    draw(root / "images" / "train")
    for name in SIZES:
        lines = []
        (w, h), objects = SIZES[name], OBJECTS.get(name, ())
        for label, box, polygon in objects:
            if polygon:
                numbers = [v / (h if i % 2 else w) for i, v in enumerate(polygon)]
            else:
                x, y, bw, bh = box
                numbers = [(x + bw / 2) / w, (y + bh / 2) / h, bw / w, bh / h]
            lines.append(" ".join([str(label), *(f"{value:.6f}" for value in numbers)]))
        path = (root / "labels" / "train" / name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        if lines:
            path.write_text("\n".join(lines) + "\n")
    path = root / "data.yaml"
    path.write_text(
        f"train: images/train\nnc: {len(CLASSES)}\nnames: [person, no, 007, a & b, never seen]\n"
    )
    return path


def write_voc(root: Path) -> Path:
    draw(root / "JPEGImages")
    (root / "Annotations").mkdir(parents=True)
    for name, (w, h) in SIZES.items():
        parts = [
            f"<filename>{name}</filename>",
            f"<size><width>{w}</width><height>{h}</height></size>",
        ]
        for label, (x, y, bw, bh), polygon in OBJECTS.get(name, ()):
            corners = f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + bw}</xmax><ymax>{y + bh}</ymax>"
            points = "".join(
                f"<{'xy'[i % 2]}{i // 2 + 1}>{v + 1}</{'xy'[i % 2]}{i // 2 + 1}>"
                for i, v in enumerate(polygon or ())
            )
            outline = f"<polygon>{points}</polygon>" if polygon else ""
            parts.append(
                f"<object>\n<name>{escape(CLASSES[label])}</name>\n<difficult>{int(label == 1)}</difficult>\n"
                f"<bndbox>{corners}</bndbox>\n{outline}</object>"
            )
        path = root / "Annotations" / f"{name.replace('/', '_').rpartition('.')[0]}.xml"
        path.write_text("<annotation>\n" + "\n".join(parts) + "\n</annotation>\n")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return root

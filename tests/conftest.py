"""What many tests share: a small data set on disk, and the smallest model that has every part."""

from __future__ import annotations

import json
import socket
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from iif_d2.frequency import ClassFrequency

warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
torch.set_num_threads(1)

SIZE = 64
CATEGORY_IDS = (3, 5, 6, 11)  # with holes, and not in the order of their names
CLASS_NAMES = ("square", "disc", "bar", "never")


def make_dataset(root: Path, num_images: int = 8, lvis: bool = True) -> tuple[Path, Path]:
    """A json and its images: one to three coloured boxes each, the last image without any.

    The class "never" has no annotation. Returns the json and the image root.
    """
    rng = np.random.default_rng(7)
    images, annotations = [], []
    (root / "train2017").mkdir(parents=True, exist_ok=True)
    for image_id in range(1, num_images + 1):
        pixels = rng.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
        present = set()
        for _ in range(0 if image_id == num_images else 1 + image_id % 3):
            kind = int(rng.choice(3, p=(0.6, 0.3, 0.1)))
            x, y = (int(v) for v in rng.integers(2, 30, 2))
            w, h = (int(v) for v in rng.integers(12, 30, 2))
            pixels[y : y + h, x : x + w, kind] = 230
            present.add(CATEGORY_IDS[kind])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": CATEGORY_IDS[kind],
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                    **({} if lvis else {"iscrowd": 0}),
                }
            )
        name = f"{image_id:012d}.png"
        Image.fromarray(pixels).save(root / "train2017" / name)
        image = {"id": image_id, "height": SIZE, "width": SIZE}
        if lvis:
            image["coco_url"] = f"http://images.cocodataset.org/train2017/{name}"
            image["neg_category_ids"] = sorted(set(CATEGORY_IDS) - present)
            image["not_exhaustive_category_ids"] = []
        else:
            image["file_name"] = f"train2017/{name}"
        images.append(image)
    categories = [{"id": i, "name": n} for i, n in zip(CATEGORY_IDS, CLASS_NAMES)]
    path = root / ("lvis.json" if lvis else "coco.json")
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path, root


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> tuple[Path, Path]:
    """(json, image root) of a small LVIS-format data set."""
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def dataset_name(dataset) -> str:
    """The small data set, registered."""
    from iif_d2 import register_long_tail_instances

    register_long_tail_instances("tiny_lvis", *map(str, dataset))
    return "tiny_lvis"


@pytest.fixture
def frequency() -> ClassFrequency:
    """Five classes from frequent to unseen."""
    names, dimension = ("a", "b", "c", "d", "e"), [1.9, 1.5, 1.2, 1.0, 1.0]
    return ClassFrequency(names, [90, 40, 10, 1, 0], [200, 40, 12, 3, 0], 100, dimension=dimension)


TINY = [
    "MODEL.DEVICE", "cpu",
    "MODEL.ROI_HEADS.NUM_CLASSES", "4",
    "MODEL.FPN.OUT_CHANNELS", "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM", "16",
    "MODEL.ROI_MASK_HEAD.CONV_DIM", "8",
    "MODEL.ROI_MASK_HEAD.NUM_CONV", "1",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN", "40",
    "MODEL.RPN.POST_NMS_TOPK_TEST", "20",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16",
    "INPUT.MIN_SIZE_TRAIN", "(64,)",
    "INPUT.MIN_SIZE_TEST", "64",
    "INPUT.MASK_FORMAT", "polygon",
    "DATASETS.TRAIN", "('tiny_lvis',)",
    "DATASETS.TEST", "('tiny_lvis',)",
    "DATALOADER.NUM_WORKERS", "0",
    "SOLVER.REFERENCE_WORLD_SIZE", "0",
    "SOLVER.IMS_PER_BATCH", "2",
    "SOLVER.MAX_ITER", "2",
    "SOLVER.WARMUP_ITERS", "0",
]  # fmt: skip


@pytest.fixture
def tiny_cfg(dataset_name, tmp_path):
    """A function: the Mini config of this name, shrunken and on the small data set, with overrides."""
    from iif_d2.config import load_config

    def make(name: str = "mask_rcnn_R_18_FPN_iif", *overrides: str):
        path = f"configs/Mini-InstanceSegmentation/{name}.yaml"
        return load_config(path, [*TINY, "OUTPUT_DIR", str(tmp_path / "out"), *overrides])

    return make


def finding_model(cfg) -> torch.nn.Module:
    """A model that finds some things: boxes are its proposals, and class logits are spread."""
    from detectron2.modeling import build_model

    torch.manual_seed(0)
    model = build_model(cfg).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "cls_score.weight" in name:
                weight.normal_(std=2 / weight.shape[1] ** 0.5)
    return model

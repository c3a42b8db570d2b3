"""Rendered images, so that these tests need no downloads; and the project on the import path."""

import os
import sys

import numpy as np
import pytest
from PIL import Image

PROJECT = os.path.join(os.path.dirname(__file__), "..", "..", "projects", "classification")
sys.path.insert(0, os.path.abspath(PROJECT))

TRAIN_COUNTS = (120, 60, 30, 20, 10, 5)
TEST_COUNT = 9


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """root/{train,test}/<class>/<image>.png: a bar of its own angle and colour for each class."""
    root = tmp_path_factory.mktemp("rendered")
    generator = np.random.RandomState(0)
    for part, counts in (("train", TRAIN_COUNTS), ("test", (TEST_COUNT,) * len(TRAIN_COUNTS))):
        for label, count in enumerate(counts):
            folder = root / part / f"class_{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(render(label, generator)).save(folder / f"{index:03d}.png")
    return str(root)


def render(label: int, generator: np.random.RandomState, size: int = 32) -> np.ndarray:
    """uint8 (size, size, 3)."""
    y, x = np.mgrid[:size, :size] - size / 2 + generator.uniform(-4, 4, (2, 1, 1))
    angle = np.pi * label / len(TRAIN_COUNTS)
    bar = np.abs(x * np.sin(angle) - y * np.cos(angle)) < 4
    colour = 255 * np.array([(label + 1) & 1, ((label + 1) >> 1) & 1, ((label + 1) >> 2) & 1])
    image = 70 + 40 * generator.rand(size, size, 3)
    return np.where(bar[..., None], colour, image).astype(np.uint8)


@pytest.fixture
def config(rendered, tmp_path):
    """A config of a small model on the rendered images, with KEY, VALUE pairs on top."""
    from iif_classification.config import load_config

    def make(*options, output="run"):
        basics = [
            "DATA.SOURCE", "folder", "DATA.ROOT", rendered, "DATA.PROFILE", "as_is",
            "MODEL.BACKBONE", "se_resnet8", "SOLVER.EPOCHS", 2, "SOLVER.BATCH_SIZE", 32,
            "SOLVER.WARMUP_EPOCHS", 0.5, "OUTPUT_DIR", str(tmp_path / output),
        ]  # fmt: skip
        return load_config("", [*basics, *options])

    return make


@pytest.fixture(scope="session")
def trained(rendered, tmp_path_factory):
    """The config and scores of one cross-entropy run that the tests below stand on."""
    from iif_classification.config import load_config
    from iif_classification.engine import Ranks, run

    folder = str(tmp_path_factory.mktemp("trained"))
    cfg = load_config(
        "",
        ["DATA.SOURCE", "folder", "DATA.ROOT", rendered, "DATA.PROFILE", "as_is",
         "DATA.AUTOAUGMENT", "", "DATA.CUTOUT", 8, "DATA.FLIP", False, "MODEL.BACKBONE",
         "se_resnet8", "SOLVER.EPOCHS", 6, "SOLVER.BATCH_SIZE", 32, "OUTPUT_DIR", folder],
    )  # fmt: skip
    return cfg, run(cfg, Ranks())

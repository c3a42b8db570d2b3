"""Mini LVIS: a long-tailed instance segmentation set that code draws on first use.

It is LVIS's own json beside PNG files. Sixty classes are every combination of a colour, a pattern
and a shape ("red striped star"), so each rare class has frequent lookalikes along every factor.
Training image counts fall from 450 to 3; validation and dev are balanced.
"""

import filecmp
import functools
import itertools
import json
import logging
import multiprocessing
import os
import tempfile
from collections import Counter

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils
from tqdm import tqdm

from ..errors import DataError

logger = logging.getLogger(__name__)

VERSION = "4"  # raise it with every change of a pixel or an annotation
SPLITS = ("train", "val", "dev")
SIZE = 128  # pixels: height and width of every image

_SEEDS = {"train": 2022, "val": 2023, "dev": 2024}
_NUM_IMAGES = {"train": 2000, "val": 480, "dev": 480}  # one in a hundred shows no object
_MOST, _LEAST = 450, 3  # training images of the most frequent and the rarest class
_BALANCED = 24  # val and dev images of every class

_COLOURS = {
    "red": (200, 60, 60),
    "green": (60, 170, 70),
    "blue": (65, 85, 205),
    "yellow": (205, 185, 60),
    "purple": (160, 65, 185),
}
_PATTERNS = ("plain", "striped", "dotted")
_SHAPES = ("disc", "triangle", "star", "cross")
_POLYGONS = {"triangle": (3, 500, 0), "star": (5, 330, 1)}
_CLASSES = list(itertools.product(_COLOURS, _PATTERNS, _SHAPES))

_UNIT = 1024  # fixed-point one: integer geometry gives the same pixels on every machine
_COS = np.rint(np.cos(np.arange(360) * np.pi / 180) * _UNIT).astype(np.int64)
_MIN_VISIBLE = 30  # percent of an object that others may not cover
_RADII = (14, 31)  # pixels, upper end excluded
_TILT = 30  # degrees to either side
_TONES = (80, 110)  # levels of 255 between a pattern's marks and its ground
_COLOUR_JITTER, _NOISE = 18, 10  # levels of 255


def make_mini_lvis(root: str | os.PathLike, split: str) -> tuple[str, str]:
    """Make one split of Mini LVIS under `root` unless it is there already; seconds, deterministic.

    Several processes may call at once. A `mini_lvis` folder of another version, or of the user's
    own, is left as it is and `mini_lvis-<VERSION>` is used beside it.

    Args:
        root: the folder of data sets (`$DETECTRON2_DATASETS`); made if missing.
        split: "train", "val" or "dev".

    Returns:
        (json_path, image_root). An image is at image_root/file_name; file_name, like the last two
        parts of coco_url, is "<split>/000001.png".

    Raises:
        DataError: unknown split, `root` cannot be written, or both folders hold something else.
    """
    if split not in SPLITS:
        raise DataError(f"Mini LVIS has no split {split!r}; it has {', '.join(SPLITS)}")
    root = os.fspath(root)
    folders = [os.path.join(root, "mini_lvis"), os.path.join(root, f"mini_lvis-{VERSION}")]
    for folder in folders:
        if _is_complete(folder, split):
            return os.path.join(folder, f"{split}.json"), folder
    try:
        os.makedirs(root, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".mini_lvis-", dir=root) as made:
            _write(made, split)
            for folder in folders:
                if _publish(made, folder, split):
                    return os.path.join(folder, f"{split}.json"), folder
    except OSError as error:
        raise DataError(
            f"cannot write Mini LVIS under {os.path.abspath(root)}: {error}; "
            "set $DETECTRON2_DATASETS to a folder with 100 MB that you can write to"
        ) from error
    raise DataError(
        f"cannot place Mini LVIS {split}: {' and '.join(folders)} hold other or damaged files; "
        "move them away or set $DETECTRON2_DATASETS to another folder"
    )


@functools.cache
def _layout(split: str) -> tuple[tuple[int, ...], ...]:
    """The class indices of the objects of every image; image counts are met exactly."""
    rng = np.random.default_rng(_SEEDS[split])
    counts = _image_counts() if split == "train" else np.full(len(_CLASSES), _BALANCED)
    num_images = _NUM_IMAGES[split]
    filled = num_images - num_images // 100
    extra = _permutation(rng, 3 * filled)[: counts.sum() - filled] % filled
    per_image = 1 + np.bincount(extra, minlength=filled)  # 1 to 4 classes
    image = np.repeat(np.arange(filled), per_image)
    label = np.repeat(np.arange(len(_CLASSES)), counts)[_permutation(rng, counts.sum())]
    while True:  # swap away what came twice to one image
        key = image * len(_CLASSES) + label
        order = np.argsort(key, kind="stable")
        twice = order[1:][np.diff(key[order]) == 0]
        if not len(twice):
            break
        for one, other in zip(twice, rng.integers(0, len(label), len(twice))):
            label[one], label[other] = label[other], label[one]
    place = _permutation(rng, num_images)
    objects: list[list[int]] = [[] for _ in range(num_images)]
    for index, cls in zip(image, label):
        objects[place[index]].append(int(cls))
    for index in np.flatnonzero(rng.integers(0, 5, num_images) == 0):
        objects[index] += objects[index][:1]  # one image in five shows a class once more
    return tuple(map(tuple, objects))


def _image_counts() -> np.ndarray:
    """Training images of every class, int64 (60,): exponential, from _MOST to _LEAST."""
    fall = np.arange(len(_CLASSES)) / (len(_CLASSES) - 1)
    curve = np.rint(_MOST * (_LEAST / _MOST) ** fall).astype(np.int64)
    # Shuffled: which class is rare has nothing to do with its colour, pattern or shape.
    return curve[_permutation(np.random.default_rng(1203), len(_CLASSES))]


def mini_lvis_categories() -> list[dict]:
    """The LVIS `categories` of all splits, counted on train; nothing is drawn or read."""
    instances = Counter(itertools.chain.from_iterable(_layout("train")))
    return [
        {
            "id": index + 1,
            "name": " ".join(cls),
            "synset": f"{'_'.join(cls)}.n.01",
            "synonyms": [" ".join(cls)],
            "def": "a {1} {2} in {0}".format(*cls),
            "image_count": images,
            "instance_count": instances[index],
            "frequency": "r" if images <= 10 else "c" if images <= 100 else "f",
        }
        for index, (cls, images) in enumerate(zip(_CLASSES, _image_counts().tolist()))
    ]


def draw_image(split: str, index: int) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Draw image `index` (from 0) of a split.

    Returns:
        pixels: uint8 (128, 128, 3), RGB.
        objects: class index and visible mask, bool (128, 128), of each, back to front. The masks
        are disjoint.
    """
    rng = np.random.default_rng([_SEEDS[split], index])
    pixels = _background(rng)
    owner = np.full((SIZE, SIZE), -1, dtype=np.int8)
    objects = _layout(split)[index]
    areas, visible = np.zeros((2, len(objects)), dtype=np.int64)
    for number, cls in enumerate(objects):
        mask, paint = _object(rng, cls)
        side = len(mask)
        while True:  # until a place is found where everything behind stays recognisable
            y, x = rng.integers(0, SIZE - side + 1, 2)
            window = owner[y : y + side, x : x + side]
            covered = np.bincount(window[mask] + 1, minlength=len(objects) + 1)[1:]
            if np.all(100 * (visible - covered) >= _MIN_VISIBLE * areas):
                break
        pixels[y : y + side, x : x + side][mask] = paint[mask]
        window[mask] = number
        areas[number] = mask.sum()
        visible -= covered
        visible[number] = areas[number]
    pixels += rng.integers(-_NOISE, _NOISE + 1, (SIZE, SIZE, 1), dtype=np.int32)
    pixels = pixels.clip(0, 255).astype(np.uint8) & 0xF8  # the low bits are noise: 40 % of the file
    return pixels, [(cls, owner == i) for i, cls in enumerate(objects)]


def _background(rng: np.random.Generator) -> np.ndarray:
    """A smooth random colour field, int32 (128, 128, 3): 16-pixel cells, bilinear in integers."""
    cell = 16
    knots = rng.integers(-12, 13, (SIZE // cell + 1, SIZE // cell + 1, 3), dtype=np.int32)
    knots += rng.integers(-25, 26, (SIZE // cell + 1, SIZE // cell + 1, 1), dtype=np.int32)
    knots += rng.integers(70, 190, dtype=np.int32) + rng.integers(-20, 21, 3, dtype=np.int32)
    low, step = np.divmod(np.arange(SIZE), cell)
    far = step.astype(np.int32)[:, None]
    columns = knots[:, low] * (cell - far) + knots[:, low + 1] * far
    rows = columns[low] * (cell - far[:, None]) + columns[low + 1] * far[:, None]
    return rows // cell**2


def _object(rng: np.random.Generator, cls: int) -> tuple[np.ndarray, np.ndarray]:
    """One object at a random size, angle and shade: mask bool (S, S), colours int64 (S, S, 3)."""
    colour, pattern, shape = _CLASSES[cls]
    radius, angle = int(rng.integers(*_RADII)), int(rng.integers(-_TILT, _TILT + 1))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    cos, sin = _COS[angle], _COS[angle - 90]
    u, v = (x * cos + y * sin) // radius, (y * cos - x * sin) // radius  # _UNIT is the radius
    base = np.array(_COLOURS[colour]) + rng.integers(-_COLOUR_JITTER, _COLOUR_JITTER + 1, 3)
    tone = rng.integers(*_TONES) * (1 - 2 * rng.integers(0, 2))  # lighter or darker
    marked = _marks(pattern, u, v)[..., None]
    return _inside(shape, u, v), np.where(marked, base + tone, base)


def _inside(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    if shape == "disc":
        return u * u + v * v <= 900**2
    if shape == "cross":
        return (abs(u) <= 330) & (abs(v) <= 960) | (abs(v) <= 330) & (abs(u) <= 960)
    # A polygon is where all its sides' half-planes meet; a pentagram is where all but one do.
    sides, inradius, may_miss = _POLYGONS[shape]
    angles = range(0, 360, 360 // sides)
    beyond = sum(u * _COS[a] + v * _COS[a - 90] > inradius * _UNIT for a in angles)
    return beyond <= may_miss


def _marks(pattern: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    if pattern == "striped":
        return u // 300 % 2 == 1
    if pattern == "dotted":
        return (u % 560 - 280) ** 2 + (v % 560 - 280) ** 2 <= 170**2
    return np.zeros(u.shape, dtype=bool)


def _write(folder: str, split: str) -> None:
    """Draw a split into `folder`: its images, then its json."""
    os.mkdir(os.path.join(folder, split))
    images: list[dict] = []
    annotations: list[dict] = []
    numbers = range(_NUM_IMAGES[split])
    child = multiprocessing.parent_process() is not None  # a rank or worker shows no bar
    for index in tqdm(numbers, f"drawing mini_lvis_{split}", delay=1, disable=child):
        pixels, objects = draw_image(split, index)
        file_name = f"{split}/{index + 1:06d}.png"
        Image.fromarray(pixels).save(os.path.join(folder, file_name), compress_level=1)
        present = {cls for cls, _ in objects}
        image = {"id": index + 1, "width": SIZE, "height": SIZE, "file_name": file_name}
        image["coco_url"] = f"http://localhost/{file_name}"  # LVIS loaders keep the last two parts
        absent = [number + 1 for number in range(len(_CLASSES)) if number not in present]
        images.append(image | {"neg_category_ids": absent, "not_exhaustive_category_ids": []})
        for cls, mask in objects:
            annotations.append(_annotation(len(annotations) + 1, index + 1, cls, mask))
    info = {"description": "Mini LVIS: drawn shapes, long-tailed", "version": VERSION}
    content = {"info": info, "licenses": [], "categories": mini_lvis_categories()}
    with open(os.path.join(folder, f"{split}.json"), "w", encoding="utf-8") as file:
        json.dump(content | {"images": images, "annotations": annotations}, file)


def _annotation(number: int, image_id: int, cls: int, mask: np.ndarray) -> dict:
    rle = mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "id": number,
        "image_id": image_id,
        "category_id": cls + 1,
        "bbox": mask_utils.toBbox(rle).tolist(),
        "area": int(mask_utils.area(rle)),
        "segmentation": {"size": [SIZE, SIZE], "counts": rle["counts"].decode("ascii")},
    }


def _permutation(rng: np.random.Generator, n: int) -> np.ndarray:
    # What permutation() draws has changed with numpy before; random() is the bit stream itself.
    return np.argsort(rng.random(n), kind="stable")


def _is_complete(folder: str, split: str) -> bool:
    """Whether `folder` holds all of this split as this version draws it."""
    try:
        with open(os.path.join(folder, f"{split}.json"), encoding="utf-8") as file:
            version = json.load(file)["info"]["version"]
        names = os.listdir(os.path.join(folder, split))
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return version == VERSION and sum(name.endswith(".png") for name in names) == _NUM_IMAGES[split]


def _publish(made: str, folder: str, split: str) -> bool:
    """Move a split from `made` to `folder`, json last; False if something else is in the way."""
    source, target = os.path.join(made, split), os.path.join(folder, split)
    try:
        os.makedirs(folder, exist_ok=True)
    except FileExistsError:  # a file
        return False
    if os.path.lexists(f"{target}.json"):
        # Another process was faster, or this is a file of someone else's.
        return _is_complete(folder, split)
    try:
        os.rename(source, target)
    except OSError:
        # Images without json: of a process between its two moves, of one that died there, or of
        # someone else. Every process draws the same bytes, so equal files can be completed.
        if not os.path.isdir(target):
            return False
        both = filecmp.dircmp(source, target, ignore=[], hide=[])
        if not len(both.same_files) == len(both.left_list) == len(both.right_list):
            return False
    os.replace(f"{source}.json", f"{target}.json")
    logger.info("made mini_lvis_%s in %s", split, folder)
    return True

"""Profiles, published counts, split lists, the order of images, augmentation, loaders."""

import numpy as np
import pytest
import torch
from iif_classification.data import (
    LabelledImages,
    build_splits,
    cut_profile,
    profile_counts,
    published,
    sources,
)
from iif_classification.data.augment import BatchAugment, cutout, random_crop
from iif_classification.data.build import build_loader
from iif_classification.data.images import read_image
from iif_classification.data.loaders import EvaluationLoader, MemoryLoader
from iif_classification.data.order import TrainOrder
from iif_classification.data.profiles import split_holdout
from PIL import Image

from iif_d2.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("largest", "classes", "imbalance", "total"),
    [
        (500, 100, 100, 10847),
        (500, 100, 50, 12608),
        (500, 100, 10, 19573),
        (5000, 10, 100, 12406),
        (5000, 10, 50, 13996),
        (5000, 10, 10, 20431),
    ],
)
def test_exponential_profiles_have_the_published_sizes(largest, classes, imbalance, total):
    counts = profile_counts("exponential", largest, classes, imbalance)
    assert counts.sum() == total
    assert counts.max() == largest and counts.min() == largest // imbalance
    assert (np.diff(counts) <= 0).all()


def test_step_profile_and_no_imbalance():
    assert profile_counts("step", 500, 100, 100).tolist() == [500] * 50 + [5] * 50
    assert profile_counts("exponential", 500, 10, 1).tolist() == [500] * 10
    with pytest.raises(ConfigError, match="without any"):
        profile_counts("exponential", 50, 10, 100)
    with pytest.raises(ConfigError, match="IMBALANCE"):
        profile_counts("exponential", 50, 10, 0.1)


def test_cut_keeps_counts_and_its_seed_decides_which():
    labels = np.arange(40) % 4
    counts = np.array([10, 5, 2, 1])
    kept = cut_profile(labels, counts, seed=0)
    assert np.bincount(labels[kept]).tolist() == counts.tolist()
    assert len(set(kept.tolist())) == 18
    assert np.array_equal(kept, cut_profile(labels, counts, seed=0))
    assert not np.array_equal(kept, cut_profile(labels, counts, seed=1))
    with pytest.raises(DataError, match="as_is"):
        cut_profile(labels, np.array([11, 1, 1, 1]), seed=0)


def test_holdout_takes_from_every_class_that_can_spare_one():
    labels = np.repeat([0, 1, 2, 3], [50, 5, 2, 1])
    kept, held = split_holdout(labels, 0.1, seed=0)
    assert np.bincount(labels[held], minlength=4).tolist() == [5, 1, 1, 0]
    assert sorted([*kept, *held]) == list(range(58))


def cifar100(counts, test=100, seed=0):
    labels = np.repeat(np.arange(100), counts)
    names = tuple(f"c{i}" for i in range(100))
    train = LabelledImages(names, labels, [f"train/{i}" for i in range(len(labels))])
    labels = np.repeat(np.arange(100), test)
    return train, LabelledImages(names, labels, [f"test/{i}" for i in range(len(labels))])


def test_published_counts_are_checked():
    counts = profile_counts("exponential", 500, 100, 100)
    train, test = cifar100(counts)
    published.check_published("cifar100_lt", 100, "exponential", train, None, test)
    with pytest.raises(DataError, match="10847 training images, published 12608"):
        published.check_published("cifar100_lt", 50, "exponential", train, None, test)
    with pytest.raises(DataError, match="9900 test images, published 10000"):
        published.check_published("cifar100_lt", 100, "as_is", *cifar100(counts, 99)[:1], None,
                                  cifar100(counts, 99)[1])  # fmt: skip
    counts[[3, 4]] += [1, -1]
    with pytest.raises(DataError, match="not those of the profile"):
        published.check_published(
            "cifar100_lt", 100, "exponential", cifar100(counts)[0], None, test
        )
    with pytest.raises(DataError, match="100 classes, published 1000.*115846"):
        published.check_published("imagenet_lt", 1, "as_is", train, None, test)


def test_cifar_files_are_cut_as_in_the_ldam_release(monkeypatch, config):
    class Files:
        classes = [f"c{i}" for i in range(4)]

        def __init__(self, root, train, download):
            generator = np.random.RandomState(int(train))
            self.data = generator.randint(0, 256, (80, 32, 32, 3), dtype=np.uint8)
            self.targets = (np.arange(80) % 4).tolist()

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Files)
    cfg = config("DATA.SOURCE", "cifar10", "DATA.PROFILE", "exponential", "DATA.IMBALANCE", 10)
    splits = build_splits(cfg.DATA)
    assert splits.train.counts().tolist() == [20, 9, 4, 2]
    np.random.seed(0)
    indices = []
    for label, count in enumerate([20, 9, 4, 2]):
        positions = np.where(np.arange(80) % 4 == label)[0]
        np.random.shuffle(positions)
        indices.extend(positions[:count])
    assert splits.train.names == [f"train/{i}" for i in indices]
    pixels = torch.from_numpy(Files(None, True, False).data[indices]).permute(0, 3, 1, 2)
    assert torch.equal(splits.train.pixels, pixels)


def test_image_folder_counts_hash_and_frequency(config):
    splits = build_splits(config().DATA)
    assert splits.train.counts().tolist() == [120, 60, 30, 20, 10, 5]
    assert len(splits.test) == 54 and splits.val is None
    frequency = splits.train.frequency()
    assert frequency.num_images == 245 and frequency.instance_count is None
    assert splits.digests()["train"] == build_splits(config().DATA).digests()["train"]
    assert splits.train.subset(np.arange(244)).digest() != splits.train.digest()


def test_split_list_is_read_and_its_faults_are_named(rendered, tmp_path, config):
    good = tmp_path / "train.txt"
    good.write_text("train/class_0/000.png 0\ntrain/class_1/000.png 1\n")
    images = sources.read_list(str(good), rendered)
    assert images.labels.tolist() == [0, 1]
    assert images.decoded(32).pixels.shape == (2, 3, 32, 32)
    for text, message in (
        ("train/class_0/000.png zero\n", "line 1"),
        ("train/class_0/000.png 0\ntrain/class_0/000.png 1\n", "2 times"),
        ("train/class_0/000.png 0\ntrain/class_0/001.png 2\n", "no image of class 1"),
        ("train/class_0/nowhere.png 0\n", "does not exist"),
        ("", "is empty"),
    ):
        bad = tmp_path / "bad.txt"
        bad.write_text(text)
        with pytest.raises(DataError, match=message):
            sources.read_list(str(bad), rendered)
    with pytest.raises(DataError, match="label 1, but training has 1 classes"):
        sources.read_list(str(good), rendered, ["only"])
    shared = ("DATA.SOURCE", "list", "DATA.TRAIN", str(good), "DATA.TEST", str(good))
    with pytest.raises(ConfigError, match="2 images are in both DATA.TRAIN and DATA.TEST"):
        build_splits(config(*shared).DATA)


def test_broken_image_is_named(rendered, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    images = LabelledImages(("a",), np.zeros(1, dtype=np.int64), ["broken.png"], [str(path)])
    with pytest.raises(DataError, match="broken.png"):
        images.decoded(32)
    missing = LabelledImages(("a",), images.labels, ["x.png"], [str(tmp_path / "x.png")])
    with pytest.raises(DataError, match="x.png does not exist"):
        missing.decoded(32)
    with pytest.raises(DataError, match="nowhere cannot be read"):
        sources.read_folder(str(tmp_path / "nowhere"))
    (tmp_path / "broken").mkdir()
    with pytest.raises(DataError, match="holds no"):
        sources.read_folder(str(tmp_path))


def test_ranks_share_an_epoch_without_overlap():
    orders = [TrainOrder(103, 20, seed=3, rank=rank, world_size=2) for rank in range(2)]
    whole = TrainOrder(103, 20, seed=3).epoch(7)
    assert whole.shape == (5, 20)
    assert torch.equal(torch.cat([order.epoch(7) for order in orders], dim=1), whole)
    assert len(set(whole.flatten().tolist())) == 100
    assert not torch.equal(whole, TrainOrder(103, 20, seed=3).epoch(8))
    with pytest.raises(ConfigError, match="divide"):
        TrainOrder(103, 21, seed=3, world_size=2)
    with pytest.raises(ConfigError, match="103 images"):
        TrainOrder(103, 128, seed=3)


def test_crop_and_cutout_move_pixels_and_nothing_else():
    torch.manual_seed(0)
    images = torch.randint(1, 255, (200, 3, 32, 32), dtype=torch.uint8)
    cropped = random_crop(images, 4)
    padded = torch.nn.functional.pad(images, [4] * 4)
    for image, source in zip(cropped[:20], padded[:20]):
        windows = source.unfold(1, 32, 1).unfold(2, 32, 1)
        assert (windows == image[:, None, None]).all(-1).all(-1).all(0).any()
    cut = cutout(images, 16)
    black = cut == 0
    assert torch.equal(cut[~black], images[~black])
    assert torch.equal(black.all(1), black.any(1))
    area = black[:, 0].sum((1, 2))
    assert area.max() == 256 and 64 <= area.min() < 256


def test_augmentation_is_the_same_for_the_same_seed_and_leaves_the_source():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)
    before = images.clone()
    augment = BatchAugment(4, True, "cifar10", 16)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(augment(images))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
    assert results[0].dtype == torch.uint8 and torch.equal(images, before)


def test_memory_batches_from_the_middle_are_those_of_the_whole_epoch(config):
    splits = build_splits(config().DATA)
    loader = build_loader(config(), splits.train, torch.device("cpu"))
    assert isinstance(loader, MemoryLoader)
    state = torch.get_rng_state()
    whole = list(loader.batches(3))
    assert torch.equal(torch.get_rng_state(), state)  # loading draws nothing from the trainer
    assert len(whole) == loader.order.steps == 245 // 32
    loader.batches_per_chunk = 7
    for (images, labels), (other, same) in zip(whole[5:], loader.batches(3, start=5)):
        assert torch.equal(images, other) and torch.equal(labels, same)


def test_disk_batches_do_not_depend_on_workers(config):
    epochs = []
    for workers in (0, 2):
        cfg = config("DATA.IN_MEMORY", False, "DATA.WORKERS", workers, "DATA.IMAGE_SIZE", 24)
        splits = build_splits(cfg.DATA)
        epochs.append(list(build_loader(cfg, splits.train, torch.device("cpu")).batches(1, 4)))
    assert len(epochs[0]) == 3
    for (images, labels), (other, same) in zip(*epochs):
        assert images.shape == (32, 3, 24, 24) and images.dtype == torch.uint8
        assert torch.equal(images, other) and torch.equal(labels, same)


def test_every_test_image_is_on_one_rank(config):
    test = build_splits(config().DATA).test.decoded(32)
    for world_size in (1, 2, 5, 60):
        loaders = [EvaluationLoader(test, 8, rank, world_size) for rank in range(world_size)]
        indices = torch.cat([loader.indices for loader in loaders])
        assert sorted(indices.tolist()) == list(range(54))
        labels = torch.cat([labels for loader in loaders for _, labels in loader])
        assert torch.bincount(labels).tolist() == [9] * 6


def test_pixels_of_sixteen_bits_are_refused(tmp_path):
    """Pillow would make them white."""
    path = str(tmp_path / "deep.png")
    Image.fromarray(np.full((8, 8), 999, np.uint16)).save(path)
    with pytest.raises(DataError, match="deep.png has pixels of 16 bits.*; scale"):
        read_image(path)

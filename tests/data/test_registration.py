"""Metadata hooks: lazy, once, and for anybody's data set."""

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.detection_utils import get_fed_loss_cls_weights

from iif_d2 import count_class_frequency, register_long_tail_instances
from iif_d2.data import attach_class_frequency, registration
from iif_d2.errors import ConfigError
from iif_d2.evaluation.lvis_evaluation import dataset_ground_truth

from ..conftest import CATEGORY_IDS, CLASS_NAMES, make_dataset


@pytest.fixture
def counting(monkeypatch):
    """The names counted so far."""
    names = []
    count = registration.count_class_frequency
    monkeypatch.setattr(
        registration, "count_class_frequency", lambda name: names.append(name) or count(name)
    )
    return names


@pytest.fixture
def forget():
    """Names to take out of the catalogs afterwards."""
    names = []
    yield names
    for name in names:
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)


def test_registering_reads_nothing_and_the_first_use_counts_once(tmp_path, counting, forget):
    forget.append("late")
    register_long_tail_instances("late", str(tmp_path / "lvis.json"), str(tmp_path))
    metadata = MetadataCatalog.get("late")
    make_dataset(tmp_path)  # only now are there files
    assert not counting
    expected = count_class_frequency(str(tmp_path / "lvis.json"))
    assert metadata.class_frequency == expected and counting == ["late"]
    assert metadata.class_image_count == [
        {"id": id_, "image_count": n} for id_, n in zip(CATEGORY_IDS, expected.image_count.tolist())
    ]
    assert metadata.class_frequency is metadata.class_frequency and counting == ["late"]
    assert metadata.thing_classes == list(CLASS_NAMES)
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 5: 1, 6: 2, 11: 3}


def test_detectron2s_fed_loss_works_on_it(dataset_name):
    frequency = count_class_frequency(dataset_name)
    weights = get_fed_loss_cls_weights([dataset_name], 0.5)
    assert torch.equal(weights, torch.tensor(frequency.image_count).float() ** 0.5)


@pytest.mark.parametrize("name", ["lvis_v1_train", "lvis_v0.5_train", "coco_2017_train"])
def test_builtin_data_sets_know_their_counts_without_files(name):
    weights = get_fed_loss_cls_weights([name], 1.0)
    assert weights.sum() == count_class_frequency(name).image_count.sum()


def test_somebody_elses_data_set_is_hooked_in_place(tmp_path, counting, forget):
    path, root = make_dataset(tmp_path, lvis=False)
    forget += ["plain_coco", "plain_function"]
    register_coco_instances("plain_coco", {}, str(path), str(root))
    held = MetadataCatalog.get("plain_coco")
    attach_class_frequency("plain_coco")
    assert not counting
    assert held.class_frequency == count_class_frequency(str(path))
    # One that is a function, with no json behind it.
    dicts = DatasetCatalog.get("plain_coco")
    DatasetCatalog.register("plain_function", lambda: dicts)
    MetadataCatalog.get("plain_function").thing_classes = list(CLASS_NAMES)
    attach_class_frequency("plain_function")
    assert MetadataCatalog.get("plain_function").class_frequency == held.class_frequency
    with pytest.raises(AttributeError, match="no_such_key"):
        held.no_such_key  # noqa: B018


def test_the_same_again_is_fine_and_other_data_is_refused(dataset, dataset_name):
    register_long_tail_instances(dataset_name, *map(str, dataset))
    with pytest.raises(ConfigError, match="'tiny_lvis' is registered already"):
        register_long_tail_instances(dataset_name, "other.json", str(dataset[1]))


def test_several_training_sets_add_up(dataset_name, tiny_cfg):
    from iif_d2.data import config_frequency

    cfg = tiny_cfg(
        "mask_rcnn_R_18_FPN_iif", "DATASETS.TRAIN", f"('{dataset_name}', '{dataset_name}')"
    )
    once = count_class_frequency(dataset_name)
    both = config_frequency(cfg).resolve()
    assert both.image_count.tolist() == (2 * once.image_count).tolist()
    assert both.num_images == 2 * once.num_images


def test_frequency_may_be_a_saved_file_or_an_annotation_json(
    dataset, dataset_name, tiny_cfg, tmp_path
):
    from iif_d2.data import config_frequency
    from iif_d2.frequency import ClassFrequency

    counted = count_class_frequency(dataset_name)
    counted.save(tmp_path / "saved.json")
    for source in (tmp_path / "saved.json", dataset[0]):
        cfg = tiny_cfg("mask_rcnn_R_18_FPN_iif", "MODEL.LONG_TAIL.FREQUENCY", str(source))
        assert config_frequency(cfg).resolve() == counted
    other = ClassFrequency(CLASS_NAMES[::-1], counted.image_count, None, counted.num_images)
    other.save(tmp_path / "saved.json")
    cfg = tiny_cfg(
        "mask_rcnn_R_18_FPN_iif", "MODEL.LONG_TAIL.FREQUENCY", str(tmp_path / "saved.json")
    )
    with pytest.raises(ConfigError, match="of other classes than tiny_lvis: class 0 is 'never'"):
        config_frequency(cfg).resolve()


OTHER_ORDER = {
    "own map": {"thing_dataset_id_to_contiguous_id": {3: 2, 5: 0, 6: 1, 11: 3}},
    "own names": {"thing_classes": ["disc", "bar", "square", "never"]},
    "fewer names": {"thing_classes": ["square", "disc"]},
    "fewer ids": {"thing_dataset_id_to_contiguous_id": {3: 0, 5: 1}},
}


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("metadata", OTHER_ORDER.values(), ids=OTHER_ORDER.keys())
def test_another_order_of_classes_is_refused_by_all(dataset, forget, metadata, later):
    """Counting, training and evaluation mean the same class by a number, or none of them works."""
    forget.append("reordered")
    register_long_tail_instances("reordered", *map(str, dataset), {} if later else metadata)
    if later:
        MetadataCatalog.get("reordered").set(**metadata)
    for use in (count_class_frequency, DatasetCatalog.get, dataset_ground_truth):
        with pytest.raises(ConfigError, match="'reordered' contradict .*; leave that key out"):
            use("reordered")


def test_the_same_order_and_other_words_are_taken(dataset, forget):
    forget += ["said_again", "translated"]
    same = {"thing_dataset_id_to_contiguous_id": {11: 3, 3: 0, 5: 1, 6: 2},
            "thing_classes": list(CLASS_NAMES)}  # fmt: skip
    words = {"thing_classes": ["carré", "disque", "barre", "jamais"]}
    for name, metadata in (("said_again", same), ("translated", words)):
        register_long_tail_instances(name, *map(str, dataset), metadata)
        assert len(DatasetCatalog.get(name)) == len(dataset_ground_truth(name))
        assert count_class_frequency(name).same_counts(count_class_frequency(str(dataset[0])))


def test_ones_own_loader_may_have_its_own_order(dataset, dataset_name, forget):
    """Its dicts decide; they are counted, and evaluation goes by its map."""
    forget.append("own_loader")
    numbers = [2, 0, 1, 3]  # of the json's classes

    def load():
        return [
            {**r, "annotations": [{**a, "category_id": numbers[a["category_id"]]} for a in r["annotations"]]}
            for r in DatasetCatalog.get(dataset_name)
        ]  # fmt: skip

    DatasetCatalog.register("own_loader", load)
    MetadataCatalog.get("own_loader").set(
        json_file=str(dataset[0]),
        thing_classes=["disc", "bar", "square", "never"],
        thing_dataset_id_to_contiguous_id=dict(zip(CATEGORY_IDS, numbers)),
    )
    counted = count_class_frequency("own_loader")
    by_json = count_class_frequency(str(dataset[0]))
    assert counted.image_count[numbers].tolist() == by_json.image_count.tolist()
    names = [category.name for category in dataset_ground_truth("own_loader").categories]
    assert names == list(counted.class_names) == ["disc", "bar", "square", "never"]

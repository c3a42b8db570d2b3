"""Counting from typed decoding: equal to counting what `json.load` gives."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iif_d2 import count_class_frequency
from iif_d2.annotations.reading import read_labels
from iif_d2.errors import DataError

NASTY = ('"}, {"', '}, {"image_id": 7, "category_id": 1}]', '"annotations": [{', "é\\", "")
FILLERS = st.one_of(
    st.sampled_from(NASTY),
    st.sampled_from([[{"a": 1}, {"b": [{}]}], {"annotations": [{"image_id": 1}]}, [{}], None, 3]),
)
IDS = st.sampled_from([1, 2, 5, 2**40, 2**70, -3])


@st.composite
def files(draw) -> dict:
    """Annotation files with strings and nested lists that look like their own parts."""
    image_ids = draw(st.lists(st.one_of(IDS, st.sampled_from("1a")), min_size=1, max_size=5))
    category_ids = draw(st.lists(IDS, min_size=1, max_size=4))
    annotations = [
        {"note": draw(FILLERS), "image_id": draw(st.sampled_from(image_ids)), "more": draw(FILLERS),
         "category_id": draw(st.sampled_from(category_ids)), "end": draw(FILLERS)}
        for _ in range(draw(st.integers(0, 12)))
    ]  # fmt: skip
    if draw(st.integers(0, 9)) == 0 and annotations:
        odd = st.sampled_from(["1", 99, 1.0, 1.5, True, None, 2**70, {}])
        annotations[-1][draw(st.sampled_from(["image_id", "category_id"]))] = draw(odd)
    content = {
        "info": draw(FILLERS),
        "images": [{"id": i, "note": draw(FILLERS)} for i in image_ids],
        "annotations": annotations,
        "categories": [{"id": i, "name": draw(st.sampled_from("ab ")), "x": draw(FILLERS)}
                       for i in category_ids],
        "extra": draw(FILLERS),
    }  # fmt: skip
    return {key: content[key] for key in draw(st.permutations(list(content)))}


def outcome(path) -> tuple | None:
    """Names, counts and images; None for a refusal, which names the file."""
    try:
        found = count_class_frequency(str(path))
    except DataError as error:
        assert str(path) in str(error)
        return None
    counts = found.image_count.tolist(), found.instance_count.tolist()
    return found.class_names, *counts, found.num_images


def plain_outcome(path) -> tuple | None:
    """The same by `json.load`."""
    try:
        content = json.loads(path.read_text())
    except ValueError:
        return None
    labels = [(a["image_id"], a["category_id"]) for a in content["annotations"]]
    images = [image["id"] for image in content["images"]]
    categories = sorted(content["categories"], key=lambda category: category["id"])
    ids = [category["id"] for category in categories]
    sound = (
        len(set(images)) == len(images) and len(set(ids)) == len(ids)
        and all(category["name"].strip() for category in categories)
        and all(type(i) in (int, float, str) and i in images for i, _ in labels)
        and all(type(c) in (int, float, str) and c in ids for _, c in labels)
    )  # fmt: skip
    if not sound:
        return None
    by_image = [len({i for i, c in labels if c == id}) for id in ids]
    by_object = [sum(c == id for _, c in labels) for id in ids]
    return tuple(c["name"] for c in categories), by_image, by_object, len(images)


@settings(max_examples=200, deadline=None)
@given(files(), st.sampled_from([None, 0, 1]), st.booleans())
def test_files_are_counted_as_json_load_reads_them(tmp_path_factory, content, indent, cut):
    path = tmp_path_factory.mktemp("labels") / "file.json"
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    path.write_text(text[: len(text) * 2 // 3] if cut and len(text) % 5 == 0 else text)
    assert outcome(path) == plain_outcome(path)


@pytest.mark.parametrize("twice_first", [True, False])
def test_a_list_that_is_there_twice_is_counted_as_json_means_it(tmp_path, twice_first):
    lists = [json.dumps([{"image_id": 1, "category_id": c}] * 3) for c in (1, 2)]
    if not twice_first:
        lists.reverse()
    path = tmp_path / "twice.json"
    path.write_text(
        f'{{"annotations": {lists[0]}, "images": [{{"id": 1}}], "annotations": {lists[1]}, '
        '"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}'
    )
    assert outcome(path) == plain_outcome(path) != None  # noqa: E711


def test_labels_are_places_in_the_order_of_the_file(tmp_path):
    pairs = [(i % 7, i * i % 5) for i in range(100)]
    content = {
        "annotations": [
            {"image_id": i, "category_id": c, "segmentation": {"counts": "}, {"}, "bbox": [1, 2]}
            for i, c in pairs
        ],
        "images": [{"id": i} for i in range(7)],
        "categories": [{"id": c, "name": str(c)} for c in reversed(range(5))],
    }
    path = tmp_path / "usual.json"
    path.write_text(json.dumps(content) + "\n")
    labels = read_labels(path)
    assert [category.id for category in labels.categories] == [0, 1, 2, 3, 4]
    assert list(zip(labels.images.tolist(), labels.classes.tolist())) == pairs
    assert labels.num_images == 7

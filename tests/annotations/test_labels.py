"""Counting without a look at each annotation: equal to counting record by record."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iif_d2 import count_class_frequency
from iif_d2.annotations import json_parts, labels
from iif_d2.errors import DataError

NASTY = ('"}, {"', '}, {"image_id": 7, "category_id": 1}]', '"annotations": [{', "é\\", "")
FILLERS = st.one_of(
    st.sampled_from(NASTY),
    st.sampled_from([[{"a": 1}, {"b": [{}]}], {"annotations": [{"image_id": 1}]}, [{}], None, 3]),
)
IDS = st.sampled_from([1, 2, 5, 2**40, -3])


@st.composite
def files(draw) -> dict:
    """Annotation files with strings and nested lists that look like their own parts."""
    image_ids = draw(st.lists(IDS, min_size=1, max_size=5))
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


def outcome(path) -> tuple:
    try:
        found = count_class_frequency(str(path))
    except DataError as error:
        return "error", str(error)
    counts = found.image_count.tolist(), found.instance_count.tolist()
    return found.class_names, counts, found.num_images


def record_by_record(path) -> tuple:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "read_places", labels.places_by_record)
        return outcome(path)


@settings(max_examples=150, deadline=None)
@given(
    files(), st.sampled_from([None, 0, 1]), st.sampled_from([8, 64, 300, 1 << 20]), st.booleans()
)
def test_columns_count_as_records_do(tmp_path_factory, content, indent, part, cut):
    path = tmp_path_factory.mktemp("labels") / "file.json"
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    path.write_text(text[: len(text) * 2 // 3] if cut and len(text) % 5 == 0 else text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_parts, "_PART", part)
        assert outcome(path) == record_by_record(path)


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
    assert outcome(path) == record_by_record(path)


@pytest.mark.parametrize("end", ["", "\n"])
def test_usual_files_take_the_fast_way_in_many_parts(tmp_path, monkeypatch, end):
    monkeypatch.setattr(json_parts, "_PART", 200)
    pairs = [(i % 7, i * i % 5) for i in range(100)]
    content = {
        "annotations": [
            {"image_id": i, "category_id": c, "segmentation": {"counts": "}, {"}, "bbox": [1, 2]}
            for i, c in pairs
        ],
        "images": [{"id": i} for i in range(7)],
        "categories": [{"id": c, "name": str(c)} for c in range(5)],
    }
    path = tmp_path / "usual.json"
    path.write_text(json.dumps(content) + end)
    columns = labels.label_columns(str(path))
    assert list(zip(columns.image_ids.tolist(), columns.category_ids.tolist())) == pairs
    assert outcome(path) == record_by_record(path)

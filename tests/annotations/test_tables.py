"""Label tables, counted out of core, against counts made otherwise."""

import subprocess
import sys

import numpy as np
import pytest

from iif_d2 import count_class_frequency
from iif_d2.annotations.tables import count_table
from iif_d2.errors import DataError

duckdb = pytest.importorskip("duckdb")

ROWS = [(1, "cat"), (1, "cat"), (1, "dog"), (2, "dog"), (7, None), (9, "dog")]
FORMATS = ["a.parquet", "a.csv", "a.csv.gz", "a.tsv", "a.jsonl", "od[d]*.csv", "o'quote.parquet"]


def write(path, rows=ROWS, columns="image_id, category"):
    format = {"parquet": "PARQUET", "jsonl": "JSON"}.get(path.suffix[1:], "CSV")
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (a BIGINT, b VARCHAR)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
        connection.execute(f"CREATE VIEW v AS SELECT * FROM t AS t({columns})")
        escaped = str(path).replace("'", "''")
        connection.execute(f"COPY v TO '{escaped}' (FORMAT {format})")
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_counts(tmp_path, name):
    frequency = count_class_frequency(write(tmp_path / name))
    assert frequency.class_names == ("cat", "dog")
    assert frequency.image_count.tolist() == [1, 3]
    assert frequency.instance_count.tolist() == [2, 3]
    assert frequency.num_images == 4  # one of them without objects


def test_class_names_give_order_and_classes_that_do_not_occur(tmp_path):
    path = write(tmp_path / "a.csv", columns='"ImageID", "LabelName"')
    frequency = count_class_frequency(path, class_names=["emu", "dog", "cat"])
    assert frequency.image_count.tolist() == [0, 3, 1]


def test_numbers_are_in_their_order(tmp_path):
    rows = [(1, "10"), (2, "9"), (2, "10")]
    frequency = count_class_frequency(write(tmp_path / "a.csv", rows))
    assert frequency.class_names == ("9", "10") and frequency.image_count.tolist() == [1, 2]


@pytest.mark.parametrize(
    "columns, rows, names, message",
    [
        ("image_id, box", ROWS, None, "one column of classes.*it has none among image_id, box"),
        ("image, file_name", ROWS, None, "one column of images.*it has image, file_name"),
        ("image_id, label", [(None, "cat")], None, "1 rows without an image"),
        ("image_id, label", ROWS, ["cat"], "1 classes.*such as 'dog'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, columns, rows, names, message):
    with pytest.raises(DataError, match=message):
        count_class_frequency(write(tmp_path / "a.csv", rows, columns), names)


@pytest.mark.parametrize("name", ["none.parquet", "broken.parquet"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=name):
        count_class_frequency(tmp_path / name)


COUNT = """
import sys
from iif_d2.annotations.tables import count_table
names, images, objects, num_images = count_table(sys.argv[1], memory_limit="150MB")
print(len(names), sum(images), sum(objects), num_images)
# Not ru_maxrss, which starts at the size of the process that forked this one.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(status["VmHWM"].split()[0])
"""


def test_ten_million_rows_within_a_bound(tmp_path):
    """All pairs differ, which is the most memory that counting can need: 160 MB of ids alone."""
    path = tmp_path / "large.parquet"
    rows, images, classes = 10**7, 2_000_003, 503  # coprime: row i is image i mod a, class i mod b
    with duckdb.connect(config={"memory_limit": "1GB", "temp_directory": str(tmp_path)}) as made:
        made.execute(
            f"COPY (SELECT i % {images} AS image_id, i % {classes} AS label "
            f"FROM range({rows}) t(i)) TO '{path}' (FORMAT PARQUET)"
        )
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(path)], capture_output=True, text=True, check=True
    )
    *counts, peak = map(int, done.stdout.split())
    assert counts == [classes, rows, rows, images]
    # KiB. 278 MB were seen, 589 MB without a tight limit: Python and numpy are in it.
    assert peak < 400 * 1024


def test_class_by_class(tmp_path):
    rng = np.random.default_rng(0)
    pairs = np.stack([rng.integers(0, 100, 1000), rng.zipf(1.5, 1000) % 40], 1)
    path = write(tmp_path / "a.parquet", [(int(i), f"{c:02d}") for i, c in pairs])
    names, images, objects, num_images = count_table(str(path))
    labels = np.array([int(name) for name in names])
    assert labels.tolist() == np.unique(pairs[:, 1]).tolist()
    assert objects == [(pairs[:, 1] == c).sum() for c in labels]
    assert images == [len(set(pairs[pairs[:, 1] == c, 0])) for c in labels]
    assert num_images == len(set(pairs[:, 0]))


@pytest.mark.parametrize(
    "labels", [("true", "false"), ("007", "010"), ("2024-01-01", "NA"), ("1.0", "10.0", "2.0")]
)
def test_names_of_a_csv_keep_their_text(tmp_path, labels):
    path = tmp_path / "a.csv"
    path.write_text("image_id,category\n" + "".join(f"0{i},{n}\n" for i, n in enumerate(labels)))
    frequency = count_class_frequency(path)
    assert set(frequency.class_names) == set(labels) and frequency.num_images == len(labels)


def test_true_and_false_of_other_tables_are_spelled_as_in_json(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"image": 1, "label": true}\n{"image": 1, "label": false}\n')
    assert count_class_frequency(tmp_path / "a.jsonl").class_names == ("false", "true")


def test_spaces_around_a_name_are_no_other_class(tmp_path):
    """As some write them behind a comma; one inside a name belongs to it."""
    path = tmp_path / "t.csv"
    path.write_text(
        "image_id,category\na.jpg, cat\nb.jpg,cat\nc.jpg,cat \nd.jpg,big cat\ne.jpg, \n"
    )
    counts = count_class_frequency(str(path))
    assert counts.class_names == ("big cat", "cat")
    assert counts.image_count.tolist() == [1, 3] and counts.num_images == 5

"""Counting label tables that are too large for memory: Parquet, CSV or JSON lines, by DuckDB.

A table has one row an object, with a column of images and one of classes, as Objects365 and Open
Images are exported. Billions of rows are counted within a fixed amount of memory; what does not fit
goes to a temporary folder on disk.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from ..errors import DataError, IIFError

# All of a csv is text: a class may be called 007 or true.
_READERS = {
    ".parquet": "read_parquet(?)",
    ".csv": "read_csv(?, all_varchar = true)",
    ".tsv": "read_csv(?, all_varchar = true)",
    ".jsonl": "read_json_auto(?)",
    ".ndjson": "read_json_auto(?)",
}
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# Names of the two columns, in lower case and without underscores; LabelName is Open Images' own.
_IMAGE_COLUMNS = ("imageid", "image", "filename")
_CLASS_COLUMNS = ("category", "categoryid", "class", "classname", "label", "labelname")


def is_table(path: str) -> bool:
    """Whether the name ends as a table's does; `.csv.gz` and the like, too."""
    return _suffix(path) in _READERS


def count_table(
    path: str, class_names: Sequence[str] | None = None, memory_limit: str = "1GB"
) -> tuple[list[str], list[int], list[int], int]:
    """Count images and instances of each class.

    Args:
        path: a table with columns image_id (or image, file_name) and category (or category_id,
            class, label, LabelName), one row an object. A row without a class stands for an image
            without objects.
        class_names: the classes in contiguous order, spelled as in the table; by default those in
            the table, numbers in their order, else sorted by name.
        memory_limit: of DuckDB, in its spelling.

    Returns:
        Class names, image counts, instance counts, and the number of images.

    Raises:
        DataError: the file cannot be read, a column is missing or not the only one of its kind, a
            row has no image, or a class is not among `class_names`.
        IIFError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError:
        raise IIFError(f"counting {path} needs DuckDB: pip install duckdb") from None
    if not os.path.isfile(path):
        raise DataError(f"label table {path} does not exist")
    with tempfile.TemporaryDirectory(prefix="iif_d2-") as spill:
        with duckdb.connect(
            config={"memory_limit": memory_limit, "temp_directory": spill}
        ) as connection:
            connection.execute(f"SET enable_progress_bar = {sys.stdout.isatty()}")
            try:
                return _count(connection, path, class_names)
            except duckdb.Error as error:
                raise DataError(
                    f"label table {path} cannot be counted: {str(error).splitlines()[0]}"
                ) from error


def _count(connection: Any, path: str, class_names: Sequence[str] | None) -> tuple:
    reader = _READERS[_suffix(path)]
    describe = f"DESCRIBE SELECT * FROM {reader}"  # noqa: S608  (no text of the file's)
    columns = [row[0] for row in connection.execute(describe, [_literal(path)]).fetchall()]
    image = _column(path, columns, _IMAGE_COLUMNS, "images")
    label = _column(path, columns, _CLASS_COLUMNS, "classes")
    # Pairs first: a GROUP BY goes to disk when it must, which COUNT(DISTINCT) cannot.
    connection.execute(
        f"CREATE TEMP TABLE pairs AS SELECT {image} AS image, "  # noqa: S608  (_column quotes)
        f"nullif(trim(CAST({label} AS VARCHAR)), '') AS label, count(*) AS objects "
        f"FROM {reader} GROUP BY ALL",
        [_literal(path)],
    )
    (nowhere,) = connection.execute("SELECT sum(objects) FROM pairs WHERE image IS NULL").fetchone()
    if nowhere:
        raise DataError(f"label table {path} has {nowhere} rows without an image in {image}")
    (num_images,) = connection.execute(
        "SELECT count(*) FROM (SELECT image FROM pairs GROUP BY image)"
    ).fetchone()
    counted = connection.execute(
        "SELECT label, count(*), sum(objects) FROM pairs WHERE label IS NOT NULL "
        "GROUP BY label ORDER BY label"
    ).fetchall()
    found = {name: (int(images), int(objects)) for name, images, objects in counted}
    if class_names is not None:
        names = [str(name) for name in class_names]
    else:
        names = sorted(found, key=float) if all(map(_NUMBER.fullmatch, found)) else list(found)
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise DataError(
            f"label table {path} has {len(unknown)} classes in {label} that are not among the "
            f"{len(names)} given, such as {unknown[0]!r}"
        )
    counts = [found.get(name, (0, 0)) for name in names]
    return names, [images for images, _ in counts], [objects for _, objects in counts], num_images


def _column(path: str, columns: Sequence[str], known: Sequence[str], what: str) -> str:
    """The one column that holds images or classes, quoted for SQL."""
    fitting = [name for name in columns if name.lower().replace("_", "") in known]
    if len(fitting) != 1:
        raise DataError(
            f"label table {path} needs one column of {what}, named as one of {', '.join(known)} "
            f"(case and underscores do not matter); it has {', '.join(fitting) or 'none'} among "
            f"{', '.join(columns)}"
        )
    return '"' + fitting[0].replace('"', '""') + '"'


def _suffix(path: str) -> str:
    stem, suffix = os.path.splitext(path.lower())
    return os.path.splitext(stem)[1] if suffix in (".gz", ".zst") else suffix


def _literal(path: str) -> str:
    """A path that DuckDB does not read as a pattern of several."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in path)

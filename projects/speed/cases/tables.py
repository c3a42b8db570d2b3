"""Class counts from a Parquet table, out of core, at a fixed memory limit."""

from __future__ import annotations

import json
import os
import tempfile

from measure import Row, isolated

IMAGES, CLASSES = 2_000_003, 503  # coprime: row i is image i mod the one, class i mod the other
LIMIT = "150MB"


def run(options):
    for rows in (10**5, 10**6, 10**7, *([10**8] if options.full else [])):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "labels.parquet")
            write(path, rows)
            result = isolated("tables", "ours", path)
        yield Row(
            "counting out of core",
            f"{rows:,} rows, DuckDB's limit {LIMIT}",
            [result["seconds"]],
            ours_memory=result["memory"],
            identical=rows < IMAGES * CLASSES and result["digest"] == expected(rows),
            series="table rows",
            x=rows,
            note="against the counts by construction",
        )


def write(path: str, rows: int) -> None:
    import duckdb

    with duckdb.connect(config={"memory_limit": "1GB"}) as connection:
        connection.execute(
            f"COPY (SELECT i % {IMAGES} AS image_id, i % {CLASSES} AS label "  # noqa: S608  (our own path)
            f"FROM range({rows}) t(i)) TO '{path}' (FORMAT PARQUET)"
        )


def expected(rows: int) -> str:
    """All pairs differ, so images and objects of a class are the same."""
    counts = [rows // CLASSES + (label < rows % CLASSES) for label in range(CLASSES)]
    return json.dumps([counts, counts, min(rows, IMAGES)])


def ours(path: str):
    import duckdb  # noqa: F401  not to be timed

    from iif_d2.annotations.tables import count_table

    return lambda: count_table(path, memory_limit=LIMIT), lambda found: json.dumps(found[1:])

"""Paths that a file names are on this machine's disks."""

import pytest

from iif_d2.errors import CheckpointError, DataError
from iif_d2.files import local_path


@pytest.mark.parametrize("path", ["a.png", "../a/b.png", "/abs/a.png", "C:\\a.png", "a:b.png", ""])
def test_paths_on_disk_are_given_back(path):
    assert local_path(path, "x.json: field") == path


@pytest.mark.parametrize(
    "path",
    ["http://h/a.png", "https://h/../../a", "ftp://h/a", "detectron2://x.pkl", "s3://b/a.png",
     "catalog://x", "file:///etc/passwd", "HTTP://h/a", " http://h/a"],
)  # fmt: skip
def test_addresses_are_refused_with_what_names_them(path):
    with pytest.raises(DataError, match=r"^x.json: field is .*an address.*; download it"):
        local_path(path, "x.json: field")
    with pytest.raises(CheckpointError):
        local_path(path, "x.json: field", CheckpointError)

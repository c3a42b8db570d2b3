"""What touches a disk: files written whole, caches, locks, and strangers' files read safely."""

from .disk import (
    cached,
    check_writable,
    content_key,
    csv_text,
    hold_folder,
    read_ahead,
    replacing,
    restored_on_error,
    write_atomically,
)
from .paths import local_path, local_record

__all__ = [
    "cached",
    "check_writable",
    "content_key",
    "csv_text",
    "hold_folder",
    "local_path",
    "local_record",
    "read_ahead",
    "replacing",
    "restored_on_error",
    "write_atomically",
]

"""What touches a disk: files written whole, caches, locks, and strangers' files read safely."""

from .disk import (
    cached,
    content_key,
    csv_text,
    hold_folder,
    read_ahead,
    replacing,
    restored_on_error,
    write_atomically,
)

__all__ = [
    "cached",
    "content_key",
    "csv_text",
    "hold_folder",
    "read_ahead",
    "replacing",
    "restored_on_error",
    "write_atomically",
]

"""Pages: what one or two runs learned, and pictures side by side."""

from .gallery import pictures_page
from .report import make_report

__all__ = ["make_report", "pictures_page"]

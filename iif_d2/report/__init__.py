"""The page that shows what one or two runs learned."""

from .report import make_report

__all__ = ["make_report"]

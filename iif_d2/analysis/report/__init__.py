"""`python -m iif_d2 report`: one page that shows what one or two runs have learned."""

from .command import add_arguments, run

__all__ = ["add_arguments", "run"]

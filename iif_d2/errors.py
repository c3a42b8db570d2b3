"""The errors this package raises for bad input: each says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import errno
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

# The disk is full, over quota, over a size limit, read-only or broken: a traceback does not help.
_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO}


class IIFError(Exception):
    """Base of every error that a user's file, config or argument can cause.

    Takes one string, so that it survives pickling between data-loader workers and ranks.
    """


class DataError(IIFError):
    """An annotation file, an image or a frequency file cannot be used as it is."""


class ConfigError(IIFError):
    """A config key or an argument has a value that cannot work."""


class CheckpointError(IIFError):
    """A checkpoint does not fit the model or cannot be read."""


class DivergedError(IIFError):
    """Losses, gradients or weights are NaN or infinite."""


class UnknownNameError(ConfigError, KeyError):
    """A name is in no registry; the message lists the known ones."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes

    @classmethod
    def of(cls, kind: str, name: object, known) -> UnknownNameError:
        """The error for `name`, which is none of the `known` names of this `kind`."""
        known = list(map(str, known))
        return cls(f"unknown {kind} {name!r}; known: {', '.join(known)}{did_you_mean(name, known)}")


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """The end of a message about a name: which known one it nearly is; "" where none is near.

    Examples:
        >>> did_you_mean("softmx", ["Softmax", "IIF"])
        "; did you mean 'Softmax'?"
    """
    by_letters = {str(other).casefold(): str(other) for other in known}
    near = difflib.get_close_matches(str(name).casefold(), by_letters, n=1)
    return f"; did you mean {by_letters[near[0]]!r}?" if near else ""


EXIT_BAD_INPUT = 2  # of a program that ends with such a message


def in_words(error: BaseException) -> str | None:
    """What to tell the user about an error of this package or of the disk; None for any other.

    A data-loader worker's error brings that process's traceback, which is left out.
    """
    if isinstance(error, IIFError):
        message = str(error).strip()
        if message.startswith("Caught "):
            message = message.splitlines()[-1].partition(": ")[2]
        return message
    if isinstance(error, OSError) and error.errno in _STORAGE:
        return (
            f"{error.filename or 'a file'} cannot be written or read: {error.strerror}; what was "
            f"saved before is whole: mend this, and start again (training goes on with --resume)"
        )
    return None


@contextmanager
def built_from_config(what: str) -> Iterator[None]:
    """Raise `ConfigError` for any error of a library that builds `what`; the log has the rest."""
    try:
        yield
    except IIFError:
        raise
    except Exception as error:  # libraries assert, look up and convert what a key says
        logger.debug("%s cannot be built", what, exc_info=True)
        said = next(iter(str(error.args[0] if error.args else "").splitlines()), "")
        raise ConfigError(
            f"{what} cannot be built from this config: {type(error).__name__} {said}; correct the "
            f"key that it comes from"
        ) from error

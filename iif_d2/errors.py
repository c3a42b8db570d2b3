"""The errors this package raises for bad input: each says what is wrong, where, and what to do."""


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
    """Training came to NaN or infinite numbers."""


class UnknownNameError(ConfigError, KeyError):
    """A name that is in no registry; the message lists the known ones."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes

    @classmethod
    def of(cls, kind: str, name: object, known) -> "UnknownNameError":
        """The error for `name`, which is none of the `known` names of this `kind`."""
        return cls(f"unknown {kind} {name!r}; known: {', '.join(map(str, known))}")

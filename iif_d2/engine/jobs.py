"""Functions as jobs, by submitit: on Slurm, or as processes of this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch

from ..errors import ConfigError, DataError, IIFError

LAUNCHERS = ("slurm", "local")
# Without a word submitit ends a job of Slurm after 5 minutes, a local one after 2.
_MINUTES = {"slurm": 24 * 60, "local": 30 * 24 * 60}


class Jobs:
    """Starts jobs that end, and give their result, as functions do. Used by many threads at once.

    As a context it cancels its jobs when an interruption leaves it, such as Ctrl-C or SIGTERM; an
    error lets those that were started end.

    Args:
        launcher: one of `LAUNCHERS`.
        folder: of the jobs' files; Slurm's machines have to see it.
        options: KEY=VALUE of submitit, such as "gpus_per_node=1", "slurm_partition=long" or
            "timeout_min=600"; by default a day on Slurm, and locally a GPU where there is one.

    Raises:
        ConfigError: submitit or Slurm is not here, or an option is none.

    Examples:
        >>> with Jobs("local", "output/jobs") as jobs:
        ...     jobs.run(max, 1, 2)
        2
    """

    def __init__(self, launcher: str, folder: str, options: Sequence[str] = ()) -> None:
        try:
            import submitit
        except ImportError:
            raise ConfigError("submitit is missing: pip install 'iif_d2[slurm]'") from None
        if launcher not in LAUNCHERS:
            raise ConfigError(f"--launcher is {launcher!r}; give {' or '.join(LAUNCHERS)}")
        parameters: dict[str, Any] = {"name": "iif_d2", "timeout_min": _MINUTES[launcher]}
        if launcher == "local" and torch.cuda.is_available():
            parameters["gpus_per_node"] = 1
        parameters |= dict(map(_option, options))
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=launcher)
            self._executor.update_parameters(**parameters)
        except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
            raise ConfigError(
                f"--launcher {launcher} {' '.join(options)}: {error}; correct that"
            ) from None
        except OSError as error:
            raise DataError(f"{folder} cannot be written: {error.strerror}") from None
        self._jobs: list[Any] = []

    def __enter__(self) -> Jobs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            self.cancel()

    def run(self, function: Callable, *args: Any) -> Any:
        """What the function returns, or the `IIFError` that it raises; waits for its job.

        Raises:
            DataError: the job ended in another way; names its log.
        """
        try:
            job = self._executor.submit(_in_words, function, *args)
        except Exception as error:  # of a scheduler that refuses: its own words say why
            raise DataError(f"no job could be started: {error}; ask the scheduler") from error
        self._jobs.append(job)
        try:
            result, problem = job.result()
        except Exception as error:  # submitit's: its text is the log
            raise DataError(f"job {job.job_id} failed; see {job.paths.stderr}") from error
        if problem is not None:
            raise problem
        return result

    def cancel(self) -> None:
        """End the jobs that have not ended."""
        for job in self._jobs:
            if not job.done():
                job.cancel(check=False)


def _in_words(function: Callable, *args: Any) -> tuple[Any, IIFError | None]:
    """In the job: an error that is made for the user comes back whole."""
    # Before the time is up submitit sends SIGUSR2; a training saves and ends at SIGTERM.
    signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        return function(*args), None
    except IIFError as error:
        return None, error


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ConfigError(f"--launcher-options {text} is no KEY=VALUE; such as gpus_per_node=1")
    return key, int(value) if value.isdecimal() else value

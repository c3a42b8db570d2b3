"""What a sweep tries: test-time methods at several strengths, as the config would name them."""

from __future__ import annotations

import argparse
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import ConfigError, DataError
from ..frequency import ClassFrequency
from ..methods import NORMALIZERS, STATISTICS, VARIANTS, LongTailMethod, build_method

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """One test-time method.

    Attributes:
        family: what a curve of the plot is called.
        strength: where on the curve it lies; 0 is softmax.
        method: a registry key.
        options: the method's, named as `build_method` takes them.
    """

    family: str
    strength: float
    method: str
    options: dict = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.family} {self.strength:g}" if self.options else self.family

    def overrides(self) -> list[str]:
        """The config keys and values that apply it to a trained model."""
        node = f"MODEL.LONG_TAIL.{self.method}"
        pairs = [("MODEL.LONG_TAIL.METHOD", self.method)]
        pairs += [(f"{node}.{key.upper()}", str(value)) for key, value in self.options.items()]
        return [text for pair in pairs for text in pair]


def add_setting_arguments(parser: argparse.ArgumentParser) -> None:
    for flag, known, what in (
        ("--variants", tuple(VARIANTS), "IIF variants"),
        ("--statistics", STATISTICS, "IIF statistics"),
        ("--normalizers", NORMALIZERS, "IIF normalizers"),
    ):
        parser.add_argument(
            flag, type=_names(known), default=known, metavar="A,B", help=f"{what}, default all"
        )
    for flag, default, what in (
        ("--strengths", (0.25, 0.5, 1.0), "exponents s of IIF's factor w_c^s, in [0, 1]"),
        ("--gammas", (0.2, 0.4, 0.6, 0.8, 1.0), "NorCal's gamma"),
        ("--taus", (0.25, 0.5, 0.75, 1.0, 1.25), "tau of post-hoc logit adjustment"),
        ("--lambdas", (0.5, 1.0, 2.0, 4.0), "FRACAL's lambda, with and without class frequencies"),
    ):
        parser.add_argument(
            flag, type=_numbers, default=default, metavar="X,Y", help=f"{what}, default {default}"
        )


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        found = [name for name in text.split(",") if name]
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return found

    return read


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",") if number]


def settings(args: argparse.Namespace) -> list[Setting]:
    """Softmax, then the products of what the command line names; each once."""
    found = [Setting("Softmax", 0.0, "Softmax")]
    for variant, statistic, normalizer in itertools.product(
        args.variants, args.statistics, args.normalizers
    ):
        family = f"IIF {variant}, {statistic}"
        options = {"variant": variant, "statistic": statistic, "post_hoc": True}
        if statistic == "image":  # instances are always divided by all instances
            family += f"/{normalizer}"
            options["normalizer"] = normalizer
        found += [Setting(family, s, "IIF", {**options, "strength": s}) for s in args.strengths]
    found += [Setting("NorCal gamma", s, "NorCal", {"gamma": s}) for s in args.gammas]
    found += [
        Setting("Logit adjustment tau", s, "LogitAdjustment", {"tau": s, "post_hoc": True})
        for s in args.taus
    ]
    for family, on in (("FRACAL lambda", True), ("FRACAL lambda, dimensions alone", False)):
        found += [
            Setting(family, s, "FRACAL", {"lam": s, "with_frequency": on}) for s in args.lambdas
        ]
    return list({setting.label: setting for setting in found}.values())


def built(
    wanted: list[Setting], frequency: ClassFrequency
) -> tuple[list[Setting], list[LongTailMethod]]:
    """The settings that these frequencies allow, and their methods; a warning names the others."""
    possible, methods = [], []
    left_out: dict[str, list[str]] = {}  # the settings by the reason
    for setting in wanted:
        try:
            methods.append(build_method(setting.method, frequency, **setting.options))
        except (ConfigError, DataError) as error:
            left_out.setdefault(str(error), []).append(setting.label)
        else:
            possible.append(setting)
    for reason, labels in left_out.items():
        logger.warning("%s is left out: %s", "; ".join(labels), reason)
    return possible, methods

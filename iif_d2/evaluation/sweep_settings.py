"""What a sweep tries: test-time methods at several strengths, as the config would name them."""

from __future__ import annotations

import argparse
import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from ..errors import ConfigError, DataError, UnknownNameError
from ..frequency import ClassFrequency
from ..groups import GROUPS
from ..methods import (
    NORMALIZERS,
    STATISTICS,
    VARIANTS,
    LongTailMethod,
    build_method,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Base:
    """The method whose adjusted logits a setting takes.

    Attributes:
        method: a registry key.
        options: the method's, named as `build_method` takes them.
        trained: whether the model was trained with it, so that its config names it already.
    """

    method: str
    options: dict
    trained: bool = False

    def nodes(self) -> set[str]:
        """The methods whose config nodes it takes."""
        below = self.options.get("base")
        return {self.method} if below is None else {self.method, below}


@dataclass(frozen=True)
class Setting:
    """One test-time method.

    Attributes:
        family: what a curve of the plot is called.
        strength: where on the curve it lies, 0 being no rule at all; or that of rare, common and
            frequent classes, which lies on none.
        method: a registry key.
        options: the method's, named as `build_method` takes them; none is no rule at all.
        base: what it stands on, where it does not take the logits as they are.
    """

    family: str
    strength: float | tuple[float, ...]
    method: str
    options: dict = field(default_factory=dict)
    base: Base | None = None

    @property
    def by_group(self) -> bool:
        return isinstance(self.strength, tuple)

    @property
    def strength_text(self) -> str:
        numbers = self.strength if isinstance(self.strength, tuple) else (self.strength,)
        return "/".join(f"{number:g}" for number in numbers)

    @property
    def label(self) -> str:
        return f"{self.family} {self.strength_text}" if self.options else self.family

    def build(self, frequency: ClassFrequency) -> LongTailMethod:
        if self.base is None:
            return build_method(self.method, frequency, **self.options)
        return build_method(
            "Calibrated",
            frequency,
            base=self.base.method,
            rule=self.method,
            base_options=self.base.options,
            rule_options=self.options,
        )

    def overrides(self) -> list[str]:
        """The config keys and values that apply it to a trained model."""
        keys = {"METHOD": self.method}
        if self.base is not None:
            keys = {
                "METHOD": "Calibrated",
                "Calibrated.BASE": self.base.method,
                "Calibrated.RULE": self.method,
            }
            if not self.base.trained:
                keys |= _node(self.base.method, self.base.options)
        keys |= _node(self.method, self.options)
        return [text for key, value in keys.items() for text in (f"MODEL.LONG_TAIL.{key}", value)]


def _node(method: str, options: dict) -> dict[str, str]:
    return {f"{method}.{key.upper()}": str(value) for key, value in options.items()}


def settings(args: argparse.Namespace, sigmoid: bool = False) -> list[Setting]:
    """No rule, then the products of what the command line names; each once.

    Args:
        sigmoid: of what takes logits for sigmoids; else of what takes them for a softmax.

    Raises:
        UnknownNameError: no such variant, statistic or normalizer.
    """
    named = [
        _known(kind, given, known)
        for kind, given, known in (
            ("IIF variant", args.variants, VARIANTS),
            ("IIF statistic", args.statistics, STATISTICS),
            ("IIF normalizer", args.normalizers, NORMALIZERS),
        )
    ]
    if sigmoid:
        return [Setting("Sigmoid", 0.0, "Sigmoid"), *_fracal(args, "FRACALSigmoid")]
    found = [Setting("Softmax", 0.0, "Softmax")]
    for variant, statistic, normalizer in itertools.product(*named):
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
    found += _fracal(args, "FRACAL")
    return list({setting.label: setting for setting in found}.values())


def _known(kind: str, given: Sequence[str] | None, known: Iterable[str]) -> list[str]:
    """Those given, or all that are known."""
    for name in given or ():
        if name not in known:
            raise UnknownNameError.of(kind, name, known)
    return list(known if given is None else given)


def over_base(wanted: Sequence[Setting], base: Base) -> list[Setting]:
    """The same over a base; without those that would take its own config node."""
    free = [setting for setting in wanted if setting.method not in base.nodes()]
    return [
        replace(setting, base=base)
        if setting.options
        else replace(setting, base=base, family=f"{base.method}, as trained")
        for setting in free
    ]


def over_best(
    args: argparse.Namespace, best: Setting, dimensions: bool, frequency: ClassFrequency
) -> list[Setting]:
    """What is tried by the best IIF setting: FRACAL on top of it, and with --fit-groups its factor
    with another strength for each group of classes that is there.

    Args:
        dimensions: whether FRACAL can be tried.
    """
    found = []
    if dimensions:
        base = Base("IIF", best.options)
        for rule in _fracal(args, "FRACAL"):
            found.append(replace(rule, family=f"{rule.family}, on {best.label}", base=base))
    if args.fit_groups:
        options = {key: value for key, value in best.options.items() if key != "strength"}
        values, groups = sorted({0.0, *args.strengths}), set(frequency.groups())
        grid = itertools.product(*(values if group in groups else values[:1] for group in GROUPS))
        for each in grid:
            if (
                len({s for s, group in zip(each, GROUPS) if group in groups}) > 1
            ):  # else one for all
                by_group = {**options, "group_strength": each}
                found.append(Setting(f"{best.family}, by group", each, "IIF", by_group))
    return found


def _fracal(args: argparse.Namespace, method: str) -> list[Setting]:
    return [
        Setting(family, s, method, {"lam": s, "with_frequency": on})
        for family, on in (("FRACAL lambda", True), ("FRACAL lambda, dimensions alone", False))
        for s in args.lambdas
    ]


def built(
    wanted: list[Setting], frequency: ClassFrequency
) -> tuple[list[Setting], list[LongTailMethod]]:
    """The settings that these frequencies allow, and their methods; a warning names the others."""
    possible, methods = [], []
    left_out: dict[str, list[str]] = {}  # the settings by the reason
    for setting in wanted:
        try:
            methods.append(setting.build(frequency))
        except (ConfigError, DataError) as error:
            left_out.setdefault(str(error), []).append(setting.label)
        else:
            possible.append(setting)
    for reason, labels in left_out.items():
        logger.warning("%s is left out: %s", "; ".join(labels), reason)
    return possible, methods

"""The commands: a file is one, with `add_arguments(parser)` and `run(args)`; see `main`."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from ..errors import in_words

# A command is a module with add_arguments(parser) and run(args), which returns what to print.
COMMANDS = {
    "benchmark": ("benchmark", "train and compare every method on mini_lvis"),
    "check-data": ("check_data", "what of a data set is on disk, and whether it is right"),
    "config": ("config", "print the config keys, with defaults and meanings"),
    "convert": ("convert", "ImageNet weights of torchvision or timm for Detectron2"),
    "demo": ("demo", "draw what a trained model finds on pictures"),
    "export": ("export", "write a trained model as TorchScript or ONNX"),
    "fold": ("fold", "write a trained model for plain Detectron2"),
    "frequency": ("frequency", "count a data set's classes"),
    "report": ("report", "show what one or two runs learned, as one html page"),
    "sweep": ("sweep", "score many test-time settings in one pass over a held-out set"),
    "summary": ("summary", "print a run's result table and where its files lie"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0, or 2 after printing what was wrong with the input."""
    parser = argparse.ArgumentParser(prog="python -m iif_d2", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    argv = sys.argv[1:] if argv is None else argv
    for name, (module, what) in COMMANDS.items():
        command = commands.add_parser(name, help=what, description=what)
        if name in argv[:1]:  # the others' imports are not needed
            import_module(f"{__package__}.{module}").add_arguments(command)
    args = parser.parse_args(argv)
    try:
        print(import_module(f"{__package__}.{COMMANDS[args.command][0]}").run(args))
    except Exception as error:
        message = in_words(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return 2
    return 0

"""The commands: a file is one; see `COMMANDS`, and `main`, which runs them."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from .. import __version__
from ..errors import EXIT_BAD_INPUT, did_you_mean, in_words
from ..user_modules import add_import_argument, import_modules
from .arguments import closed_by, parse
from .own_data import register_beside

# A command is a module with EXAMPLE, a command line that ends its help, add_arguments(parser) and
# run(args), which returns what to print, or that and an exit code. Its imports of torch and
# Detectron2 stand in functions: --help does not wait for them.
COMMANDS = {
    "train": ("train", "train or resume a model, as train_net.py does"),
    "eval": ("eval", "evaluate a trained model, as train_net.py --eval-only does"),
    "compare": ("compare", "train and compare methods on your data, over seeds, in one table"),
    "data": ("data", "convert, split or check annotations: COCO, LVIS, YOLO, Pascal VOC"),
    "config": ("config", "print the config keys, with defaults and meanings"),
    "convert": ("convert", "ImageNet weights of torchvision or timm for Detectron2"),
    "demo": ("demo", "draw what a trained model finds on pictures"),
    "export": ("export", "write a trained model as TorchScript or ONNX"),
    "fold": ("fold", "write a trained model for plain Detectron2"),
    "frequency": ("frequency", "count a data set's classes"),
    "package": ("package", "write a trained model as a folder, in the Hugging Face layout"),
    "predict": ("predict", "find things on pictures by a checkpoint alone, draw and write them"),
    "report": ("report", "show what one or two runs learned, as one html page"),
    "retrain-head": ("retrain_head", "train a detector's box classifier anew by any method"),
    "sweep": ("sweep", "score many test-time settings in one pass over a held-out set"),
    "summary": ("summary", "print a run's result table and where its files lie"),
}

# Names of an earlier version: they work, and no help shows them.
_OLD = {"check-data": ["data", "check"]}

_ENDINGS = """\
exit codes: 0 done; 2 the input or the command line is wrong, and a sentence says how; 1 a check has
found something, or the code has a fault; 130 Ctrl-C
completion in bash and zsh: pip install argcomplete, then
  eval "$(register-python-argcomplete iif-d2)"
example:
  iif-d2 demo"""


def main(argv: list[str] | None = None) -> int:
    """Run one command: 0 or its own code, 2 with what was wrong with the input, 130 after Ctrl-C.

    1 is left to a check that has found something, and to a fault of the code, with its traceback.
    Where nobody reads on, as in `| head`, it ends in silence with 141, as other programs do.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        if "_ARGCOMPLETE" in os.environ:
            _complete()
        argv = [*_OLD.get(argv[0], argv[:1]), *argv[1:]] if argv else argv
        name = _command(argv[:1])
        command, about = _about(name)
        parser = argparse.ArgumentParser(prog=f"iif-d2 {name}", **about)
        command.add_arguments(parser)
        args = parse(add_import_argument(parser), argv[1:])
        import_modules(args.imports)
        register_beside(args)
        said = command.run(args)
        said, code = said if isinstance(said, tuple) else (said, 0)
        if said is not None:
            print(said, flush=True)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's last flush
        return 141
    except Exception as error:
        message = in_words(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return code


def _about(name: str) -> tuple[ModuleType, dict[str, Any]]:
    """A command's module, and what its parser is made with."""
    module, what = COMMANDS[name]
    command = import_module(f"{__package__}.{module}")
    return command, {"description": f"{what}.", **closed_by(command.EXAMPLE)}


def _command(first: list[str]) -> str:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="iif-d2",
        description=f"Long-tailed detection on Detectron2. Each command has --help:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_ENDINGS,
    )
    parser.add_argument("--version", action="version", version=f"iif-d2 {__version__}")
    parser.add_argument("command", type=_known, metavar="command")
    return parser.parse_args(first).command


def _known(name: str) -> str:
    if name not in COMMANDS:
        near = did_you_mean(name, COMMANDS) or "; --help lists the commands"
        raise argparse.ArgumentTypeError(f"invalid choice: {name!r}{near}")
    return name


def _complete() -> None:
    """Answer a shell that has been given `register-python-argcomplete iif-d2`, and exit."""
    import argcomplete

    parser = argparse.ArgumentParser(prog="iif-d2")
    parser.add_argument("--version", action="store_true")
    commands = parser.add_subparsers(dest="command")
    for name in COMMANDS:
        command, about = _about(name)
        command.add_arguments(add_import_argument(commands.add_parser(name, **about)))
    argcomplete.autocomplete(parser)

"""The commands: a file is one, with `add_arguments(parser)` and `run(args)`; see `main`."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

from ..errors import in_words
from ..user_modules import add_import_argument, import_modules
from .arguments import parse

# A command is a module with add_arguments(parser) and run(args), which returns what to print, or
# that and an exit code. Its imports of torch and Detectron2 stand in functions: --help does not
# wait for them.
COMMANDS = {
    "train": ("train", "train or resume a model, as train_net.py does"),
    "eval": ("eval", "evaluate a trained model, as train_net.py --eval-only does"),
    "compare": ("compare", "train and compare methods on your data, over seeds, in one table"),
    "check-data": ("check_data", "what of a data set is on disk, and whether it is right"),
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


def main(argv: list[str] | None = None) -> int:
    """Run one command: 0 or its own code, 2 with what was wrong with the input, 130 after Ctrl-C.

    Where nobody reads on, as in `| head`, it ends in silence with 141, as other programs do.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        name = _command(argv[:1])
        module, what = COMMANDS[name]
        command = import_module(f"{__package__}.{module}")
        parser = argparse.ArgumentParser(prog=f"iif-d2 {name}", description=f"{what}.")
        command.add_arguments(parser)
        args = parse(add_import_argument(parser), argv[1:])
        import_modules(args.imports)
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
        return 2
    return code


def _command(first: list[str]) -> str:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="iif-d2",
        description=f"Long-tailed detection on Detectron2. Each command has --help:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command")
    return parser.parse_args(first).command

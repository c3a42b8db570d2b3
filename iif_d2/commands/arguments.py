"""The arguments that every command on a trained model has."""

from __future__ import annotations

import argparse


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """`--config-file`, and the KEY VALUE overrides that end the command line."""
    parser.add_argument("--config-file", required=True, help="the config it was trained with")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="MODEL.WEIGHTS FILE and other KEY VALUE overrides"
    )

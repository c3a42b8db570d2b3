"""`iif-d2 convert`: ImageNet weights of torchvision or timm for MODEL.WEIGHTS."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", help="a saved ResNet state dict of torchvision or timm")
    parser.add_argument("--output", required=True, help="the .pth for MODEL.WEIGHTS")


def run(args: argparse.Namespace) -> str:
    """Write the converted weights; says where, and the config keys they need."""
    from ..checkpoint import convert_resnet_file

    config = convert_resnet_file(args.weights, args.output)
    return "\n".join(
        [
            f"{args.output}: {args.weights} under Detectron2's names",
            "the config that fits it:",
            f"  MODEL.WEIGHTS {args.output}",
            *(f"  {key} {value}" for key, value in config.items()),
        ]
    )

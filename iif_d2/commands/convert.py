"""`iif-d2 convert`: ImageNet weights of torchvision or timm for a detector's backbone."""

from __future__ import annotations

import argparse

EXAMPLE = "iif-d2 convert resnet50-0676ba61.pth --output weights/R-50.pth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", help="a saved state dict, .pth or .safetensors")
    parser.add_argument("--output", required=True, metavar="FILE", help="the .pth to write")
    parser.add_argument(
        "--timm",
        metavar="NAME",
        help="for build_timm_fpn_backbone: timm's name of the network, such as "
        "tf_efficientnet_lite0. Without it the weights are a ResNet's of torchvision or timm, for "
        "Detectron2's own ResNet",
    )


def run(args: argparse.Namespace) -> str:
    """Write the converted weights; says where, and the config keys they need."""
    from ..checkpoint import convert_resnet_file, convert_timm_file

    if args.timm:
        config = convert_timm_file(args.weights, args.output, args.timm)
    else:
        config = convert_resnet_file(args.weights, args.output)
    return "\n".join(
        [
            f"{args.output}: {args.weights} under the names of {args.timm or 'Detectron2'}",
            "the config that fits it:",
            *(f"  {key} {value}" for key, value in config.items()),
            "next: iif-d2 train --config-file CONFIG with these keys behind it",
        ]
    )

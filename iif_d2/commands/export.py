"""`python -m iif_d2 export`: a trained model as TorchScript or ONNX."""

from __future__ import annotations

import argparse

from .arguments import add_model_arguments

EXAMPLE = """iif-d2 export --config-file output/mine/config.yaml --output mine.onnx \\
    MODEL.WEIGHTS output/mine/model_final.pth"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="a .ts (TorchScript) or .onnx file"
    )
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> str:
    """Export for the CPU and compare on two images of noise; says what goes in and out."""
    import torch

    from ..checkpoint import load_trained_model
    from ..checkpoint.export import TOLERANCE, export_model
    from ..config import load_config

    cfg = load_config(args.config_file, [*args.opts, "MODEL.DEVICE", "cpu"])
    side, channels = cfg.INPUT.MIN_SIZE_TEST, len(cfg.MODEL.PIXEL_MEAN)
    draws = torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 256, (channels, *size), generator=draws).float()
        for size in ((side, side * 5 // 4), (side * 9 // 8, side))
    ]
    fields = export_model(load_trained_model(cfg), args.output, images)
    return (
        f"{args.output}: takes an image ({channels}, H, W), float32, {cfg.INPUT.FORMAT}, 0 to 255; "
        f"gives {', '.join(fields)}; on two images of noise they are the model's within "
        f"{TOLERANCE:g}\nnext: {_reader(args.output)}"
    )


def _reader(output: str) -> str:
    """What opens the file."""
    if output.endswith(".onnx"):
        return f"onnxruntime.InferenceSession({output!r})"
    return f"torch.jit.load({output!r}), once torchvision is imported"

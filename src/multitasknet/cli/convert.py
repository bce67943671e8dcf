"""``convert``: weights of every origin into a file of the published layout."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parsers(commands: Any) -> None:
    convert = commands.add_parser(
        "convert", help="bring weights of NVlabs, torchvision or a training run into one layout"
    )
    convert.add_argument("source", type=Path, help="a .ckpt, .safetensors, .pth or .pth.tar file")
    convert.add_argument("target", type=Path, help="the file to write")
    convert.add_argument(
        "--format", choices=("ckpt", "safetensors"), help="default: the target's ending"
    )
    convert.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> None:
    from ..hub.info import describe_weights
    from ..weights.converting import convert
    from .hub import weights_rows
    from .options import print_rows

    written = convert(options.source, options.target, format=options.format)
    print_rows(weights_rows(describe_weights(written)))

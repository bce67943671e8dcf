"""Options that several commands share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..images import ImageError
from ..inference.engine import BACKENDS
from ..models.definition import SIZE_STEP
from ..models.multitasknet.spec import VARIANTS

if TYPE_CHECKING:
    from ..inference.predictor import Predictor


def add_network_options(parser: argparse.ArgumentParser, *, batch: int) -> None:
    """Which network to use, and how."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--weights",
        default="card",
        help="'card' (default), 'none' for an untrained network, or a file of weights or of export",
    )
    group.add_argument("--card", type=Path, help="a model card (default: this module's)")
    group.add_argument("--variant", choices=VARIANTS, help="input variant, with --weights none")
    group.add_argument("--size", type=image_size, help="side of the input in pixels (256)")
    group.add_argument(
        "--batch-size", type=positive, default=batch, help=f"images at a time ({batch})"
    )
    add_renamed(group, "--batch", "--batch-size", type=positive)
    group.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="what runs the network (auto: ONNX Runtime on a CPU if it is installed)",
    )
    group.add_argument("--threads", type=positive, help="of ONNX Runtime (all usable cores)")
    group.add_argument("--cache-dir", type=Path, help="root of the download cache")
    group.add_argument("--offline", action="store_true", help="never touch the network")


def add_workers(parser: argparse.ArgumentParser) -> None:
    """How many threads prepare images."""
    count = os.cpu_count() or 1
    parser.add_argument(
        "--workers", type=positive, default=count, help=f"threads that prepare images ({count})"
    )


def make_predictor(options: argparse.Namespace) -> Predictor:
    """The predictor that the options of :func:`add_network_options` ask for."""
    from ..inference.predictor import Predictor

    return Predictor(
        weights=None if options.weights == "none" else options.weights,
        card=options.card,
        variant=options.variant,
        cache_dir=options.cache_dir,
        offline=options.offline,
        batch_size=options.batch_size,
        size=options.size,
        backend=options.backend,
        threads=options.threads,
    )


def add_renamed(parser: Any, old: str, new: str, **arguments: Any) -> None:
    """Accept an option's former name for one release, with a warning."""
    dest = new.removeprefix("--").replace("-", "_")
    hidden = argparse.SUPPRESS
    parser.add_argument(
        old, dest=dest, action=_Renamed, const=new, default=hidden, help=hidden, **arguments
    )


class _Renamed(argparse.Action):
    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        print(f"multitasknet: warning: {option_string} is now {self.const}", file=sys.stderr)
        setattr(namespace, self.dest, values)


def check_images_exist(images: Sequence[Path]) -> None:
    """Name an image that is missing, before seconds go into loading what runs the network."""
    for image in images:
        if not image.exists():
            raise ImageError(f"{image}: there is no such image; give the path of a picture")


def positive(text: str) -> int:
    """An argument that is a whole number of at least 1."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def image_size(text: str) -> tuple[int, int]:
    """An argument that is the side of a square input."""
    side = positive(text)
    if side % SIZE_STEP:
        raise argparse.ArgumentTypeError(f"expected a multiple of {SIZE_STEP}, got {text!r}")
    return side, side


def share(text: str) -> float:
    """An argument between 0 and 1, both excluded."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return value

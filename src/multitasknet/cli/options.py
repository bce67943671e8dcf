"""Options that several commands share: each means the same everywhere."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inference.engine import BACKENDS
from ..models.definition import SIZE_STEP
from ..models.multitasknet.spec import VARIANTS
from ..runtime import usable_cores

if TYPE_CHECKING:
    from ..inference.predictor import Predictor


def add_source_options(parser: argparse.ArgumentParser, *, weights: str = "") -> None:
    """Which weights; ``weights`` says what the command takes, empty for the card's alone."""
    if weights:
        parser.add_argument("--weights", default="card", help=weights)
    parser.add_argument("--card", type=Path, help="a model card (default: this module's)")
    parser.add_argument("--cache-dir", type=Path, help="root of the download cache")
    parser.add_argument("--offline", action="store_true", help="never touch the network")


def add_network_options(parser: argparse.ArgumentParser, *, batch: int) -> None:
    """Which network to use, and how."""
    group = parser.add_argument_group("network")
    add_source_options(
        group,  # type: ignore[arg-type]
        weights="'card' (default), 'none' for an untrained network, or a file of weights or export",
    )
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
    add_pose(group)
    group.add_argument("--threads", type=positive, help="of ONNX Runtime (all usable cores)")


def add_pose(parser: Any) -> None:
    """Where the poses of images without keypoints come from."""
    parser.add_argument(
        "--pose",
        default="auto",
        help="for images without keypoints: 'auto' (the published pose network if it is in the "
        "cache, else a neutral pose), 'none', 'card' (download it), or a file of pose weights",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """How many threads prepare images."""
    count = usable_cores()
    parser.add_argument(
        "--workers", type=positive, default=count, help=f"threads that prepare images ({count})"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, an object per line")


def add_renamed(parser: Any, old: str, new: str, **options: Any) -> None:
    """Accept the first release's spelling for one release more, with a warning."""

    class Renamed(argparse.Action):
        def __call__(self, _: Any, namespace: argparse.Namespace, values: Any, *__: Any) -> None:
            print(f"multitasknet: {old} is called {new} now", file=sys.stderr)
            setattr(namespace, self.dest, values)

    dest = new.removeprefix("--").replace("-", "_")
    options |= {"dest": dest, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    parser.add_argument(old, action=Renamed, **options)


def weights_of(options: argparse.Namespace) -> str | None:
    """What ``--weights`` means to the package."""
    return None if options.weights == "none" else options.weights


def make_predictor(options: argparse.Namespace) -> Predictor:
    """The predictor that the options of :func:`add_network_options` ask for."""
    from ..inference.predictor import Predictor

    return Predictor(
        weights_of(options),
        card=options.card,
        variant=options.variant,
        cache_dir=options.cache_dir,
        offline=options.offline,
        batch_size=options.batch_size,
        size=options.size,
        backend=options.backend,
        threads=options.threads,
        pose=options.pose,
    )


def check_images(paths: Sequence[Path]) -> None:
    """Raise ImageError for the first that is no file, before anything heavy is loaded."""
    from ..images import ImageError

    for path in paths:
        if not path.is_file():
            raise ImageError(f"{path} does not exist; give the path of a vehicle crop")


def print_json(results: Iterable[Any]) -> None:
    """An object per line; what is no number is null."""
    for result in results:
        print(json.dumps(_defined(result), allow_nan=False, default=str))


def print_rows(rows: dict[str, object]) -> None:
    """Print names and values in two columns."""
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value}")


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


def _defined(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _defined(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

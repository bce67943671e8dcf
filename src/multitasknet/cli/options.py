"""Options that several commands share, each written once, and what the commands do with them."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inference.engines import BACKENDS, PRECISIONS
from ..models import DEFAULT_NETWORK, NETWORKS, POSE_NETWORKS
from ..models.base import check_size

if TYPE_CHECKING:
    from ..data.boxes import Box
    from ..errors import ImageError
    from ..hub.card import ModelCard
    from ..hub.source import WeightsSource
    from ..inference.pose import PoseEstimator
    from ..inference.predictor import Predictor

# How a network runs: of commands that take many pictures.
ENGINE = ("--size", "--backend", "--precision")
_ENGINE = ("size", "backend", "precision")
# What make_predictor passes on.
PREDICTOR = ("weights", "pose", *_ENGINE)
_WIDTH = 79
_MOST = 10**9
NOTHING_READ = 1  # an exit code
IMAGES = "a vehicle crop, or a folder of them"


def add_command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    help: str,
    *,
    example: str = "",
) -> argparse.ArgumentParser:
    """Add a command that ``run`` carries out, with a line for the list of commands, in lower case
    and without a full stop, and a command line that works for the end of its own help."""
    parser = commands.add_parser(
        name,
        help=help,
        description=textwrap.fill(f"{help[0].upper()}{help[1:]}.", _WIDTH),
        epilog=example and f"example:\n  multitasknet {name} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, usage=parser.error)
    return parser


def add_options(parser: Any, *names: str) -> None:
    """Add the shared options of these names to a parser or a group of one."""
    shared: dict[str, dict[str, Any]] = {
        "--backend": {
            "choices": BACKENDS,
            "default": "auto",
            "help": "what runs the network (auto: ONNX Runtime on a CPU, OpenVINO for bfloat16)",
        },
        "--boxes": {
            "type": Path,
            "metavar": "FILE",
            "help": "the images are frames; cut these vehicles out: COCO JSON, MOT or CityFlow "
            "text, CSV, or a folder of YOLO or KITTI texts",
        },
        "--card": {"type": Path, "help": "a model card (the network's own)"},
        "--center-cameras": {
            "action": "store_true",
            "help": "take the mean of each camera of 50 crops or more away from its embeddings",
        },
        "--data": {"type": Path, "required": True, "help": "a data set's folder"},
        "--device": {
            "metavar": "NAME[:N]",
            "help": "where MindSpore computes: CPU, Ascend, Ascend:1, GPU (what it finds)",
        },
        "--json": {"action": "store_true", "help": "print JSON, an object per line"},
        "--labels": {"type": Path, "help": "the images' keypoints: label CSV or COCO JSON"},
        "--network": {
            "choices": tuple(NETWORKS),
            "type": str.lower,
            "help": f"default: what the file or card states, else {DEFAULT_NETWORK}",
        },
        "--pose": {
            "default": "auto",
            "help": "for images without keypoints: 'auto' (the network that the weights were "
            "trained with, if it needs no download), 'none', 'card' (the published one, "
            "downloaded), 'synthetic' (the shipped one), or a file",
        },
        "--precision": {
            "choices": PRECISIONS,
            "help": "to compute in (the file's own); bfloat16 needs OpenVINO and a processor that "
            "has it, int8 a file of 'quantize'",
        },
        "--size": {"type": image_size, "help": "side of the input in pixels (the weights')"},
        "--weights": {
            "help": "a file, a card (.md), 'synthetic' (shipped, trained on generated vehicles), a "
            "network's name (its shipped ones), 'card' (the published ones, downloaded) or 'none' "
            "(random); default: $MULTITASKNET_WEIGHTS (not for poses), else synthetic if there are "
            "such, else card",
        },
    }
    for name in names:
        parser.add_argument(name, **shared[name])


def add_predictor_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """The weights and the pose network of :func:`make_predictor`, and these of ENGINE."""
    add_options(parser.add_argument_group("network"), "--weights", "--pose", *names)
    parser.set_defaults(network=None)


def add_pose_options(parser: argparse.ArgumentParser) -> None:
    """All that :func:`make_pose_estimator` reads."""
    group = parser.add_argument_group("pose network")
    add_options(group, "--weights", *ENGINE)
    group.add_argument(
        "--no-flip-test",
        dest="flip_test",
        action="store_false",
        help="leave the mirrored image out: twice as fast, less accurate",
    )
    parser.set_defaults(network=POSE_NETWORKS)


def given(options: object, names: Iterable[str]) -> dict[str, Any]:
    """The options of these names that the user gave a value, as keyword arguments."""
    values = {name: getattr(options, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def source_of(options: argparse.Namespace) -> WeightsSource:
    """What ``--weights`` and ``--card`` mean for ``--network``."""
    from ..hub.source import DEFAULT, WeightsSource

    how = {"weights": DEFAULT} | given(options, ("weights", "card"))
    return WeightsSource(**how).resolved(*networks_of(options))


def card_of(options: argparse.Namespace) -> ModelCard:
    """The card that is given, else that of ``--network`` which ``--weights`` means.

    An error if the card and ``--network`` contradict.
    """
    return source_of(options).model_card(*networks_of(options))


def networks_of(options: argparse.Namespace) -> tuple[str, ...]:
    """Those whose weights may be meant; none if the weights state it."""
    names = options.network or ()
    return (names,) if isinstance(names, str) else tuple(names)


def make_predictor(options: argparse.Namespace) -> Predictor:
    """The predictor that the options ask for, see :func:`add_predictor_options`."""
    from ..inference.predictor import Predictor

    return Predictor(**given(options, PREDICTOR))


def make_pose_estimator(options: argparse.Namespace) -> PoseEstimator:
    """The estimator that the options ask for, see :func:`add_pose_options`."""
    from ..inference.pose import PoseEstimator

    estimator = PoseEstimator(**given(options, ("weights", "flip_test", *_ENGINE)))
    if not estimator.engine.source:
        print("multitasknet: the weights are random; these poses mean nothing", file=sys.stderr)
    return estimator


def images_of(places: Sequence[Path]) -> list[Path]:
    """The pictures that are named, and those in the folders that are.

    Raises ImageError for what does not exist, before anything heavy is loaded.
    """
    from ..errors import ImageError
    from ..images import find_images

    images: list[Path] = []
    for place in places:
        if not place.exists():
            raise ImageError(f"{place} does not exist; give a vehicle crop, or a folder of them")
        images += find_images(place) if place.is_dir() else [place]
    return images


def boxes_in(options: argparse.Namespace, places: Sequence[Path]) -> list[Box] | None:
    """The boxes that ``--boxes`` has of these frames and those in folders; None without it."""
    if options.boxes is None:
        return None
    from ..data.boxes import boxes_of

    if getattr(options, "labels", None):
        options.usage("--labels is of whole images: leave it or --boxes out")
    return boxes_of(images_of(places), options.boxes)


def box_of(boxes: Sequence[Box] | None, index: int) -> dict[str, Any]:
    """Where a crop is from, as JSON has it; nothing for a whole image."""
    if not boxes:
        return {}
    box = boxes[index]
    return {"image": box.image, "box": box.xyxy, "track": box.track, "label": box.label}


def print_error(name: str, error: ImageError) -> None:
    """An image that is left out."""
    print(f"multitasknet: {error}", file=sys.stderr)


def check_folder(output: Path | None) -> None:
    """Raise OutputError for a folder of results that could not be written in the end."""
    from ..files import check_output

    if output is not None:
        check_output(output, folder=True)


def print_json(results: Iterable[Any]) -> None:
    """An object per line; what is no number is null."""
    for result in results:
        text = json.dumps(result, default=str)
        print(json.dumps(json.loads(text, parse_constant=lambda _: None)))


def print_rows(rows: Mapping[str, object], *, as_json: bool = False) -> None:
    """Print names and values in two columns, or as a JSON object."""
    if as_json:
        print_json([rows])
        return
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value}")


def print_table(
    corner: str, columns: Mapping[str, Mapping[str, float | str]], *, decimals: int = 0
) -> None:
    """Print columns of numbers or texts by name; the longest column has all names."""
    names = max((list(column) for column in columns.values()), key=len)
    table = [[corner, *names]]
    for title, column in columns.items():
        values = (column.get(name, "") for name in names)
        cells = [one if isinstance(one, str) else f"{one:,.{decimals}f}" for one in values]
        table.append([title, *cells])
    first, *widths = (max(map(len, column)) for column in table)
    for name, *cells in zip(*table, strict=True):
        row = (f"{cell:>{max(width, 10)}}" for cell, width in zip(cells, widths, strict=True))
        print("  ".join([f"{name:{first}}", *row]).rstrip())


def positive(text: str) -> int:
    """An argument that is a whole number of at least 1."""
    value = int(text)
    if not 1 <= value < _MOST:
        raise argparse.ArgumentTypeError(f"expected 1 to {_MOST - 1:,}, got {text[:40]!r}")
    return value


def image_size(text: str) -> tuple[int, int]:
    """An argument that is the side of a square input."""
    try:
        return check_size(int(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def share(text: str) -> float:
    """An argument between 0 and 1, both excluded."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return value

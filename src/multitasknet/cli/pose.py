"""``pose``: the 36 keypoints of vehicles, of some images or of a whole data set."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MultiTaskNetError
from .options import (
    add_command,
    add_options,
    add_pose_options,
    check_folder,
    check_images,
    make_pose_estimator,
    print_json,
    print_rows,
)

if TYPE_CHECKING:
    import numpy as np

    from ..data.labels import LabelRow
    from ..inference.pose_estimator import PoseEstimator
    from ..vehicle.pose import Pose


class PoseCommandError(MultiTaskNetError, ValueError):
    """Options that do not go together."""


def add_parsers(commands: Any) -> None:
    pose = add_command(commands, "pose", _pose, "find the 36 keypoints of vehicles in images")
    pose.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="a vehicle crop")
    pose.add_argument(
        "--data", type=Path, metavar="ROOT", help="of a whole data set: PAMTRI, NVlabs, VeRi, CSV"
    )
    pose.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="label file to write, .csv (PAMTRI) or .json (COCO); with --data a new folder, which "
        "becomes the data set in the PAMTRI layout",
    )
    pose.add_argument("--overlay", type=Path, metavar="DIR", help="draw what is found, as PNG")
    pose.add_argument(
        "--maps", action="store_true", help="with --data: write heatmaps and segments as well"
    )
    pose.add_argument(
        "--images",
        dest="placing",
        choices=("hardlink", "copy"),
        help="with --data: how images get there (hardlink, where that works)",
    )
    add_options(pose, "--allow-outside", "--json")
    add_pose_options(pose)
    pose.add_argument("--pose", dest="weights", default=argparse.SUPPRESS, help="as --weights")


def _pose(options: argparse.Namespace) -> None:
    _check_options(options)
    if options.data is None:
        _pose_images(options)
    else:
        _pose_data(options)


def _check_options(options: argparse.Namespace) -> None:
    if bool(options.images) == (options.data is not None):
        raise PoseCommandError("give either images or --data")
    if options.data is not None:
        if options.output is None or options.overlay is not None:
            raise PoseCommandError("--data takes --output, a new folder, and no --overlay")
        return
    if options.maps or options.placing:
        raise PoseCommandError("--maps and --images go with --data")
    if options.output and options.output.suffix.lower() not in (".csv", ".json"):
        raise PoseCommandError(f"--output is {options.output}; expected a name in .csv or .json")
    check_images(options.images)
    if options.overlay and any(
        path.parent.resolve() == options.overlay.resolve() for path in options.images
    ):
        raise PoseCommandError(
            f"--overlay is {options.overlay}, where the images are; give another folder"
        )
    if options.output or options.overlay:
        names = Counter(path.stem if options.overlay else path.name for path in options.images)
        name, count = names.most_common(1)[0]
        if count > 1:
            raise PoseCommandError(
                f"{count} images are called {name}, which one file cannot tell apart"
            )


def _pose_images(options: argparse.Namespace) -> None:
    from ..data.labels import LabelRow, vehicle_in
    from ..files import check_output, make_folder

    for folder in (options.overlay, options.output and options.output.parent):
        if folder:
            make_folder(folder)
    if options.output:
        check_output(options.output, inputs=options.images)
    check_folder(options.overlay)
    rows: list[LabelRow] = []
    sizes: dict[str, tuple[int, int]] = {}
    for path, pixels, pose in _estimated(make_pose_estimator(options), options.images):
        if options.json:
            print_json([{"image": path, **pose.as_json()}])
        else:
            print(f"{path}: {_in_words(pose)}")
        if options.overlay:
            _write_overlay(options.overlay / f"{path.stem}.png", pixels, pose)
        rows.append(LabelRow(path.name, vehicle_in(path.name), 0, 0, pose.keypoints))
        sizes[path.name] = pixels.shape[1], pixels.shape[0]
    if options.output:
        _write_labels(options.output, rows, sizes)
    for written in filter(None, (options.output, options.overlay)):
        print(written, file=sys.stderr if options.json else sys.stdout)


def _estimated(
    estimator: PoseEstimator, images: list[Path]
) -> Iterator[tuple[Path, np.ndarray, Pose]]:
    """The images with pixels and pose, a batch of them in memory."""
    paths = iter(images)
    for pixels in estimator.read_ahead(images):
        for one, pose in zip(pixels, estimator.estimate_pixels(pixels), strict=True):
            yield next(paths), one, pose


def _in_words(pose: Pose) -> str:
    words = f"mean confidence {pose.confidence:.2f}, {pose.seen.sum()} of 36 at or above 0.5"
    return words if pose.half_turn is None else f"{words}, half turn {pose.half_turn:.2f}"


def _write_overlay(path: Path, pixels: np.ndarray, pose: Pose) -> None:
    from PIL import Image

    from ..files import replacing
    from ..report.overlay import draw_overlay

    with replacing(path) as part:
        draw_overlay(Image.fromarray(pixels), pose.keypoints).save(part)


def _write_labels(path: Path, rows: list[LabelRow], sizes: dict[str, tuple[int, int]]) -> None:
    from ..data.coco import write_coco
    from ..data.labels import write_labels
    from ..files import replacing
    from ..inference.pose_dataset import LABEL_DECIMALS

    with replacing(path) as part:
        if path.suffix.lower() == ".json":
            write_coco(part, rows, sizes)
        else:
            write_labels(part, rows, decimals=LABEL_DECIMALS)


def _pose_data(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..inference.pose_dataset import check_output, estimate_dataset

    check_output(options.output)
    dataset = read_dataset(options.data, allow_outside=options.allow_outside)
    data = estimate_dataset(
        make_pose_estimator(options),
        dataset,
        options.output,
        maps=options.maps,
        images=options.placing or "hardlink",
    )
    rows: dict[str, object] = {"data": data.root, **data.images, "renamed": data.renamed}
    print_rows(rows, as_json=options.json)

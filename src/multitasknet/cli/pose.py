"""``pose``: the 36 keypoints of vehicles, of some images or of a whole data set."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MultiTaskNetError
from ..inference.engine import BACKENDS
from .options import (
    add_json,
    add_source_options,
    check_images,
    image_size,
    positive,
    print_json,
    print_rows,
    weights_of,
)

if TYPE_CHECKING:
    import numpy as np

    from ..data.labels import LabelRow
    from ..inference.pose_estimator import PoseEstimator
    from ..vehicle.pose import Pose

_DECODINGS = ("published", "dark")
_IMAGES = ("hardlink", "copy")


class PoseCommandError(MultiTaskNetError, ValueError):
    """Options that do not go together."""


def add_parsers(commands: Any) -> None:
    pose = commands.add_parser(
        "pose",
        help="find the 36 keypoints of vehicles",
        description="Find the 36 keypoints of the vehicles in images, or give a data set keypoints "
        "and write it in the PAMTRI layout.",
    )
    pose.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="a vehicle crop")
    pose.add_argument("--data", type=Path, metavar="ROOT", help="PAMTRI, NVlabs, VeRi or CSV")
    pose.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="label file to write, .csv (PAMTRI) or .json (COCO); with --data the new data set",
    )
    pose.add_argument("--overlay", type=Path, metavar="DIR", help="draw what is found, as PNG")
    pose.add_argument(
        "--maps", action="store_true", help="with --data: write heatmaps and segments as well"
    )
    pose.add_argument(
        "--images",
        dest="placing",
        choices=_IMAGES,
        help="with --data: how images get there (hardlink, where that works)",
    )
    add_json(pose)
    _add_network_options(pose)
    pose.set_defaults(run=_pose)


def _add_network_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("pose network")
    words = "'card' (default), 'none' for random values, or a file of weights or export"
    add_source_options(group, weights=words)  # type: ignore[arg-type]
    group.add_argument("--pose", dest="weights", default=argparse.SUPPRESS, help="as --weights")
    group.add_argument("--size", type=image_size, help="side of the input in pixels (256)")
    group.add_argument("--batch-size", type=positive, default=8, help="images at a time (8)")
    group.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="what runs the network (auto: ONNX Runtime on a CPU if it is installed)",
    )
    group.add_argument("--threads", type=positive, help="of ONNX Runtime (all usable cores)")
    group.add_argument(
        "--no-flip-test",
        dest="flip_test",
        action="store_false",
        help="leave the mirrored image out: twice as fast, less accurate",
    )
    group.add_argument(
        "--decode", choices=_DECODINGS, default="published", help="from a map to a place"
    )


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
    if options.output or options.overlay:
        names = Counter(path.stem if options.overlay else path.name for path in options.images)
        name, count = names.most_common(1)[0]
        if count > 1:
            raise PoseCommandError(
                f"{count} images are called {name}, which one file cannot tell apart"
            )


def _make_estimator(options: argparse.Namespace) -> PoseEstimator:
    from ..inference.pose_estimator import PoseEstimator

    estimator = PoseEstimator(
        weights_of(options),
        card=options.card,
        cache_dir=options.cache_dir,
        offline=options.offline,
        batch_size=options.batch_size,
        size=options.size,
        backend=options.backend,
        threads=options.threads,
        flip_test=options.flip_test,
        decode=options.decode,
    )
    if not estimator.engine.source:
        print("multitasknet: the weights are random; these poses mean nothing", file=sys.stderr)
    return estimator


def _pose_images(options: argparse.Namespace) -> None:
    from ..data.labels import LabelRow, vehicle_in
    from ..files import make_folder

    for folder in (options.overlay, options.output and options.output.parent):
        if folder:
            make_folder(folder)
    rows: list[LabelRow] = []
    sizes: dict[str, tuple[int, int]] = {}
    for path, pixels, pose in _estimated(_make_estimator(options), options.images):
        if options.json:
            print_json([_as_json(path, pose)])
        else:
            seen = int(pose.seen.sum())
            print(f"{path}: mean confidence {pose.confidence:.2f}, {seen} of 36 at or above 0.5")
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


def _as_json(path: Path, pose: Pose) -> dict[str, Any]:
    return {
        "image": path,
        "confidence": pose.confidence,
        "seen": int(pose.seen.sum()),
        "keypoints": pose.keypoints.tolist(),
    }


def _pose_data(options: argparse.Namespace) -> None:
    from ..data.layouts import read_dataset
    from ..inference.pose_dataset import check_output, estimate_dataset

    check_output(options.output)
    dataset = read_dataset(options.data)
    data = estimate_dataset(
        _make_estimator(options),
        dataset,
        options.output,
        maps=options.maps,
        images=options.placing or "hardlink",
    )
    rows: dict[str, object] = {"data": data.root, **data.images, "renamed": data.renamed}
    if options.json:
        print_json([rows])
    else:
        print_rows(rows)

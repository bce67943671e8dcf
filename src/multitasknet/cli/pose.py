"""``pose``: the keypoints of vehicles, as lines, a label file and drawings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    IMAGES,
    NOTHING_READ,
    add_command,
    add_options,
    add_pose_options,
    box_of,
    boxes_in,
    check_folder,
    images_of,
    make_pose_estimator,
    print_error,
    print_json,
)

if TYPE_CHECKING:
    from ..data.labels import LabelRow
    from ..images import Corners
    from ..inference.runner import PosedImage
    from ..vehicle.pose import Pose


def add_parsers(commands: Any) -> None:
    pose = add_command(
        commands,
        "pose",
        _pose,
        "find the 36 keypoints of vehicles",
        example="crops --output poses.csv",
    )
    pose.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help=IMAGES)
    pose.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write a label file for --labels of other commands: .csv (PAMTRI) or .json (COCO)",
    )
    pose.add_argument("--overlay", type=Path, metavar="DIR", help="draw the keypoints, as PNG")
    add_options(pose, "--boxes", "--json")
    add_pose_options(pose)


def _pose(options: argparse.Namespace) -> int:
    import numpy as np

    from ..data.boxes import open_crops
    from ..data.labels import LabelRow, vehicle_in
    from ..errors import OutputError
    from ..files import check_output
    from ..images import Crop, crop_name

    endings = (".json",) if options.boxes else (".csv", ".json")
    if options.output and options.output.suffix.lower() not in endings:
        raise OutputError(
            f"--output is {options.output}; expected a name in {' or '.join(endings)}"
            f"{', which holds several vehicles an image' if options.boxes else ''}"
        )
    names = _names(options.images, options.overlay)
    boxes = boxes_in(options, list(names))
    if options.output:
        check_output(options.output, inputs=names)
    check_folder(options.overlay)
    rows: list[LabelRow] = []
    sizes: dict[str, tuple[int, int]] = {}
    labelled: list[Corners] = []
    sources = open_crops(boxes) if boxes else names
    for shot in make_pose_estimator(options).stream(sources, skip=print_error):
        picture, pose, corner = shot.picture, shot.pose, (0.0, 0.0)
        quality, reason = shot.quality
        if options.json:
            about = {"image": picture.name, "quality": quality, "reason": reason}
            print_json([about | box_of(boxes, shot.index) | pose.as_json()])
        else:
            print(f"{picture.name}: {f'{reason}; ' if reason else ''}{_in_words(pose)}")
        name = names[boxes[shot.index].image if boxes else Path(picture.name)]
        drawn = Path(name).with_suffix("").as_posix()
        height, width = shot.shape
        if boxes and isinstance(picture, Crop):
            drawn = crop_name(drawn, picture.box)
            height, width = picture.frame.picture.shape
            labelled.append(picture.box)
            corner = picture.box[:2]
        if options.overlay:
            _write_overlay(options.overlay / f"{drawn}.png", shot)
        keypoints = pose.keypoints + np.array([*corner, 0], np.float32)
        rows.append(LabelRow(name, vehicle_in(Path(name).name), 0, 0, keypoints))
        sizes[name] = width, height
    if not rows:
        return NOTHING_READ
    if options.output:
        _write_labels(options.output, rows, sizes, labelled)
    for written in filter(None, (options.output, options.overlay)):
        print(written, file=sys.stderr if options.json else sys.stdout)
    return 0


def _names(places: list[Path], overlay: Path | None) -> dict[Path, str]:
    """The images, and their names in a label file: below the folder that was given, if one was."""
    from ..errors import OutputError

    names: dict[Path, str] = {}
    for place in places:
        for path in images_of([place]):
            names[path] = path.relative_to(place).as_posix() if place.is_dir() else path.name
    taken: dict[str, Path] = {}
    for path, name in names.items():
        # Overlays are PNG files, whatever the picture is.
        called = Path(name).with_suffix(".png").as_posix() if overlay else name
        if taken.setdefault(called, path) != path:
            raise OutputError(
                f"{taken[called]} and {path} would both be called {called}; run each alone"
            )
    if overlay and overlay.resolve() in {path.parent.resolve() for path in names}:
        raise OutputError(f"--overlay is {overlay}, where the images are; give another folder")
    return names


def _in_words(pose: Pose) -> str:
    words = f"mean confidence {pose.confidence:.2f}, {pose.seen.sum()} of 36 at or above 0.5"
    return words if pose.half_turn is None else f"{words}, half turn {pose.half_turn:.2f}"


def _write_overlay(path: Path, shot: PosedImage) -> None:
    from PIL import Image

    from ..files import make_folder, replacing
    from ..report.overlay import draw_overlay

    make_folder(path.parent)
    pixels, _ = shot.picture.decode()
    with replacing(path) as part:
        draw_overlay(Image.fromarray(pixels), shot.pose.keypoints).save(part)


def _write_labels(
    path: Path,
    rows: list[LabelRow],
    sizes: dict[str, tuple[int, int]],
    boxes: Sequence[Corners],
) -> None:
    from ..data.labels import write_coco, write_labels
    from ..files import replacing

    with replacing(path) as part:
        if path.suffix.lower() == ".json":
            write_coco(part, rows, sizes, boxes)
        else:
            write_labels(part, rows)

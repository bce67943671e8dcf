"""``predict`` and ``pose``: colour, type, embedding and keypoints of vehicle crops."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    ENGINE,
    add_command,
    add_options,
    add_pose_options,
    add_predictor_options,
    boxes_in,
    check_folder,
    images_of,
    make_pose_estimator,
    make_predictor,
    print_json,
)

if TYPE_CHECKING:
    from ..data.boxes import Box
    from ..data.labels import LabelRow
    from ..errors import ImageError
    from ..images import Corners
    from ..inference.prediction import Prediction
    from ..inference.runner import PosedImage
    from ..vehicle.pose import Pose

NOTHING_READ = 1
_SHOWN = 3
_POSES = {
    "given": "36 keypoints, given",
    "estimated": "36 keypoints, estimated, mean confidence {0.confidence:.2f}",
    "neutral": "missing: a neutral one was taken",
}
_IMAGES = "a vehicle crop, or a folder of them"


def add_parsers(commands: Any) -> None:
    predict = add_command(
        commands,
        "predict",
        _predict,
        "predict colour, type and embedding",
        example="assets/example.jpg",
    )
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help=_IMAGES)
    add_options(predict, "--labels", "--boxes", "--json")
    add_predictor_options(predict, *ENGINE)

    pose = add_command(
        commands,
        "pose",
        _pose,
        "find the 36 keypoints of vehicles",
        example="crops --output poses.csv",
    )
    pose.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help=_IMAGES)
    pose.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write a label file for --labels of other commands: .csv (PAMTRI) or .json (COCO)",
    )
    pose.add_argument("--overlay", type=Path, metavar="DIR", help="draw the keypoints, as PNG")
    add_options(pose, "--boxes", "--json")
    add_pose_options(pose)


def _predict(options: argparse.Namespace) -> int:
    images = images_of(options.images)
    from ..data.boxes import open_crops
    from ..data.labels import keypoints_of

    boxes = boxes_in(options, images)
    keypoints = keypoints_of(images, options.labels)
    predictor = make_predictor(options)
    if not options.json:
        spec, engine = predictor.spec, predictor.engine
        print(f"network    {spec.network}, {spec.variant}")
        print(f"engine     {engine.name}, {engine.precision}")
        print(f"weights    {engine.source or 'none: random values, what follows means nothing'}")
    code = NOTHING_READ
    sources, poses = (open_crops(boxes), None) if boxes else (images, keypoints)
    for prediction in predictor.stream(sources, poses, skip=_say):
        code = 0
        if options.json:
            print_json([prediction.as_json() | _about(boxes, prediction.index)])
        else:
            print_prediction(prediction, with_pose=predictor.spec.uses_pose)
    return code


def _about(boxes: Sequence[Box] | None, index: int) -> dict[str, Any]:
    """Where a crop is from, as JSON has it; nothing for a whole image."""
    if not boxes:
        return {}
    box = boxes[index]
    return {"image": box.image, "box": box.xyxy, "track": box.track, "label": box.label}


def print_prediction(prediction: Prediction, *, with_pose: bool = True) -> None:
    """One image's prediction, for people."""
    print(f"\n{prediction.source}{prediction.doubt}")
    for name, scores in (
        ("colour", prediction.color_probabilities),
        ("type", prediction.type_probabilities),
    ):
        if scores:
            best = list(scores.items())[:_SHOWN]
            print(f"  {name:9}" + ", ".join(f"{label} {score:.2f}" for label, score in best))
    embedding = prediction.embedding
    print(f"  embedding {embedding.size} values, norm {(embedding**2).sum() ** 0.5:.4g}")
    if with_pose:
        print(f"  pose      {_POSES[prediction.pose.origin].format(prediction.pose)}")


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
    for shot in make_pose_estimator(options).stream(sources, skip=_say):
        picture, pose, corner = shot.picture, shot.pose, (0.0, 0.0)
        quality, reason = shot.quality
        if options.json:
            about = {"image": picture.name, "quality": quality, "reason": reason}
            print_json([about | _about(boxes, shot.index) | pose.as_json()])
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


def _say(name: str, error: ImageError) -> None:
    """An image that is left out."""
    print(f"multitasknet: {error}", file=sys.stderr)


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
    from ..data.coco import write_coco
    from ..data.labels import write_labels
    from ..files import replacing

    with replacing(path) as part:
        if path.suffix.lower() == ".json":
            write_coco(part, rows, sizes, boxes)
        else:
            # As many decimals as PAMTRI's pose network writes.
            write_labels(part, rows, decimals=3)

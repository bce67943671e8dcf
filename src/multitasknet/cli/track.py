"""``track``: from videos to the vehicles in them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_command,
    add_options,
    add_predictor_options,
    make_predictor,
    positive,
    print_rows,
    share,
)

if TYPE_CHECKING:
    from ..tracking.following import Follower
    from ..tracking.video import Video


def add_parsers(commands: Any) -> None:
    track = add_command(
        commands,
        "track",
        _track,
        "find the vehicles of a camera's videos, each with one embedding",
        example="north.mp4 --camera north --start 2026-11-01T08:00:00 --detector ssd.tflite "
        "--output city.lance",
    )
    track.add_argument(
        "videos",
        nargs="+",
        metavar="VIDEO",
        help="files, each of which begins when the one before ended, or a camera's address, such "
        "as rtsp://...",
    )
    track.add_argument("--camera", required=True, metavar="NAME", help="the camera's name")
    track.add_argument(
        "--start",
        type=_time,
        metavar="TIME",
        help="when the first file begins, such as 2026-11-01T08:00:00 (a camera's address: now)",
    )
    boxes = track.add_mutually_exclusive_group(required=True)
    boxes.add_argument(
        "--detector",
        type=Path,
        metavar="FILE",
        help="what finds vehicles, for OpenVINO; docs/video.md says where one can be had",
    )
    boxes.add_argument(
        "--boxes", type=Path, metavar="FILE", help="the boxes of another program, frame by frame"
    )
    boxes.add_argument(
        "--tracks", type=Path, metavar="FILE", help="the tracks of another program (MOT)"
    )
    track.add_argument(
        "--output",
        required=True,
        metavar="PLACE",
        help="a store .lance with a row for each track, or a folder for crops and tracks.csv",
    )
    track.add_argument(
        "--crops", type=positive, default=5, help="of a track, whose mean is its embedding (5)"
    )
    track.add_argument(
        "--min-quality",
        type=share,
        default=0.0,
        metavar="Q",
        help="leave out tracks whose best crop has less, such as 0.5 (0)",
    )
    add_options(track, "--json")
    add_predictor_options(track, "--threads", "--backend", "--precision")


def _track(options: argparse.Namespace) -> None:
    from ..tracking.outputs import open_output
    from ..tracking.run import track
    from ..tracking.video import Video

    videos = [Video(one) for one in options.videos]
    if options.start is None and not all(one.is_live for one in videos):
        options.usage("give --start TIME, when the first file begins")
    if len(videos) > 1 and options.detector is None:
        options.usage("a file of boxes or tracks is of one video; run each video alone")
    follower = _follower(options)  # before a network is loaded
    predictor = make_predictor(options)
    report = track(
        videos,
        follower,
        predictor,
        open_output(options.output, predictor),
        camera=options.camera,
        start=options.start,
        crops=options.crops,
        min_quality=options.min_quality,
    )
    rate = report.frames / report.seconds
    if options.json:
        print_rows(asdict(report), as_json=True)
        return
    left_out = ", ".join(f"{reason} {count}" for reason, count in report.low_quality.items())
    print_rows(
        asdict(report)
        | {"seconds": f"{report.seconds:.1f} ({rate:.1f} frames/s)", "low_quality": left_out or 0}
    )


def _follower(options: argparse.Namespace) -> Callable[[Video], Follower]:
    from ..runtime import usable_cores
    from ..tracking.detectors import open_detector
    from ..tracking.following import ByteTrack, GivenDetections, GivenTracks, own_detections

    if options.tracks:
        tracks = GivenTracks(options.tracks)
        return lambda _: tracks
    if options.boxes:
        boxes = GivenDetections(options.boxes)
        return lambda video: ByteTrack(boxes, video.rate)
    threads = options.threads or usable_cores()
    detect = own_detections(open_detector(options.detector, threads=threads))
    return lambda video: ByteTrack(detect, video.rate)


def _time(text: str) -> datetime:
    """An argument that is a time, as the gallery reads them."""
    from ..gallery.rows import parse_time

    try:
        time = parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if time is None:
        raise argparse.ArgumentTypeError("expected a time")
    return time

"""``track``: from videos to the vehicles in them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_command,
    add_options,
    add_predictor_options,
    make_predictor,
    print_json,
    print_rows,
    print_table,
    share,
)

if TYPE_CHECKING:
    from ..tracking.following import Follower
    from ..tracking.run import TrackReport
    from ..tracking.video import Recordings, Video

_FILES = {
    "detector": "what finds vehicles, for OpenVINO; docs/video.md says where one can be had",
    "boxes": "the boxes of another program, frame by frame",
    "tracks": "the tracks of another program (MOT)",
}


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
        "videos", nargs="+", metavar="VIDEO", help="files, one after another, or rtsp://..."
    )
    camera = track.add_mutually_exclusive_group(required=True)
    camera.add_argument("--camera", metavar="NAME", help="the camera's name")
    camera.add_argument(
        "--cameras", type=Path, metavar="CSV", help="name and start of each file's or folder's"
    )
    track.add_argument(
        "--start", metavar="TIME", help="of the --camera's first file, as 2026-11-01T08:00:00"
    )
    boxes = track.add_mutually_exclusive_group(required=True)
    for name, help in _FILES.items():
        boxes.add_argument(f"--{name}", type=Path, metavar="FILE", help=help)
    track.add_argument(
        "--output", required=True, metavar="PLACE", help="a store .lance, or a folder for tracks"
    )
    track.add_argument(
        "--min-quality",
        type=share,
        default=0.0,
        metavar="Q",
        help="leave out tracks whose best crop has less, such as 0.5 (0)",
    )
    add_options(track, "--json")
    add_predictor_options(track, "--backend", "--precision")


def _track(options: argparse.Namespace) -> None:
    from ..tracking.outputs import open_output
    from ..tracking.run import track
    from ..tracking.video import Video

    found = _recordings(options)
    videos = {camera: [Video(one) for one in files] for camera, (_, files) in found.items()}
    follower = _follower(options)  # all that may be wrong, before a network is loaded
    predictor = make_predictor(options)
    output = open_output(options.output, predictor)
    reports = {
        camera: track(
            videos[camera],
            follower,
            predictor,
            output,
            camera=camera,
            start=start,
            min_quality=options.min_quality,
        )
        for camera, (start, _) in found.items()
    }
    if options.json:
        print_json({"camera": camera} | asdict(report) for camera, report in reports.items())
    elif options.camera:
        print_rows(_shown(reports[options.camera]))
    else:
        print_table("", {camera: _shown(report) for camera, report in reports.items()})


def _recordings(options: argparse.Namespace) -> Recordings:
    from ..tracking.video import recordings, start_of

    is_live = any("://" in one for one in options.videos)
    if is_live and len(options.videos) > 1:
        options.usage("a camera's address has no end; give it alone")
    if options.cameras:
        if options.start:
            options.usage("--cameras states when each film starts; leave out --start")
        return recordings(options.videos, options.cameras)
    if options.start is None and not is_live:
        options.usage("give --start TIME, when the first file begins")
    start = options.start and start_of(options.start, "--start")
    return {options.camera: (start, options.videos)}


def _shown(report: TrackReport) -> dict[str, float | str]:
    rate = report.frames / report.seconds
    left_out = ", ".join(f"{reason} {count}" for reason, count in report.low_quality.items())
    return asdict(report) | {
        "seconds": f"{report.seconds:.1f} ({rate:.1f} frames/s)",
        "low_quality": left_out or 0,
    }


def _follower(options: argparse.Namespace) -> Callable[[Video], Follower]:
    from ..runtime import usable_cores
    from ..tracking.detectors import open_detector
    from ..tracking.following import ByteTrack, GivenDetections, GivenTracks

    if options.detector:
        detect = open_detector(options.detector, threads=usable_cores())
        return lambda video: ByteTrack(lambda frame: detect(frame.pixels), video.rate)
    path: Path = options.tracks or options.boxes
    own = {video: Path(video).parent / path for video in options.videos}
    files = {video: beside if beside.exists() else path for video, beside in own.items()}
    if len(set(files.values())) < len(options.videos):
        options.usage("a file of boxes or tracks is of one video; name one beside each video")
    read: Any = GivenTracks if options.tracks else GivenDetections
    given = {video: read(path) for video, path in files.items()}
    if options.tracks:
        return lambda video: given[video.source]
    return lambda video: ByteTrack(given[video.source], video.rate)

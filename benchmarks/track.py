"""What `track` reaches on drawn films: speed, what a detector finds, vectors beside single crops'.

    multitasknet synthesize --output films --scenes 3
    python benchmarks/track.py --films films --detector ssd.tflite > benchmarks/track.md

docs/video.md says where the detector is from.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import psutil

from multitasknet import Predictor, find_images, quantize
from multitasknet.data.boxes import LEAST_SIDE, read_boxes
from multitasknet.hub.card import assets_folder
from multitasknet.images import read_image, resize
from multitasknet.ranking.distances import squared_distances
from multitasknet.ranking.metrics import evaluate_ranking
from multitasknet.runtime import usable_cores
from multitasknet.tracking.detectors import Detector, open_detector
from multitasknet.tracking.following import ByteTrack, Follower, GivenTracks, own_detections
from multitasknet.tracking.outputs import open_output
from multitasknet.tracking.run import track
from multitasknet.tracking.tracks import Seen, Track, describe, gather
from multitasknet.tracking.video import Frame, Video

START = datetime(2026, 11, 1)
SIZE = (640, 480)
ROUNDS, PASS = 5, 50  # six vehicles that pass, and the frames in which they do
SINGLE = 20  # draws of one crop a track


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=Path, help="of synthesize --scenes; without, speed alone")
    parser.add_argument("--detector", type=Path, required=True)
    options = parser.parse_args()
    detector = open_detector(options.detector, threads=usable_cores())
    predictor = Predictor()
    print(f"# `track`\n\nWritten by `track.py` on {usable_cores()} cores.\n")
    if options.films:
        films = sorted(options.films.glob("S*/c*/vdo.avi"))
        vectors(films, predictor)
        found(films, detector)
    speeds(detector, predictor)


def vectors(films: list[Path], predictor: Predictor) -> None:
    """mAP between cameras: a track's mean embedding, and single crops."""
    tracks: list[tuple[int, int, Track]] = []
    singles: list[np.ndarray] = []
    for film in films:
        given = GivenTracks(film.with_name("gt") / "gt.txt")
        crops: dict[str, list[np.ndarray]] = {}
        scene, camera = int(film.parts[-3][1:]), int(film.parts[-2][1:])
        settings = {"camera": film.parent.name, "side": max(predictor.size), "ends": given.ends}
        for whole in gather(watched(film, given, crops), crops=5, **settings):
            found = describe(whole, predictor, crops=5, is_cosine=True)
            if found is not None:
                vehicle = whole.name.split("-")[1]
                tracks.append((1000 * scene + int(vehicle), camera, found))
                singles.append(predictor.embed(crops[vehicle][::5]))
    ids, cameras = (np.array([one[place] for one in tracks]) for place in (0, 1))
    rows = {
        "mean of 5": [np.stack([one.embedding for *_, one in tracks])],
        "the best crop": [np.stack([predictor.embed([one.crops[0]])[0] for *_, one in tracks])],
        "any crop": [
            np.stack([rng.choice(one) for one in singles])
            for rng in map(np.random.default_rng, range(SINGLE))
        ],
        "mean of all crops": [np.stack([one.mean(0) for one in singles])],
    }
    print(f"{len(tracks)} tracks of {len(set(ids.tolist()))} vehicles before {len(films)} cameras,")
    print("true boxes; each finds those of the same vehicle before other cameras.\n")
    print("| a track is | mAP | Rank-1 |\n| --- | ---: | ---: |")
    for name, draws in rows.items():
        results = [
            evaluate_ranking(squared_distances(one, one), ids, ids, cameras, cameras)
            for one in map(normed, draws)
        ]
        mean, first = np.mean([(one.mAP, one.rank(1)) for one in results], axis=0)
        print(f"| {name} | {100 * mean:.1f} | {100 * first:.1f} |")


def normed(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def watched(
    film: Path, given: GivenTracks, crops: dict[str, list[np.ndarray]]
) -> Iterator[tuple[Frame, list[Seen]]]:
    """The frames with their tracks, whose crops are noted."""
    for frame in Video(str(film)).frames(START):
        seen = given(frame)
        for one in seen:
            x1, y1, x2, y2 = one.xyxy.round().astype(int)
            if min(x2 - x1, y2 - y1) >= LEAST_SIDE:
                crops.setdefault(one.name, []).append(frame.pixels[y1:y2, x1:x2].copy())
        yield frame, seen


def found(films: list[Path], detector: Detector) -> None:
    """What the detector finds of the true boxes, by their shorter side."""
    sides, hits, boxes = [], [], 0
    for film in films:
        truth: dict[int, list[np.ndarray]] = {}
        for box in read_boxes(film.with_name("gt") / "gt.txt").boxes:
            truth.setdefault(box.frame, []).append(np.array(box.xyxy))
        for frame in Video(str(film)).frames(START):
            ours = [box for box, sure in zip(*detector(frame.pixels), strict=True) if sure >= 0.25]
            boxes += len(ours)
            for one in truth.get(frame.number, []):
                sides.append(min(one[2:] - one[:2]))
                hits.append(any(overlap(one, box) >= 0.5 for box in ours))
    print(f"\nThe detector finds, at a confidence of 0.25, {boxes:,} boxes for {len(sides):,}:\n")
    print("| shorter side | true boxes | found |\n| --- | ---: | ---: |")
    for least, most in ((0, 32), (32, 64), (64, 1000)):
        inside = [hit for side, hit in zip(sides, hits, strict=True) if least <= side < most]
        print(f"| {least} to {most} | {len(inside):,} | {100 * np.mean(inside):.1f} % |")


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0)
    both = sides.prod()
    return float(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both))


def speeds(detector: Detector, predictor: Predictor) -> None:
    """Frames a second of a film with six vehicles, decoding, detector and embedding together."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film, boxes = six_vehicles(folder)
        crops = find_images(assets_folder() / "demo")
        quantize(folder / "int8.onnx", predictor, crops[:64])
        networks: dict[str, Callable[[], Predictor]] = {
            "float32": lambda: Predictor(),
            "INT8, ONNX Runtime": lambda: Predictor(folder / "int8.onnx"),
            "INT8, OpenVINO": lambda: Predictor(folder / "int8.onnx", backend="openvino"),
        }
        boxes_of: dict[str, Callable[[Video], Follower]] = {
            "detector": lambda video: ByteTrack(own_detections(detector), video.rate),
            "true tracks": lambda _: GivenTracks(boxes),
        }
        busy = psutil.getloadavg()[0]
        print(f"\n{SIZE[0]}x{SIZE[1]}, six vehicles, each in view for {PASS} frames; other work")
        print(f"on the machine: a load of {busy:.0f} when it began.\n")
        print("| network | boxes | tracks | frames/s, of three runs |\n| --- | --- | ---: | ---: |")
        for network, make in networks.items():
            own = make()
            own.predict([crops[0]])
            for source, follower in boxes_of.items():
                rates = []
                for turn in range(3):
                    output = open_output(str(folder / f"{network}{source}{turn}.lance"), own)
                    report = track(
                        [Video(str(film))],
                        follower,
                        own,
                        output,
                        camera="six",
                        start=START,
                        progress=False,
                    )
                    rates.append(report.frames / report.seconds)
                shown = ", ".join(f"{rate:.1f}" for rate in sorted(rates))
                print(f"| {network} | {source} | {report.tracks} | {shown} |", flush=True)


def six_vehicles(folder: Path) -> tuple[Path, Path]:
    """A film of six crops that drive along three lanes, again and again, and its tracks."""
    crops = find_images(assets_folder() / "demo")[::3][:6]
    vehicles = [resize(read_image(path), (100, 140)) for path in crops]
    film, boxes = folder / "six.avi", folder / "six.txt"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"mp4v"), 10, SIZE)
    lines = []
    for number in range(1, ROUNDS * PASS + 1):
        turn, place = divmod(number - 1, PASS)
        frame = np.full((*SIZE[::-1], 3), (120, 120, 115), np.uint8)
        frame[:100] = (170, 190, 210)
        for vehicle, pixels in enumerate(vehicles):
            x, y = 10 + 320 * (vehicle % 2) + 3 * place, 110 + 120 * (vehicle // 2)
            frame[y : y + 100, x : x + 140] = pixels
            lines.append(f"{number},{6 * turn + vehicle + 1},{x},{y},140,100,1,-1,-1,-1")
        writer.write(frame[..., ::-1])
    writer.release()
    boxes.write_text("\n".join(lines) + "\n")
    return film, boxes


if __name__ == "__main__":
    main()

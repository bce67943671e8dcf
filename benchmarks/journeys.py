"""From drawn films of several cameras to journeys: how many boxes get the right vehicle.

    python benchmarks/journeys.py [--scenes 3] [--vehicles 20] [--detector FILE] [--weights NAME]

Draws scenes of four cameras (``synthesize --scenes``), runs ``track`` on each with the true boxes,
or with a detector, then ``gallery link``, and prints a JSON object a scene: IDF1 of the tracks
within each camera and of the linked vehicles across cameras (Ristani et al., 2016); mAP before
other cameras of tracks' vectors and of single crops, one of each track; frames/s of ``track``.
Needs the extras [synthetic] and [video].
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from multitasknet import Predictor
from multitasknet.cli import main as run
from multitasknet.data.boxes import LEAST_SIDE
from multitasknet.gallery.gallery import Gallery
from multitasknet.ranking.distances import squared_distances
from multitasknet.ranking.metrics import evaluate_ranking
from vehiclesynth import synthesize_scenes

Box: TypeAlias = "tuple[float, float, float, float]"


class Seen(NamedTuple):
    """Someone's box: camera and frame, whose it is, and x1, y1, x2, y2 in pixels."""

    camera: str
    frame: int
    identity: Hashable
    box: Box


@dataclass(frozen=True)
class Identities:
    """How many of the boxes have the right identity.

    Attributes:
        right: boxes that lie on a true one of the vehicle that their identity stands for.
        true, found: all of them.
    """

    right: int
    true: int
    found: int

    @property
    def idf1(self) -> float:
        return 2 * self.right / (self.true + self.found)


@dataclass(frozen=True)
class Track:
    """A row of the gallery, and its boxes by frame."""

    row: dict[str, Any]
    boxes: list[tuple[int, Box]]


def identities(true: Iterable[Seen], found: Iterable[Seen]) -> Identities:
    """Compare identities over all cameras and frames, each found one with one true one at most."""
    true, found = list(true), list(found)
    rows, columns = (dict.fromkeys(one.identity for one in side) for side in (true, found))
    counts = together(true, found)
    table = np.array([[counts[row, column] for column in columns] for row in rows])
    best = linear_sum_assignment(table.reshape(len(rows), len(columns)), maximize=True)
    return Identities(int(table[best].sum()) if table.size else 0, len(true), len(found))


def together(true: Iterable[Seen], found: Iterable[Seen]) -> Counter[tuple[Hashable, Hashable]]:
    """In how many frames boxes of two identities, a true and a found one, overlap by half."""
    frames = defaultdict[tuple[str, int], list[Seen]](list)
    for one in true:
        frames[one.camera, one.frame].append(one)
    shared = {
        (one.camera, one.frame, other.identity, one.identity)
        for one in found
        for other in frames[one.camera, one.frame]
        if overlap(one.box, other.box) >= 0.5
    }
    return Counter((true, found) for *_, true, found in shared)


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    corners = np.array([one, other])
    sides = np.minimum(*corners[:, 2:]) - np.maximum(*corners[:, :2])
    common = sides.clip(0).prod()
    return float(common / ((corners[:, 2:] - corners[:, :2]).prod(axis=1).sum() - common))


def read_truth(scene: Path) -> list[Seen]:
    """The true boxes of a scene's films."""
    return [
        Seen(path.parts[-3], frame, vehicle, (left, top, left + width, top + height))
        for path in sorted(scene.glob("*/gt/gt.txt"))
        for frame, vehicle, left, top, width, height in (
            map(int, row[:6]) for row in csv.reader(path.open())
        )
    ]


def read_tracks(store: Path) -> list[Track]:
    """The tracks of a gallery; ``track`` writes their boxes beside their crops."""
    columns = ["id", "camera", "image", "vehicle", "embedding"]
    tracks = []
    for row in sorted(Gallery(store).rows(columns), key=lambda row: row["id"]):
        with Path(row["image"]).with_suffix(".csv").open() as file:
            lines = [[float(cell) for cell in line] for line in list(csv.reader(file))[1:]]
        tracks.append(Track(row, [(int(frame), tuple(box)) for frame, *box in lines]))
    return tracks


def seen_of(tracks: list[Track], identities: Iterable[Hashable]) -> list[Seen]:
    return [
        Seen(track.row["camera"], frame, identity, box)
        for track, identity in zip(tracks, identities, strict=True)
        for frame, box in track.boxes
    ]


def measure(scene: Path, store: Path, options: argparse.Namespace) -> dict[str, float]:
    """All figures of a scene."""
    found = ["--detector", options.detector] if options.detector else ["--tracks", "gt/gt.txt"]
    films = sorted(scene.glob("*/vdo.avi"))
    said = output_of(
        *("track", *films, "--cameras", scene / "cameras.csv", *found),
        *("--output", store, "--weights", options.weights, "--json"),
    )
    frames, seconds = (sum(report[name] for report in said) for name in ("frames", "seconds"))
    true = read_truth(scene)
    tracks = read_tracks(store)
    within = [one._replace(identity=(one.camera, one.identity)) for one in true]
    figures = {
        "frames/s": frames / seconds,
        "true vehicles": len({one.identity for one in true}),
        "true tracks": len({one.identity for one in within}),
        "tracks": len(tracks),
        "IDF1 within cameras": identities(within, seen_of(tracks, range(len(tracks)))).idf1,
    }
    for name, learn in (("linked", ()), ("times learned", ("--travel-times", "learn"))):
        output_of("gallery", "link", store, *learn, "--json")
        tracks = read_tracks(store)
        # What was linked with nothing has no number.
        vehicles = [
            track.row["id"] if track.row["vehicle"] is None else track.row["vehicle"]
            for track in tracks
        ]
        across = identities(true, seen_of(tracks, vehicles))
        figures |= {f"IDF1, {name}": across.idf1, f"vehicles, {name}": len(set(vehicles))}
    return figures | compare_crops(scene, tracks, true, options.weights)


def output_of(*command: object) -> list[dict[str, Any]]:
    """What a command prints with ``--json``."""
    with redirect_stdout(io.StringIO()) as said:
        if run(list(map(str, command))):
            raise SystemExit(f"{command[0]} failed")
    return [json.loads(line) for line in said.getvalue().splitlines()]


def compare_crops(
    scene: Path, tracks: list[Track], true: list[Seen], weights: str
) -> dict[str, float]:
    """mAP before other cameras of tracks, and of one crop of each."""
    lies_on: dict[Hashable, Any] = {}  # the vehicle that most of a track's boxes lie on
    for (vehicle, number), _ in together(true, seen_of(tracks, range(len(tracks)))).most_common():
        lies_on.setdefault(number, vehicle)
    tracks = [tracks[number] for number in sorted(lies_on)]
    ids = [lies_on[number] for number in sorted(lies_on)]
    cameras = [int(track.row["camera"].strip("c")) for track in tracks]
    predictor = Predictor(weights)
    figures = {}
    for name, vectors in (
        ("tracks", [track.row["embedding"] for track in tracks]),
        ("best crops", predictor.embed([Path(track.row["image"]) for track in tracks])),
        ("random crops", predictor.embed(random_crops(scene, tracks))),
    ):
        vectors = np.array(vectors, np.float32)
        if predictor.spec.distance == "cosine":
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        distances = squared_distances(vectors, vectors)
        result = evaluate_ranking(distances, ids, ids, cameras, cameras)
        figures[f"mAP of {name}"] = result.mAP
    return figures


def random_crops(scene: Path, tracks: list[Track]) -> list[np.ndarray]:
    """A crop of each track from any frame in which it is large enough."""
    rng = np.random.default_rng(0)
    crops = []
    for track in tracks:
        corners = np.rint([box for _, box in track.boxes]).astype(int).clip(0)
        large = (corners[:, 2:] - corners[:, :2]).min(axis=1) >= LEAST_SIDE
        number = rng.choice(np.flatnonzero(large))
        film = cv2.VideoCapture(str(scene / track.row["camera"] / "vdo.avi"))
        for _ in range(track.boxes[number][0]):  # to seek is not exact
            pixels = film.read()[1]
        x1, y1, x2, y2 = corners[number]
        crops.append(np.ascontiguousarray(pixels[y1:y2, x1:x2, ::-1]))
    return crops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--vehicles", type=int, default=20)
    parser.add_argument("--detector", help="a file, instead of the true boxes")
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--films", type=Path, help="of synthesize --scenes, instead of new ones")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        films = options.films or Path(folder, "films")
        if options.films is None:
            synthesize_scenes(films, scenes=options.scenes, vehicles=options.vehicles, workers=2)
        for scene in sorted(films.iterdir()):
            figures = measure(scene, Path(folder, f"{scene.name}.lance"), options)
            print(json.dumps({"scene": scene.name} | {k: round(v, 4) for k, v in figures.items()}))


if __name__ == "__main__":
    main()

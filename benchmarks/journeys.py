"""From drawn films of several cameras to journeys: how many boxes get the right vehicle.

    python benchmarks/journeys.py [--scenes 3] [--vehicles 20] [--detector FILE] [--weights NAME]

Draws scenes of four cameras (``synthesize --scenes``), runs ``track`` on each with the true boxes,
or with a detector, then ``gallery link``, and prints a JSON object a scene: IDF1 of the tracks
within each camera and of the linked vehicles across cameras (Ristani et al., 2016); frames/s of
``track``.
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
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from multitasknet.cli import main as run
from multitasknet.gallery.gallery import Gallery
from vehiclesynth import synthesize_scenes


class Seen(NamedTuple):
    """Someone's box: camera and frame, whose it is, and x1, y1, x2, y2 in pixels."""

    camera: str
    frame: int
    identity: Hashable
    box: tuple[float, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--vehicles", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60, help="of each film (60)")
    parser.add_argument("--detector", help="a file, instead of the true boxes")
    parser.add_argument("--weights", default="synthetic")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = {name: getattr(options, name) for name in ("scenes", "vehicles", "seconds")}
        films = synthesize_scenes(Path(folder, "films"), **sizes, workers=2).root
        for scene in sorted(films.iterdir()):
            figures = measure(scene, Path(folder, f"{scene.name}.lance"), options)
            print(json.dumps({"scene": scene.name} | {k: round(v, 4) for k, v in figures.items()}))


def measure(scene: Path, store: Path, options: argparse.Namespace) -> dict[str, float]:
    """All figures of a scene."""
    found = ["--detector", options.detector] if options.detector else ["--tracks", "gt/gt.txt"]
    said = output_of(
        *("track", *sorted(scene.glob("*/vdo.avi")), "--cameras", scene / "cameras.csv", *found),
        *("--output", store, "--weights", options.weights, "--json"),
    )
    frames, seconds = (sum(report[name] for report in said) for name in ("frames", "seconds"))
    true, tracks = read_truth(scene), read_tracks(store)
    within = [one._replace(identity=(one.camera, one.identity)) for one in true]
    figures = {
        "frames/s": frames / seconds,
        "true vehicles": len({one.identity for one in true}),
        "true tracks": len({one.identity for one in within}),
        "tracks": len(tracks),
        "IDF1 within cameras": idf1(within, seen_of(tracks, range(len(tracks)))),
    }
    for name, learn in (("linked", ()), ("times learned", ("--travel-times", "learn"))):
        output_of("gallery", "link", store, *learn, "--json")
        linked = [(one["vehicle"], one["id"]) for one in read_tracks(store)]
        # What was linked with nothing has no number.
        vehicles = [id if vehicle is None else vehicle for vehicle, id in linked]
        figures[f"IDF1, {name}"] = idf1(true, seen_of(tracks, vehicles))
        figures[f"vehicles, {name}"] = len(set(vehicles))
    return figures


def output_of(*command: object) -> list[dict[str, Any]]:
    """What a command prints with ``--json``."""
    with redirect_stdout(io.StringIO()) as said:
        if run(list(map(str, command))):
            raise SystemExit(f"{command[0]} failed")
    return [json.loads(line) for line in said.getvalue().splitlines()]


def read_truth(scene: Path) -> list[Seen]:
    """The true boxes of a scene's films."""
    return [
        Seen(path.parts[-3], frame, vehicle, (left, top, left + width, top + height))
        for path in sorted(scene.glob("*/gt/gt.txt"))
        for frame, vehicle, left, top, width, height in (
            map(int, row[:6]) for row in csv.reader(path.open())
        )
    ]


def read_tracks(store: Path) -> list[dict[str, Any]]:
    """A gallery's rows, with ``boxes``: what ``track`` wrote beside their crops, by frame."""
    columns = ["id", "camera", "image", "vehicle"]
    tracks = []
    for row in sorted(Gallery(store).rows(columns), key=lambda row: row["id"]):
        with Path(row["image"]).with_suffix(".csv").open() as file:
            lines = [[float(cell) for cell in line] for line in list(csv.reader(file))[1:]]
        tracks.append(row | {"boxes": [(int(frame), tuple(box)) for frame, *box in lines]})
    return tracks


def seen_of(tracks: list[dict[str, Any]], identities: Iterable[Hashable]) -> list[Seen]:
    return [
        Seen(track["camera"], frame, identity, box)
        for track, identity in zip(tracks, identities, strict=True)
        for frame, box in track["boxes"]
    ]


def idf1(true: list[Seen], found: list[Seen]) -> float:
    """Over all cameras and frames, where each identity found is one true one at most."""
    counts = together(true, found)
    rows, columns = (list(dict.fromkeys(one.identity for one in side)) for side in (true, found))
    table = np.array([[counts[row, column] for column in columns] for row in rows])
    table = table.reshape(len(rows), len(columns))
    right = table[linear_sum_assignment(table, maximize=True)].sum()
    return float(2 * right / (len(true) + len(found)))


def together(true: list[Seen], found: list[Seen]) -> Counter[tuple[Hashable, Hashable]]:
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


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union."""
    corners = np.array([one, other])
    sides = np.minimum(*corners[:, 2:]) - np.maximum(*corners[:, :2])
    common = sides.clip(0).prod()
    return float(common / ((corners[:, 2:] - corners[:, :2]).prod(axis=1).sum() - common))


if __name__ == "__main__":
    main()

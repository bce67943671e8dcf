"""What the shipped weights reach on held-out generated vehicles, and on worse pictures of them.

    multitasknet synthesize --output HELD_OUT --vehicles 10 --test-vehicles 300 --images 6 \\
        --cameras 60 --pixels 160 --seed 99
    python benchmarks/shipped.py --data HELD_OUT

Query and gallery are changed alike, and their poses estimated from the changed pictures. The tables
stand on the cards. ``--same-model`` measures on individuals of models instead, each query among no
others than those of its model and colour, of which there are at least nine:

    multitasknet synthesize --output ALIKE --vehicles 300 --models 9 --test-vehicles 2000 \\
        --images 4 --cameras 60 --pixels 160 --prior real --seed 99
    python benchmarks/shipped.py --data ALIKE --same-model
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tables import head, row

from multitasknet import PoseEstimator, Predictor, read_dataset
from multitasknet.data.records import Record, Split, VehicleDataset
from multitasknet.images import Picture, encode_jpeg, read_image
from multitasknet.ranking.distances import squared_distances
from multitasknet.ranking.metrics import evaluate_ranking
from multitasknet.vehicle.attributes import COLORS, TYPES
from multitasknet.vehicle.keypoint_metrics import KeypointErrors
from multitasknet.vehicle.keypoints import HALF_TURN_KEYPOINTS, SEEN_FROM

Pixels = np.ndarray
Change = Callable[[Pixels], Pixels]
DOUBTED = 0.02  # of a pose's half_turn
SINGLE = 100  # pictures that are timed one at a time
DUSK = np.random.default_rng(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--weights", default="synthetic", help="of MultiTaskNet or VehicleReID (synthetic)"
    )
    parser.add_argument("--pose", default="synthetic", help="of the pose network (synthetic)")
    parser.add_argument("--changed", type=int, default=100, help="vehicles seen changed (100)")
    parser.add_argument("--network", choices=("identity", "pose"), nargs="+")
    parser.add_argument(
        "--same-model", action="store_true", help="only individuals of one model and colour"
    )
    options = parser.parse_args()
    dataset = read_dataset(options.data, ("query", "gallery"), check=False)
    networks = options.network or ("identity", "pose")
    fewer = first_vehicles(dataset, options.changed)
    if options.same_model:
        look_alikes(Predictor(options.weights, pose=options.pose), dataset)
        return
    if "identity" in networks:
        identities(Predictor(options.weights, pose=options.pose), dataset, fewer)
    if "pose" in networks:
        poses(options.pose, dataset, fewer)


def first_vehicles(dataset: VehicleDataset, count: int) -> VehicleDataset:
    """The data set with so many of its vehicles."""
    chosen = np.unique(dataset.query.vehicle_ids)[:count]
    query, gallery = (
        replace(split, records=tuple(one for one in split.records if one.vehicle_id in chosen))
        for split in (dataset.query, dataset.gallery)
    )
    return replace(dataset, query=query, gallery=gallery)


def records_of(dataset: VehicleDataset) -> list[Record]:
    return [*dataset.query.records, *dataset.gallery.records]


def percent(name: str, shares: Iterable[float]) -> None:
    print(row(name, *(f"{100 * one:.1f}" for one in shares)), flush=True)


def single(work: Callable[[Pixels], object], records: Sequence[Record]) -> str:
    """Milliseconds of an image, one at a time."""
    images = [read_image(record.image) for record in records[:SINGLE]]
    work(images[0])
    start = time.perf_counter()
    for image in images:
        work(image)
    return f"\n{(time.perf_counter() - start) / len(images) * 1e3:.1f} ms a picture"


# What is changed


def as_it_is(pixels: Pixels) -> Pixels:
    return pixels


def smaller(side: int, pixels: Pixels) -> Pixels:
    scale = min(side / max(pixels.shape[:2]), 1)
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def blurred(pixels: Pixels) -> Pixels:
    return cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape) / 64)


def compressed(pixels: Pixels) -> Pixels:
    return Picture("coarse", encode_jpeg(pixels, 20)).decode()[0]


def at_night(pixels: Pixels) -> Pixels:
    noise = np.random.default_rng(0).normal(0, 6, pixels.shape)
    return np.clip(0.4 * 255 * (pixels / 255) ** 1.8 + noise, 0, 255).astype(np.uint8)


def covered(pixels: Pixels) -> Pixels:
    changed = pixels.copy()
    height, width = pixels.shape[:2]
    rows, columns = (slice(int(0.35 * side), int(0.65 * side)) for side in (height, width))
    changed[rows, columns] = (110, 112, 108)
    return changed


def at_dusk(pixels: Pixels) -> Pixels:
    """A poor camera: two fifths of the size, dark, tinted, noisy, JPEG 20."""
    height, width = pixels.shape[:2]
    small = cv2.resize(pixels, (width * 2 // 5, height * 2 // 5), interpolation=cv2.INTER_AREA)
    gain = DUSK.uniform(0.5, 1.1, 3)
    dark = 255 * (small / 255) ** 1.5 * gain + DUSK.normal(0, 5, small.shape)
    coded = np.clip(dark, 0, 255).astype(np.uint8)
    return compressed(cv2.resize(coded, (width, height), interpolation=cv2.INTER_CUBIC))


CHANGES: dict[str, Change] = {
    "as generated": as_it_is,
    "128 pixels": partial(smaller, 128),
    "64 pixels": partial(smaller, 64),
    "32 pixels": partial(smaller, 32),
    "blurred by a 64th of the longer side": blurred,
    "JPEG 20": compressed,
    "night: dark and noisy": at_night,
    "the middle ninth covered": covered,
    "a poor camera at dusk": at_dusk,
}


# Identities


def identities(predictor: Predictor, dataset: VehicleDataset, fewer: VehicleDataset) -> None:
    print(f"\n{head(predictor.spec.network, 'mAP', 'Rank-1', 'colour', 'type')}")
    poses = (("poses estimated", False), ("exact poses", True), ("no poses", None))
    vehicles, some = (len(np.unique(one.query.vehicle_ids)) for one in (dataset, fewer))
    for name, given in poses if predictor.spec.uses_pose else (("pictures alone", False),):
        percent(f"{vehicles} vehicles, {name}", of_set(predictor, dataset, given))
    for name, change in CHANGES.items():
        percent(f"{some} vehicles, {name}", of_set(predictor, fewer, False, change))
    print(single(lambda image: predictor.predict([image]), records_of(fewer)), "with its pose")


def of_set(
    predictor: Predictor, dataset: VehicleDataset, given: bool | None, change: Change = as_it_is
) -> list[float]:
    """mAP, Rank-1, colour and type, 0..1; poses estimated, ``given`` or, if None, neutral."""
    embeddings, right = [], []
    for split in (dataset.query, dataset.gallery):
        images = [change(read_image(record.image)) for record in split.records]
        neutral = np.zeros((36, 3), np.float32) if given is None else None
        poses = [record.marked if given else neutral for record in split.records]
        predictions = predictor.predict(images, poses)
        embeddings.append(np.stack([one.embedding for one in predictions]))
        right += [
            (COLORS[record.color_id - 1] == one.color, TYPES[record.type_id - 1] == one.type)
            for record, one in zip(split.records, predictions, strict=True)
        ]
    splits = dataset.query, dataset.gallery
    labels = (*(one.vehicle_ids for one in splits), *(one.camera_ids for one in splits))
    ranking = evaluate_ranking(squared_distances(*embeddings), *labels)
    return [ranking.mAP, ranking.rank(1), *np.mean(right, axis=0).tolist()]


# Individuals of one model and colour


LOOK_ALIKES = 9  # others of a query's look
ENDS = ("front", "rear")


def look_alikes(predictor: Predictor, dataset: VehicleDataset) -> None:
    """mAP and Rank-1 among vehicles of one look, over all views and by the ends that are seen."""
    splits = dataset.query, dataset.gallery
    embeddings, looks, ends = (
        [of_split(split) for split in splits]
        for of_split in (
            lambda split: predictor.embed([record.image for record in split.records]),
            lambda split: looks_in(dataset.root, split),
            lambda split: ends_in(dataset.root, split),
        )
    )
    distances = squared_distances(*embeddings)
    distances[looks[0][:, None] != looks[1]] = np.inf
    vehicles = [split.vehicle_ids for split in splits]
    others = {look: len(set(vehicles[1][looks[1] == look])) - 1 for look in set(looks[0])}
    hard = np.array([others[look] >= LOOK_ALIKES for look in looks[0]])
    if not hard.any():
        raise SystemExit(f"no look is shared by {LOOK_ALIKES + 1} vehicles; generate more of them")
    count = len(set(vehicles[0][hard]))
    print(f"{count} vehicles of {len(set(looks[0][hard]))} models and colours")
    print(f"\n{head(predictor.spec.network, 'queries', 'mAP', 'Rank-1')}")
    for name, seen in (
        ("all views", (None, None)),
        *((f"{one} against {other}", (one, other)) for one in ENDS for other in ENDS),
    ):
        rows, columns = (
            np.ones(len(of), bool) if end is None else of == end
            for of, end in zip(ends, seen, strict=True)
        )
        rows &= hard
        if not (rows.any() and columns.any()):
            continue
        result = evaluate_ranking(
            distances[np.ix_(rows, columns)],
            *(of[kept] for of, kept in zip(vehicles, (rows, columns), strict=True)),
            *(one.camera_ids[kept] for one, kept in zip(splits, (rows, columns), strict=True)),
        )
        shares = (f"{100 * one:.1f}" for one in (result.mAP, result.rank(1)))
        print(row(name, result.valid_queries, *shares), flush=True)


def looks_in(root: Path, split: Split) -> np.ndarray:
    """Model and colour of each picture, one string: ``[N]``."""
    with beside(root, "model", split).open(newline="", encoding="utf-8") as file:
        models = {int(row["vehicle"]): row["model"] for row in csv.DictReader(file)}
    return np.array([f"{models[one.vehicle_id]} {one.color_id}" for one in split.records])


def ends_in(root: Path, split: Split) -> np.ndarray:
    """``front``, ``rear`` or, from further than 60 degrees off both, nothing: ``[N]``."""
    with beside(root, "view", split).open(newline="", encoding="utf-8") as file:
        toward = {row[0]: np.cos(np.radians(float(row[1]))) for row in csv.reader(file)}
    shown = np.array([toward[record.image.name] for record in split.records])
    return np.select([shown > 0.5, shown < -0.5], list(ENDS), "")


def beside(root: Path, what: str, split: Split) -> Path:
    return root / f"{what}_{'test' if split.name == 'gallery' else split.name}.csv"


# The pose network


def poses(weights: str, dataset: VehicleDataset, fewer: VehicleDataset) -> None:
    print(f"\n{head('VehiclePose', 'PCK@0.05', 'PCK@0.1', 'PCK@0.2', 'half turns')}")
    plain = PoseEstimator(weights, flip_test=False)
    everything, few = records_of(dataset), records_of(fewer)
    for name, estimator in (("with flip test", PoseEstimator(weights)), ("without", plain)):
        percent(f"{len(everything)} pictures, {name}", errors(estimator, everything))
    for name, change in CHANGES.items():
        percent(f"{len(few)} pictures, {name}", errors(plain, few, change))
    for index, kind in enumerate(TYPES, start=1):
        if own := [record for record in everything if record.type_id == index]:
            percent(f"{len(own)} pictures, {kind}", errors(plain, own))
    print(f"\nall of these {len(few)}, changed in every way: {doubts(plain, few)}")
    print(single(lambda image: plain.estimate([image]), everything))


def errors(
    estimator: PoseEstimator, records: Sequence[Record], change: Change = as_it_is
) -> list[float]:
    """Shares, 0..1, of visible points found, and of pictures that fit better turned round."""
    images, truth = changed(records, change)
    found = np.array([pose.keypoints for pose in estimator.estimate(images)])
    sides = np.array([max(image.shape[:2]) for image in images])
    errors = KeypointErrors.of(found, truth, sides)
    shares = [errors.pck(reach) for reach in (0.05, 0.1, 0.2)]
    return [*shares, float(half_turned(found, truth).mean())]


def half_turned(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which poses fit better with front and rear, left and right exchanged: bool ``[N]``."""
    visible = truth[..., 2] >= SEEN_FROM
    own, other = (
        np.linalg.norm(found[..., :2] - places[..., :2], axis=2)
        for places in (truth, truth[:, HALF_TURN_KEYPOINTS])
    )
    return np.asarray(np.where(visible, other - own, 0).sum(1) < 0)


def doubts(estimator: PoseEstimator, records: Sequence[Record]) -> str:
    """Of all pictures, changed in every way: how many are doubted, and half turned."""
    shares, turned = [], []
    for change in CHANGES.values():
        pictures, truth = changed(records, change)
        found = estimator.estimate(pictures)
        shares += [pose.half_turn or 0 for pose in found]
        turned += half_turned(np.array([pose.keypoints for pose in found]), truth).tolist()
    doubted = np.array(shares) > DOUBTED
    return (
        f"half_turn is above {DOUBTED} in {doubted.sum()} of {len(doubted)}, among them "
        f"{doubted[turned].sum()} of {sum(turned)} half turns"
    )


def changed(records: Sequence[Record], change: Change) -> tuple[list[Pixels], np.ndarray]:
    """The pictures, and the keypoints in them."""
    images = [read_image(record.image) for record in records]
    pictures = [change(image) for image in images]
    truth = np.array([record.marked for record in records])
    before, after = (
        np.array([[one.shape[1], one.shape[0]] for one in some]) for some in (images, pictures)
    )
    truth[..., :2] = (truth[..., :2] + 0.5) * (after / before)[:, None] - 0.5
    return pictures, truth


if __name__ == "__main__":
    main()

"""Whether the surfaces that `compare` names are what makes two crops alike: a deletion test.

    python benchmarks/agreement.py

Generated traffic, poses estimated, the shipped weights; pairs of one vehicle, and crops with the
nearest one of another vehicle. The surface named first is hidden in both crops, as `compare` hides
it and in other ways, and so is a random one that both show and that has half to twice its pixels.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from multitasknet import Prediction, Predictor, compare, read_dataset
from multitasknet.images import fill_polygon, read_image
from multitasknet.ranking.distances import squared_distances
from multitasknet.runtime import usable_cores
from multitasknet.vehicle.keypoints import corners_of
from vehiclesynth import synthesize

Pixels = np.ndarray
TIMED, DRAWS = 40, 2000
HIDDEN_BY: dict[str, Callable[[Pixels], Pixels]] = {
    "the crop's mean colour": lambda pixels: np.full_like(pixels, pixels.mean((0, 1))),
    "middle grey": lambda pixels: np.full_like(pixels, 128),
    "blur": lambda pixels: cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape) / 12),
    "noise": lambda pixels: np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8),
}


@dataclass(frozen=True, eq=False)
class Crop:
    """A crop, what the network found in it, and its embedding of length 1."""

    pixels: Pixels
    found: Prediction
    unit: np.ndarray

    def mask(self, surface: int) -> np.ndarray:
        height, width = self.pixels.shape[:2]
        (corners,) = corners_of(self.found.pose.keypoints, [surface])
        return fill_polygon(corners, height=height, width=width) > 0

    def without(self, surface: int, fill: Callable[[Pixels], Pixels]) -> Pixels:
        return np.where(self.mask(surface)[..., None], fill(self.pixels), self.pixels)


@dataclass(frozen=True, eq=False)
class Case:
    """Two crops, and two surfaces that both show: the one named first, and a random one."""

    crops: tuple[Crop, Crop]
    surfaces: tuple[int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vehicles", type=int, default=30, help="held-out vehicles (30)")
    parser.add_argument("--weights", default="synthetic", help="of MultiTaskNet (synthetic)")
    options = parser.parse_args()
    predictor = Predictor(options.weights)
    with tempfile.TemporaryDirectory() as folder:
        how = {"test_vehicles": options.vehicles, "images": 6, "cameras": 6, "prior": "real"}
        root = Path(folder, "traffic")
        synthesize(root, vehicles=2, seed=33, **how)
        split = read_dataset(root, ("gallery",)).gallery
        pixels = [read_image(record.image) for record in split.records]
    found = predictor.predict(pixels)
    units = unit(np.stack([one.embedding for one in found]))
    crops = [Crop(*one) for one in zip(pixels, found, units, strict=True)]
    ids = split.vehicle_ids
    order = np.argsort(ids, kind="stable").tolist()
    same = [(one, other) for one, other in pairwise(order) if ids[one] == ids[other]]
    distances = squared_distances(units, units)
    distances[ids[:, None] == ids] = np.inf
    near = list(enumerate(distances.argmin(1).tolist()))[::2]
    print("| pairs | hidden in both by | named first | another of its size | ratio (95 %) |")
    print("| --- | --- | ---: | ---: | ---: |")
    rng = np.random.default_rng(0)
    for name, pairs in (("one vehicle", same), ("nearest stranger", near)):
        cases = list(choose(predictor, [(crops[one], crops[two]) for one, two in pairs], rng))
        for way, fill in HIDDEN_BY.items():
            print(
                f"| {name}, {len(cases)} | {way} | {deleted(predictor, cases, fill, rng)} |",
                flush=True,
            )
    seconds(predictor, [(pixels[one], pixels[other]) for one, other in same[:TIMED]])


def unit(embeddings: np.ndarray) -> np.ndarray:
    return embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)


def choose(
    predictor: Predictor, pairs: Iterable[tuple[Crop, Crop]], rng: np.random.Generator
) -> Iterable[Case]:
    """The pairs that have two such surfaces."""
    for both in pairs:
        poses = [one.found.pose.keypoints for one in both]
        result = compare(predictor, both[0].pixels, both[1].pixels, keypoints=poses)
        falls = {
            surface: part.contribution
            for surface, part in enumerate(result.parts)
            if part.contribution is not None
        }
        size = {one: sum(crop.mask(one).mean() for crop in both) for one in falls}
        first = max(falls, key=lambda one: falls[one], default=-1)
        others = [
            one for one in falls if one != first and size[first] / 2 <= size[one] <= 2 * size[first]
        ]
        if others:
            yield Case(both, (first, int(rng.choice(others))))


def deleted(
    predictor: Predictor,
    cases: Sequence[Case],
    fill: Callable[[Pixels], Pixels],
    rng: np.random.Generator,
) -> str:
    """How far the similarity falls without either surface, and the ratio, as cells of a table."""
    every = [(crop, surface) for case in cases for surface in case.surfaces for crop in case.crops]
    shown = [crop.without(surface, fill) for crop, surface in every]
    hidden = unit(predictor.embed(shown, [crop.found.pose.keypoints for crop, _ in every]))
    left = np.prod(hidden.reshape(len(cases), 2, 2, -1), axis=2).sum(-1)
    before = [one.unit @ other.unit for one, other in (case.crops for case in cases)]
    falls = np.array(before)[:, None] - left
    draws = falls[rng.integers(0, len(cases), (DRAWS, len(cases)))].mean(1)
    # Without a limit where the other one does not lower it at all.
    ratios = [first / other if other > 0 else np.inf for first, other in draws]
    low, high = np.quantile(ratios, (0.025, 0.975), method="nearest")
    first, other = falls.mean(0)
    return f"{first:.3f} | {other:.3f} | {first / other:.1f} ({low:.1f} to {high:.1f})"


def seconds(predictor: Predictor, pairs: Sequence[tuple[Pixels, Pixels]]) -> None:
    """Print how long `compare` takes, poses and all."""
    walls, works = [], []
    for pair in pairs:
        start, used = time.perf_counter(), sum(os.times()[:2])
        compare(predictor, *pair)
        walls.append(time.perf_counter() - start)
        works.append(sum(os.times()[:2]) - used)
    print(
        f"\n{len(pairs)} pairs on {usable_cores()} cores: {np.median(walls):.2f} s a pair, the "
        f"longest {max(walls):.2f} s; {np.median(works):.2f} s of computing, at most "
        f"{max(works):.2f} s"
    )


if __name__ == "__main__":
    main()

"""Rates of strangers beside the true ones, and probabilities beside how many hits are right.

    multitasknet synthesize --output TRAFFIC --vehicles 10 --test-vehicles 200 --images 14 \\
        --cameras 20 --prior real --seed 77
    python benchmarks/rates.py --data TRAFFIC

Crops as they are generated, and hard ones: 14 or 12 pixels on the shorter side, with noise. Rates
are measured on all rows, and on random ones of half of the vehicles; with times, rows are dealt
into moments at which each vehicle and camera is seen once. A calibration is of half of them,
and its probabilities are compared with the hits of the others. What was measured is written to
``rates.md``, and drawn into ``docs/rates.svg``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from tables import table

from multitasknet import Calibration, Predictor, read_dataset
from multitasknet.images import read_image
from multitasknet.ranking.calibration import LabelledHits
from multitasknet.ranking.distances import squared_distances
from multitasknet.ranking.metrics import Labels
from multitasknet.ranking.strangers import Moments, StrangerRates

HERE = Path(__file__).resolve().parent
RATES, TOPS = (1e-2, 1e-3, 1e-4), (1, 5, 24)
# Pixels of the shorter side, and noise.
CROPS = {"as they are": None, "hard": (14, 6), "harder": (12, 12)}
DRAWN = "hard"
HALVINGS = range(1, 6)  # seeds
SAMPLE, PER_MOMENT = 2_000, 16


@dataclass(frozen=True, eq=False)
class Crops:
    """Embeddings of unit length ``[N, E]``, whose they are, and the cameras that saw them."""

    rows: np.ndarray
    ids: np.ndarray
    cameras: np.ndarray

    def strangers(self, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Distances of all pairs of two vehicles, ascending."""
        rows, ids = self.rows[chosen], self.ids[chosen]
        return np.sort(squared_distances(rows, rows)[ids[:, None] < ids])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="synthetic")
    options = parser.parse_args()
    records = read_dataset(options.data, ["gallery"], check=False).gallery.records
    predictor = Predictor(options.weights)
    ids, cameras = np.array([(one.vehicle_id, one.camera_id) for one in records]).T
    stated, hits = [], []
    for name, how in CROPS.items():
        # As photos without known poses get them.
        pixels = (read_image(one.image) for one in records)
        seen = (hard(one, *how) for one in pixels) if how else pixels
        rows = np.stack([one.embedding for one in predictor.stream(seen)])
        crops = Crops(rows / np.linalg.norm(rows, axis=1, keepdims=True), ids, cameras)
        stated += [(f"{name}, {place}", *values) for place, values in ratios(crops)]
        hits.append((name, *errors(crops)))
        if name == DRAWN:
            draw(crops, HERE.parent / "docs" / "rates.svg")
    text = "\n\n".join(
        [
            "# Rates and probabilities",
            f"Written by `rates.py`: {len(ids):,} crops of {len(np.unique(ids))} generated "
            f"vehicles before {len(np.unique(cameras))} cameras, embedded by the weights "
            f"{predictor.engine.weights_sha256[:12]}. Stated rate / true rate, and in "
            "brackets upper bound / true rate, at the distances where the true rate is:",
            table(("crops", "1e-2", "1e-3", "1e-4"), stated),
            "Calibrated on half of the vehicles: expected calibration error (10 bins) of the "
            "others' hits, and what it would be by chance if all probabilities were right; means "
            f"of {len(HALVINGS)} halvings.",
            table(("crops", "first hit", "first 5", "first 24"), hits),
        ]
    )
    HERE.joinpath("rates.md").write_text(text + "\n")
    print(text)


def hard(pixels: np.ndarray, side: int, noise: float) -> np.ndarray:
    """As a poor camera sees a distant vehicle."""
    rng = np.random.default_rng(int(pixels.sum()) % (1 << 32))
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    noisy = small * rng.uniform(0.7, 1.2) + rng.normal(0, noise, small.shape)
    coarse = np.clip(noisy, 0, 255).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def ratios(crops: Crops) -> Iterator[tuple[str, list[str]]]:
    rng, rows, count = np.random.default_rng(0), crops.rows, len(crops.ids)
    sample = rng.permutation(count)[:SAMPLE]
    half = np.flatnonzero(np.isin(crops.ids, rng.permutation(np.unique(crops.ids))[::2]))
    few = rng.permutation(count)[:500]
    every = np.arange(count)
    for name, measured, chosen in (
        ("all rows", StrangerRates.of(rows[sample]), every),
        ("half of the vehicles", StrangerRates.of(rows[half]), half),
        ("500 rows", StrangerRates.of(rows[few]), few),
        ("with times and cameras", StrangerRates.of(rows[sample], at_moments(crops, rng)), every),
    ):
        if measured.at_one_time != ("times" in name):
            continue  # too few rows share a moment
        true = crops.strangers(chosen)
        cells = []
        for rate in RATES:
            one = measured.rate(float(true[int(rate * len(true))]))
            cells += [f"{one.rate / rate:.2f} ({one.upper / rate:.1f})" if one else "none stated"]
        yield name, cells


def at_moments(crops: Crops, rng: np.random.Generator) -> Moments:
    """Rows dealt into moments; no vehicle and no camera is twice at one."""
    rest, rows, moments, moment = rng.permutation(len(crops.ids)).tolist(), [], [], 0
    while len(rest) >= PER_MOMENT:
        vehicles, places, kept = set[int](), set[int](), []
        for row in rest:
            is_new = crops.ids[row] not in vehicles and crops.cameras[row] not in places
            if is_new and len(vehicles) < PER_MOMENT:
                vehicles.add(crops.ids[row])
                places.add(crops.cameras[row])
                rows.append(row)
                moments.append(moment)
            else:
                kept.append(row)
        rest, moment = kept, moment + 1
    return Moments(crops.rows[rows], np.array(moments), crops.cameras[rows])


def halves(crops: Crops, seed: int) -> tuple[np.ndarray, LabelledHits]:
    """Probabilities of the hits of half of the vehicles, calibrated on the other half."""
    rng = np.random.default_rng(seed)
    ids, cameras = crops.ids, crops.cameras
    known = np.isin(ids, rng.permutation(np.unique(ids))[::2])
    hits = []
    for half in (known, ~known):
        places = rng.permutation(np.flatnonzero(half))
        query, gallery = np.split(places, [len(places) // 4])
        labels = Labels(ids[query], ids[gallery], cameras[query], cameras[gallery])
        hits.append(LabelledHits.of(crops.rows[query], crops.rows[gallery], labels))
    measured, asked = hits
    calibration = Calibration(
        measured.coefficients(),
        measured.vehicle_rows,
        len(measured.rho),
        measured.vehicles,
        *("half", "", (160, 160), "estimated", "float32"),
    )
    return calibration.probability(np.exp(asked.rho), 1.0, asked.rows), asked


def errors(crops: Crops) -> Iterator[str]:
    """The expected calibration error among the first hits, found and by chance."""
    rng = np.random.default_rng(0)
    halvings = [halves(crops, seed) for seed in HALVINGS]
    for top in TOPS:
        found, chance = [], []
        for stated, hits in halvings:
            first = hits.rank < top
            found.append(error(stated[first], hits.same[first]))
            chance.append(error(stated[first], rng.random(first.sum()) < stated[first]))
        yield f"{np.mean(found):.3f} ({np.mean(chance):.3f})"


def error(stated: np.ndarray, right: np.ndarray) -> float:
    one, other, count = bins(stated, right).T
    return float((count * np.abs(one - other)).sum() / len(right))


def bins(stated: np.ndarray, right: np.ndarray) -> np.ndarray:
    """By tenths of probability: mean probability, share that is right, number: ``[T, 3]``."""
    tenths = np.minimum((10 * stated).astype(int), 9)
    inside = [tenths == tenth for tenth in np.unique(tenths)]
    return np.array([(stated[one].mean(), right[one].mean(), one.sum()) for one in inside])


def draw(crops: Crops, target: Path) -> None:
    measured, levels = StrangerRates.of(crops.rows[:SAMPLE]), np.geomspace(1e-5, 1, 60)
    every = np.sort(squared_distances(crops.rows, crops.rows)[np.triu_indices(len(crops.rows), 1)])
    true = crops.strangers()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "multitasknet", "font.size": 9}):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, pairs, look in (
            ("pairs of strangers (by labels)", true, "k-"),
            ("all pairs", every, "C1:"),
        ):
            places = np.minimum((levels * len(pairs)).astype(int), len(pairs) - 1)
            left.plot(pairs[places], levels, look, label=name)
        shown = np.array([measured.distances, measured.rates, measured.uppers])
        shown = shown[:, shown[1] >= levels[0]]
        left.plot(shown[0], shown[1], "C0--", label="stated rate (no labels)")
        left.plot(shown[0], shown[2], "C0-.", lw=0.8, label="stated upper bound")
        left.set(xscale="log", yscale="log", ylim=(1e-5, 1), xlim=(true[0], 2.2))
        left.set(xlabel="squared distance", ylabel="share of pairs as near")
        left.set_xticks((0.2, 0.3, 0.5, 1, 2), ("0.2", "0.3", "0.5", "1", "2"))
        left.set_xticks([], minor=True)
        stated, hits = halves(crops, HALVINGS[0])
        right.plot([0, 1], [0, 1], "0.7")
        for top, look in zip(TOPS[1:], ("C0o-", "C1s--"), strict=True):
            first = hits.rank < top
            points = bins(stated[first], hits.same[first])
            right.plot(points[:, 0], points[:, 1], look, ms=4, label=f"first {top} hits")
        right.set(xlabel="stated probability", ylabel="share that is right")
        for axes in (left, right):
            axes.legend(frameon=False, fontsize=8)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()

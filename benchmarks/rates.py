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
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from multitasknet import Calibration, Predictor, read_dataset
from multitasknet.data.records import Record
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
SEEDS = range(1, 6)
SAMPLE, PER_MOMENT = 2_000, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="synthetic")
    options = parser.parse_args()
    records = read_dataset(options.data, ["gallery"], check=False).gallery.records
    predictor = Predictor(options.weights)
    ids, cameras = np.array([(one.vehicle_id, one.camera_id) for one in records]).T
    stated, hits, found = [], [], {}
    for name, how in CROPS.items():
        rows = found[name] = embeddings(predictor, records, how)
        for place, values in ratios(rows, ids, cameras):
            stated.append(f"| {name}, {place} | {' | '.join(values)} |")
        hits.append(f"| {name} | {' | '.join(errors(rows, ids, cameras))} |")
    lines = [
        "# Rates and probabilities",
        "",
        f"Written by `rates.py`: {len(ids):,} crops of {len(np.unique(ids))} generated vehicles "
        f"before {len(np.unique(cameras))} cameras. Stated rate / true rate, and in brackets upper "
        "bound / true rate, at the distances where the true rate is:",
        "",
        "| crops | 1e-2 | 1e-3 | 1e-4 |",
        "| --- | ---: | ---: | ---: |",
        *stated,
        "",
        "Calibrated on half of the vehicles: expected calibration error (10 bins) of the others' "
        "hits, and what it would be by chance if all probabilities were right; means of "
        f"{len(SEEDS)} halvings.",
        "",
        "| crops | first hit | first 5 | first 24 |",
        "| --- | ---: | ---: | ---: |",
        *hits,
        "",
    ]
    HERE.joinpath("rates.md").write_text("\n".join(lines))
    draw(found[DRAWN], ids, cameras, HERE.parent / "docs" / "rates.svg")
    print("\n".join(lines))


def embeddings(
    predictor: Predictor, records: Sequence[Record], how: tuple[int, float] | None
) -> np.ndarray:
    """Of the gallery's crops, unit length, as a photo without a known pose gets them."""
    pixels = (read_image(one.image) for one in records)
    seen = (hard(one, *how) for one in pixels) if how else pixels
    rows = np.stack([one.embedding for one in predictor.stream(seen)])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def hard(pixels: np.ndarray, side: int, noise: float) -> np.ndarray:
    """As a poor camera sees a distant vehicle."""
    rng = np.random.default_rng(int(pixels.sum()) % (1 << 32))
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    noisy = small * rng.uniform(0.7, 1.2) + rng.normal(0, noise, small.shape)
    coarse = np.clip(noisy, 0, 255).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def strangers(rows: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Distances of all pairs of two vehicles, ascending."""
    return np.sort(squared_distances(rows, rows)[ids[:, None] < ids])


def ratios(
    rows: np.ndarray, ids: np.ndarray, cameras: np.ndarray
) -> Iterator[tuple[str, list[str]]]:
    rng = np.random.default_rng(0)
    sample = rng.permutation(len(ids))[:SAMPLE]
    half = np.flatnonzero(np.isin(ids, rng.permutation(np.unique(ids))[::2]))
    few = rng.permutation(len(ids))[:500]
    dealt, moments = at_moments(ids, cameras, rng)
    together = Moments(rows[dealt], moments, cameras[dealt])
    cases = {
        "all rows": (StrangerRates.of(rows[sample]), slice(None)),
        "half of the vehicles": (StrangerRates.of(rows[half]), half),
        "500 rows": (StrangerRates.of(rows[few]), few),
        "with times and cameras": (StrangerRates.of(rows[sample], together), slice(None)),
    }
    for name, (measured, chosen) in cases.items():
        assert measured.at_one_time == ("times" in name), name
        true = strangers(rows[chosen], ids[chosen])
        values = []
        for rate in RATES:
            found = measured.rate(float(true[int(rate * len(true))]))
            if found is None:
                values.append("none stated")
                continue
            values.append(f"{found.rate / rate:.2f} ({found.upper / rate:.1f})")
        yield name, values


def at_moments(
    ids: np.ndarray, cameras: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and the moment of each; no vehicle and no camera is twice at one."""
    rest, rows, moments, moment = rng.permutation(len(ids)).tolist(), [], [], 0
    while len(rest) >= PER_MOMENT:
        vehicles, places, kept = set[int](), set[int](), []
        for row in rest:
            is_new = ids[row] not in vehicles and cameras[row] not in places
            if is_new and len(vehicles) < PER_MOMENT:
                vehicles.add(ids[row])
                places.add(cameras[row])
                rows.append(row)
                moments.append(moment)
            else:
                kept.append(row)
        rest, moment = kept, moment + 1
    return np.array(rows), np.array(moments)


def halves(
    rows: np.ndarray, ids: np.ndarray, cameras: np.ndarray, seed: int
) -> tuple[np.ndarray, LabelledHits]:
    """Probabilities of the hits of half of the vehicles, calibrated on the other half."""
    rng = np.random.default_rng(seed)
    known = np.isin(ids, rng.permutation(np.unique(ids))[::2])
    hits = []
    for half in (known, ~known):
        places = rng.permutation(np.flatnonzero(half))
        query, gallery = np.split(places, [len(places) // 4])
        labels = Labels(ids[query], ids[gallery], cameras[query], cameras[gallery])
        hits.append(LabelledHits.of(rows[query], rows[gallery], labels))
    measured, asked = hits
    calibration = Calibration(
        measured.coefficients(),
        measured.vehicle_rows,
        len(measured.rho),
        measured.vehicles,
        *("half", "", (160, 160), "estimated", "float32"),
    )
    return calibration.probability(np.exp(asked.rho), 1.0, asked.rows), asked


def errors(rows: np.ndarray, ids: np.ndarray, cameras: np.ndarray) -> list[str]:
    values = []
    rng = np.random.default_rng(0)
    halvings = [halves(rows, ids, cameras, seed) for seed in SEEDS]
    for top in TOPS:
        found, chance = [], []
        for stated, hits in halvings:
            first = hits.rank < top
            found.append(error(stated[first], hits.same[first]))
            chance.append(error(stated[first], rng.random(first.sum()) < stated[first]))
        values.append(f"{np.mean(found):.3f} ({np.mean(chance):.3f})")
    return values


def bins(stated: np.ndarray, right: np.ndarray) -> Iterator[tuple[float, float, int]]:
    """Mean probability, share that is right, and number of hits, by tenths of probability."""
    tenths = np.minimum((10 * stated).astype(int), 9)
    for tenth in np.unique(tenths):
        inside = tenths == tenth
        yield float(stated[inside].mean()), float(right[inside].mean()), int(inside.sum())


def error(stated: np.ndarray, right: np.ndarray) -> float:
    """The expected calibration error."""
    return sum(count * abs(one - other) for one, other, count in bins(stated, right)) / len(right)


def draw(rows: np.ndarray, ids: np.ndarray, cameras: np.ndarray, target: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    measured = StrangerRates.of(rows[:SAMPLE])
    upper = np.triu_indices(len(rows), k=1)
    random, true = np.sort(squared_distances(rows, rows)[upper]), strangers(rows, ids)
    levels = np.geomspace(1e-5, 1, 60)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "multitasknet", "font.size": 9}):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, pairs, look in (
            ("pairs of strangers (by labels)", true, "k-"),
            ("all pairs", random, "C1:"),
        ):
            places = np.minimum((levels * len(pairs)).astype(int), len(pairs) - 1)
            left.plot(pairs[places], levels, look, label=name)
        known = np.array(measured.rates) >= levels[0]
        shown = np.array([measured.distances, measured.rates, measured.uppers])[:, known]
        left.plot(shown[0], shown[1], "C0--", label="stated rate (no labels)")
        left.plot(shown[0], shown[2], "C0-.", lw=0.8, label="stated upper bound")
        left.set(xscale="log", yscale="log", ylim=(1e-5, 1), xlim=(true[0], 2.2))
        ticks = (0.2, 0.3, 0.5, 1, 2)
        left.set_xticks(ticks, map(str, ticks))
        left.set_xticks([], minor=True)
        left.set(xlabel="squared distance", ylabel="share of pairs as near")
        left.legend(frameon=False, fontsize=8)
        stated, hits = halves(rows, ids, cameras, SEEDS[0])
        right.plot([0, 1], [0, 1], "0.7")
        for top, look in zip(TOPS[1:], ("C0o-", "C1s--"), strict=True):
            first = hits.rank < top
            points = np.array([*bins(stated[first], hits.same[first])])
            right.plot(points[:, 0], points[:, 1], look, ms=4, label=f"first {top} hits")
        right.set(xlabel="stated probability", ylabel="share that is right")
        right.legend(frameon=False, fontsize=8)
        for axes in (left, right):
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()

"""How often a picture's quality is wrong: good crops that are flagged, others that are not.

    multitasknet synthesize --output even --vehicles 10 --test-vehicles 100 --images 5 \\
        --cameras 40 --pixels 160 --seed 98
    multitasknet synthesize --output real --vehicles 10 --test-vehicles 100 --images 5 \\
        --cameras 40 --pixels 160 --seed 99 --prior real
    python benchmarks/quality.py --data even real

Of other vehicles, cameras and photographs than the quality head was trained with (kinds and
drawing: examples/quality_pictures.py). The table is on VehiclePose's card.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from multitasknet import PoseEstimator
from multitasknet.vehicle.quality import CONTENTS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from quality_pictures import HELD_OUT, ONE, TRAINED, packaged_photos, read_sources

Pixels = np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--photos", nargs="+", default=["sklearn", "matplotlib"])
    parser.add_argument("--pose", default="synthetic", help="weights of VehiclePose (synthetic)")
    parser.add_argument("--pictures", type=int, default=500, help="of each kind (500)")
    parser.add_argument("--seed", type=int, default=99)
    options = parser.parse_args()
    photos = packaged_photos(*options.photos)
    sources = read_sources(options.data, photos, held_out=True, seed=options.seed)
    estimator = PoseEstimator(options.pose)
    kinds = {name: (make, label) for name, (make, label, _) in TRAINED.items()} | HELD_OUT
    for is_good in (True, False):
        print(f"\n| {'good crops' if is_good else 'other pictures'} | flagged | as |")
        print("| --- | ---: | --- |")
        for number, (name, (make, label)) in enumerate(kinds.items()):
            if (label == ONE) != is_good:
                continue
            rng = np.random.default_rng((options.seed, number))
            images = [make(sources, rng) for _ in range(options.pictures)]
            seldom = "" if name in TRAINED else ", never trained with"
            print_row(f"{name} ({CONTENTS[label]}{seldom})", estimator, images)


def print_row(name: str, estimator: PoseEstimator, images: list[Pixels]) -> None:
    reasons = Counter(shot.quality.reason for shot in estimator.stream(images))
    flagged = 1 - reasons.pop(None, 0) / len(images)
    words = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    print(f"| {name} | {100 * flagged:.1f} % | {words} |", flush=True)


if __name__ == "__main__":
    main()

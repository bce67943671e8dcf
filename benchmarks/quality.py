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
from tables import head, row

from multitasknet import PoseEstimator
from multitasknet.vehicle.quality import CONTENTS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from quality_pictures import HELD_OUT, ONE, TRAINED, packaged_photos, read_sources

SEED = 99


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--photos", nargs="+", default=["sklearn", "matplotlib"])
    parser.add_argument("--pose", default="synthetic", help="weights of VehiclePose (synthetic)")
    parser.add_argument("--pictures", type=int, default=500, help="of each kind (500)")
    options = parser.parse_args()
    sources = read_sources(options.data, packaged_photos(*options.photos), held_out=True, seed=SEED)
    estimator = PoseEstimator(options.pose)
    kinds = {name: (make, label) for name, (make, label, _) in TRAINED.items()} | HELD_OUT
    for is_good in (True, False):
        print(f"\n{head('good crops' if is_good else 'other pictures', 'flagged', 'as')}")
        for number, (name, (make, label)) in enumerate(kinds.items()):
            if (label == ONE) != is_good:
                continue
            rng = np.random.default_rng((SEED, number))
            images = [make(sources, rng) for _ in range(options.pictures)]
            reasons = Counter(shot.quality.reason for shot in estimator.stream(images))
            flagged = f"{100 * (1 - reasons.pop(None, 0) / len(images)):.1f} %"
            words = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            seldom = "" if name in TRAINED else ", never trained with"
            print(row(f"{name} ({CONTENTS[label]}{seldom})", flagged, words), flush=True)


if __name__ == "__main__":
    main()

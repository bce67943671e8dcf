"""Training of VehiclePose's quality head: one vehicle, none, several, or a part of one.

    multitasknet synthesize --output even --vehicles 480 --images 4 --cameras 80 --pixels 144 \\
        --test-vehicles 10 --seed 73
    multitasknet synthesize --output real --vehicles 480 --images 4 --cameras 80 --pixels 144 \\
        --test-vehicles 10 --seed 74 --prior real
    python examples/train_quality.py --data even real --photos skimage mahotas \\
        --weights vehiclepose_bare.ckpt --output with_head.ckpt
    multitasknet convert with_head.ckpt vehiclepose.ckpt --float16

All but the head keeps its values, so that poses stay as they are. A logistic regression
(scikit-learn) on features of the network as it is: a few minutes of two cores. The kinds of
pictures are in quality_pictures.py.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import mindspore
import numpy as np
from mindspore import Tensor, nn
from quality_pictures import ONE, TRAINED, VARIED, Sources, packaged_photos, read_sources, seen
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from multitasknet import (
    PoseEstimator,
    VehiclePose,
    create_network,
    load_weights,
    read_weights,
    save_weights,
)

logger = logging.getLogger("train_quality")

_BATCH = 32
# By how much, in logits, a picture must speak for each of CONTENTS more than it does before it is
# flagged: real crops differ from generated ones, most in what stands around and before a vehicle.
MARGINS = (0.0, 0.5, 2.0, 2.0)
_STRENGTH = 0.01  # scikit-learn's C


class Features(nn.Cell):
    """What the quality head gets."""

    def __init__(self, network: VehiclePose) -> None:
        super().__init__()
        self.network = network

    def construct(self, x: Tensor) -> Tensor:
        return self.network.features(x)[1]


def draw(sources: Sources, count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures of all kinds that are trained with, and what each shows."""
    pictures: list[np.ndarray] = []
    labels: list[int] = []
    for number, (kind, (make, label, share)) in enumerate(TRAINED.items()):
        rng = np.random.default_rng((seed, number))
        for _ in range(round(share * count)):
            picture = make(sources, rng)
            is_varied = label != ONE and rng.random() < VARIED
            pictures.append(seen(picture, rng) if is_varied else picture)
            labels.append(label)
        logger.info("%s: %d", kind, round(share * count))
    return pictures, np.array(labels)


def pooled(weights: Path, pictures: list[np.ndarray]) -> np.ndarray:
    """Their features, float32 ``[N, 896]``."""
    cell = Features(create_network("vehiclepose", weights=weights)).set_train(False)
    batches = PoseEstimator(weights, batch_size=_BATCH).inputs(pictures)
    return np.concatenate([cell(Tensor(x)).asnumpy() for (x,) in batches])


def fit(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight ``[4, 896]`` and bias ``[4]`` of the head."""
    scaler = StandardScaler().fit(features)
    model = LogisticRegression(C=_STRENGTH, max_iter=1000)
    model.fit(scaler.transform(features), labels)
    weight = model.coef_ / scaler.scale_
    bias = model.intercept_ - weight @ scaler.mean_ - np.array(MARGINS)
    return weight.astype(np.float32), bias.astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="generated vehicles")
    parser.add_argument("--photos", nargs="+", default=["skimage"], help="packages with photos")
    parser.add_argument("--weights", type=Path, required=True, help="VehiclePose without the head")
    parser.add_argument("--pictures", type=int, default=8_000)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True, metavar="CKPT")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    photos = packaged_photos(*options.photos)
    sources = read_sources(options.data, photos, held_out=False, seed=options.seed)
    pictures, labels = draw(sources, options.pictures, options.seed)
    weight, bias = fit(pooled(options.weights, pictures), labels)
    found = read_weights(options.weights)
    with_head = VehiclePose(replace(found.spec, quality=True))
    head = {"quality_head.weight": weight, "quality_head.bias": bias}
    load_weights(with_head, replace(found, arrays={**found.arrays, **head}))
    sidecar = found.sidecar
    trained = {"pictures": len(pictures), "seed": options.seed, "photos": options.photos}
    save_weights(
        with_head,
        options.output,
        metrics=sidecar.metrics if sidecar else None,
        origin={**(sidecar.origin if sidecar else {}), "quality_head": trained},
    )


if __name__ == "__main__":
    main()

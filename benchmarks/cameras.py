"""What taking camera means away gains where each camera has its own colours, and where it loses.

    multitasknet synthesize --output ROOT --vehicles 10 --test-vehicles 200 --cameras 20 \\
        --prior real --seed 77
    python benchmarks/cameras.py --data ROOT

Pictures are made poor (18 pixels on the shorter side, and back), and each camera's gamma and
channels are changed in its own way. The last rows measure parts of the pictures, of few crops a
camera.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from shipped import Pixels, print_head, print_row, records_of

from multitasknet import Predictor, read_dataset
from multitasknet.images import read_image
from multitasknet.ranking.centering import FEWEST, center_cameras
from multitasknet.ranking.metrics import evaluate_embeddings

SHORT = 18
FEWER = (5, 10, 20, 35, 50, 80)
DRAWS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="synthetic")
    options = parser.parse_args()
    records = records_of(read_dataset(options.data, ("query", "gallery"), check=False))
    ids = np.array([record.vehicle_id for record in records])
    cameras = np.array([record.camera_id for record in records])
    predictor = Predictor(options.weights)
    print_head("mAP", ("as they are", "camera means taken away"))
    everything = np.ones(len(ids), bool)
    for name, cast in (("poor pictures", False), ("each camera with a cast", True)):
        images = (poor(read_image(one.image), one.camera_id if cast else None) for one in records)
        embeddings = np.stack([one.embedding for one in predictor.stream(images)])
        print_row(name, measured(embeddings, ids, cameras, everything))
    for count in FEWER:
        draws = [few(cameras, count, seed) for seed in range(DRAWS)]
        rows = [measured(embeddings, ids, cameras, chosen, fewest=1) for chosen in draws]
        print_row(f"{count} crops a camera", np.mean(rows, axis=0).tolist())


def poor(pixels: Pixels, camera: int | None) -> Pixels:
    height, width = pixels.shape[:2]
    scale = SHORT / min(height, width)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if camera is not None:
        rng = np.random.default_rng([7, camera])
        seen = (small / 255) ** rng.uniform(0.75, 1.35) * rng.uniform(0.75, 1.25, 3)
        small = np.clip(255 * seen, 0, 255).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def few(cameras: np.ndarray, count: int, seed: int) -> np.ndarray:
    """So many crops of each camera, at random: bool ``[N]``."""
    order = np.random.default_rng(seed).permutation(len(cameras))
    chosen = np.zeros(len(cameras), bool)
    for camera in np.unique(cameras):
        chosen[order[cameras[order] == camera][:count]] = True
    return chosen


def measured(
    embeddings: np.ndarray,
    ids: np.ndarray,
    cameras: np.ndarray,
    chosen: np.ndarray,
    fewest: int = FEWEST,
) -> list[float]:
    """mAP without and with it, every fourth image against the others."""
    rows = np.flatnonzero(chosen)
    query, gallery = rows[::4], np.delete(rows, np.s_[::4])
    centered, found = embeddings.copy(), []
    centered[rows] = center_cameras(embeddings[rows], cameras[rows], fewest=fewest)
    for way in (embeddings, centered):
        parts = (one[part] for one in (way, ids, cameras) for part in (query, gallery))
        found.append(evaluate_embeddings(*parts).mAP)
    return found


if __name__ == "__main__":
    main()

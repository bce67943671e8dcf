"""What INT8 and bfloat16 cost the shipped weights on held-out generated vehicles.

    multitasknet synthesize --output HELD_OUT --vehicles 40 --test-vehicles 300 --images 6 \\
        --cameras 60 --pixels 160 --seed 99
    python benchmarks/int8.py --data HELD_OUT [--calibrate 200]

INT8 is calibrated on pictures of the training split, whose vehicles are others; mAP, colour, type
and PCK are measured on query and gallery. Goal: no loss of more than 1 point. Needs the extras
[onnx] and [openvino].
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from shipped import errors, of_set, print_head, print_row, records_of

from multitasknet import PoseEstimator, Predictor, quantize, read_dataset
from multitasknet.inference.choice import runnable_precisions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--calibrate", type=int, default=200, help="pictures to calibrate on (200)")
    options = parser.parse_args()
    dataset = read_dataset(options.data, check=False)
    learnt = dataset.train.records[: options.calibrate]
    images = [record.image for record in learnt]
    with tempfile.TemporaryDirectory() as folder:
        light = PoseEstimator("synthetic", backend="onnx")
        identity = Predictor("synthetic", backend="onnx", pose=light)
        int8 = [Path(folder, name) for name in ("identity.onnx", "pose.onnx")]
        print(quantize(int8[0], identity, images, min_cosine=0))
        print(quantize(int8[1], light, images, [record.marked for record in learnt], min_cosine=0))
        ways: dict[str, tuple[dict[str, Any], ...]] = {
            precision: ({"weights": "synthetic", "precision": precision},) * 2
            for precision in runnable_precisions()
        }
        for backend in ("onnx", "openvino"):
            ways[f"INT8, {backend}"] = tuple({"weights": one, "backend": backend} for one in int8)
        print_head("MultiTaskNet, poses estimated in float32", ("mAP", "Rank-1", "colour", "type"))
        for name, (how, _) in ways.items():
            print_row(name, of_set(Predictor(pose=light, **how), dataset, False))
        print_head("both networks", ("mAP", "Rank-1", "colour", "type"))
        for name, (how, of_pose) in ways.items():
            predictor = Predictor(pose=PoseEstimator(**of_pose), **how)
            print_row(name, of_set(predictor, dataset, False))
        print_head("VehiclePose", ("PCK@0.05", "PCK@0.1", "PCK@0.2", "half turns"))
        for name, (_, how) in ways.items():
            print_row(name, errors(PoseEstimator(**how), records_of(dataset)))


if __name__ == "__main__":
    main()

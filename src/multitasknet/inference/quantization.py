"""INT8 by static post-training quantisation, with an account of what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np

from ..errors import MultiTaskNetError, import_extra
from ..files import check_output, expand, replacing
from ..images import ImageInput, read_image
from ..models.base import Arrays
from ..runtime import sums_int8_exactly
from ..vehicle.keypoint_metrics import THRESHOLDS, KeypointErrors
from .equalization import equalize
from .metadata import Metadata
from .onnx_engine import OnnxEngine
from .pose_estimator import PoseEstimator
from .precision import cosines
from .predictor import Predictor, check_poses

Batches: TypeAlias = "Iterator[tuple[np.ndarray, ...]]"

MIN_IMAGES = 2
_CALIBRATION_SHARE = 0.75


class QuantizationError(MultiTaskNetError, ValueError):
    """Arguments that cannot be quantised with, or a result that is worse than was asked for."""


@dataclass(frozen=True)
class QuantizationReport:
    """An INT8 file, compared with float32 on the images that it was not calibrated on.

    Attributes:
        path: the file.
        calibrated_on, compared_on: images.
        embedding_cosine, least_cosine: between an image's two embeddings: mean, and the least.
        color_agreement, type_agreement: share of images with the same likeliest class; None if
            the network has no such head.
    """

    path: Path
    calibrated_on: int
    compared_on: int
    embedding_cosine: float
    least_cosine: float
    color_agreement: float | None
    type_agreement: float | None


@dataclass(frozen=True)
class PoseQuantizationReport:
    """An INT8 file of the pose network, compared with float32 on the images not calibrated on.

    Attributes:
        path: the file.
        calibrated_on, compared_on: images.
        map_cosine, least_cosine: between an image's two sets of maps: mean, and the least.
        shift: the keypoints' mean distance from those of float32, in units of the longer side.
        pck: PCK@0.05 of float32 and of INT8, 0..1; None if no true keypoints are given.
    """

    path: Path
    calibrated_on: int
    compared_on: int
    map_cosine: float
    least_cosine: float
    shift: float
    pck: tuple[float, float] | None


@overload
def quantize(
    output: str | Path,
    runner: Predictor,
    images: Sequence[ImageInput],
    keypoints: Sequence[np.ndarray | None] | None = ...,
    *,
    min_cosine: float = ...,
) -> QuantizationReport: ...


@overload
def quantize(
    output: str | Path,
    runner: PoseEstimator,
    images: Sequence[ImageInput],
    keypoints: Sequence[np.ndarray | None] | None = ...,
    *,
    min_cosine: float = ...,
) -> PoseQuantizationReport: ...


def quantize(
    output: str | Path,
    runner: Predictor | PoseEstimator,
    images: Sequence[ImageInput],
    keypoints: Sequence[np.ndarray | None] | None = None,
    *,
    min_cosine: float = 0.99,
) -> QuantizationReport | PoseQuantizationReport:
    """Write an INT8 ONNX file, calibrated on three quarters of the images, judged on the rest.

    Weights are int8 a channel, activations uint8 in the range that calibration saw (ONNX Runtime,
    static quantisation), after concatenated features were given one scale
    (:func:`.equalization.equalize`). Use images like those to come: a few hundred.

    Args:
        output: the file to write, ``.onnx``; ``Predictor(output)`` or ``PoseEstimator(output)``
            runs it.
        runner: the float32 network, run by ONNX Runtime, with the input size to calibrate at.
        images: at least two, as in :meth:`multitasknet.Predictor.predict`.
        keypoints: of the images: what a predictor takes, or the true ones to judge a pose
            estimator by.
        min_cosine: the least mean cosine between embeddings, or between maps, at which the file is
            kept.

    Raises:
        QuantizationError: too few images, another engine, or the drop is larger than allowed; no
            file is left.
        ImageError, OutputError: an image cannot be read, the file cannot be written.
    """
    output = expand(output)
    engine = runner.engine
    if not isinstance(engine, OnnxEngine) or engine.metadata.precision != "float32":
        raise QuantizationError(
            "INT8 is made from a float32 network that ONNX Runtime runs; give "
            f"{type(runner).__name__}(..., backend='onnx')"
        )
    if output.suffix != ".onnx":
        raise QuantizationError(f"{output}: expected a file that ends in .onnx")
    if len(images) < MIN_IMAGES:
        raise QuantizationError(f"{len(images)} images; expected at least {MIN_IMAGES}")
    if engine.metadata.batch is not None:
        raise QuantizationError(f"{engine.source}: it has a fixed batch; export it without")
    poses = check_poses(images, keypoints)
    files = [Path(image) for image in images if isinstance(image, str | Path)]
    check_output(output, inputs=[Path(engine.source), *files])
    split = min(max(round(len(images) * _CALIBRATION_SHARE), 1), len(images) - 1)
    with replacing(output) as part:
        calibration = None if isinstance(runner, PoseEstimator) else runner.calibration
        metadata = replace(engine.metadata, precision="int8", calibration=calibration)
        _write(part, engine, metadata, partial(runner.prepare, images[:split], poses[:split]))
        quantized = OnnxEngine(part)
        outputs = _both(quantized, engine, runner.prepare(images[split:], poses[split:]))
        facts: dict[str, Any] = {
            "path": output,
            "calibrated_on": split,
            "compared_on": len(images) - split,
        }
        report: QuantizationReport | PoseQuantizationReport
        if isinstance(runner, PoseEstimator):
            moved = _pose_drop(quantized, runner, images[split:], poses[split:])
            report = PoseQuantizationReport(**facts, **_cosines(*outputs, "map"), **moved)
            cosine = report.map_cosine
        else:
            agreement = _agreement(*outputs)
            report = QuantizationReport(**facts, **_cosines(*outputs, "embedding"), **agreement)
            cosine = report.embedding_cosine
        if not cosine >= min_cosine:
            raise QuantizationError(
                f"{output}: the mean cosine with float32 is {cosine:.4f}, expected at least "
                f"{min_cosine}; calibrate on more images, or allow it with min_cosine; the file is "
                f"not kept"
            )
    return report


def _write(
    path: Path, engine: OnnxEngine, metadata: Metadata, prepare: Callable[[], Batches]
) -> None:
    onnx = import_extra("onnx", "onnx")
    tools: Any = import_extra("onnxruntime.quantization", "onnx")

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for batch in prepare():
            yield dict(zip(engine.input_names, batch, strict=False))

    given = batches()

    class Reader(tools.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(given, None)

    model = onnx.load_from_string(engine.content())
    equalize(model, batches())
    # Says that there is nothing left to optimise first; a warning would tell users to.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    tools.quantize_static(
        model,
        path,
        Reader(),
        quant_format=tools.QuantFormat.QDQ,
        per_channel=True,
        activation_type=tools.QuantType.QUInt8,
        weight_type=tools.QuantType.QInt8,
        # Without VNNI, the sum of two products of 8 bits each can overflow its 16.
        reduce_range=not sums_int8_exactly(),
    )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata.as_strings())
    onnx.save(model, path)


def _both(quantized: OnnxEngine, engine: OnnxEngine, batches: Batches) -> tuple[Arrays, Arrays]:
    """What the two give for all batches, by name."""
    pairs = [(quantized.run(*batch), engine.run(*batch)) for batch in batches]
    ours, exact = (
        dict(zip(engine.output_names, map(np.concatenate, zip(*runs, strict=True)), strict=True))
        for runs in zip(*pairs, strict=True)
    )
    return ours, exact


def _cosines(ours: Arrays, exact: Arrays, kind: str) -> dict[str, Any]:
    """Of the last output, an image's values as one vector."""
    one, other = (list(outputs.values())[-1] for outputs in (ours, exact))
    near = cosines(one.reshape(len(one), -1), other.reshape(len(other), -1))
    return {f"{kind}_cosine": float(near.mean()), "least_cosine": float(near.min())}


def _agreement(ours: Arrays, exact: Arrays) -> dict[str, Any]:
    """The share of images with the same likeliest class."""
    return {
        f"{kind}_agreement": float((ours[name].argmax(1) == exact[name].argmax(1)).mean())
        if name in exact
        else None
        for kind, name in (("color", "color_logits"), ("type", "type_logits"))
    }


def _pose_drop(
    quantized: OnnxEngine,
    estimator: PoseEstimator,
    images: Sequence[ImageInput],
    truth: Sequence[np.ndarray | None],
) -> dict[str, Any]:
    """How far keypoints move, and PCK where the truth is known."""
    other = copy(estimator)
    other.engine = quantized
    moved, exact = (
        np.stack([pose.keypoints for pose in one.estimate(images)]) for one in (other, estimator)
    )
    sides = np.array([max(read_image(image).shape[:2]) for image in images])
    distances = np.linalg.norm((moved - exact)[..., :2], axis=2) / sides[:, None]
    known = np.array([pose is not None for pose in truth])
    right = None
    if known.any():
        stated = np.stack([pose for pose in truth if pose is not None])
        right = tuple(
            KeypointErrors.of(one[known], stated, sides[known]).pck(THRESHOLDS[0])
            for one in (exact, moved)
        )
    return {"shift": float(distances.mean()), "pck": right}

"""INT8 by static post-training quantisation, with an account of what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..errors import MultiTaskNetError, import_extra
from ..files import replacing
from ..images import ImageInput
from ..runtime import sums_int8_exactly
from .onnx_engine import OnnxEngine
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


def quantize(
    output: str | Path,
    predictor: Predictor,
    images: Sequence[ImageInput],
    keypoints: Sequence[np.ndarray | None] | None = None,
    *,
    min_cosine: float = 0.99,
) -> QuantizationReport:
    """Write an INT8 ONNX file, calibrated on three quarters of the images, judged on the rest.

    Weights are int8 a channel, activations uint8 in the range that calibration saw (ONNX Runtime,
    static quantisation). Use images like those to come: a few hundred.

    Args:
        output: the file to write, ``.onnx``; ``Predictor(output)`` runs it.
        predictor: the float32 network, run by ONNX Runtime, with the input size to calibrate at.
        images, keypoints: as in :meth:`multitasknet.Predictor.predict`, at least two images.
        min_cosine: the least mean cosine between embeddings at which the file is kept.

    Raises:
        QuantizationError: too few images, another engine, or the drop is larger than allowed; no
            file is left.
        ImageError, OutputError: an image cannot be read, the file cannot be written.
    """
    output = Path(output).expanduser()
    engine = predictor.engine
    if not isinstance(engine, OnnxEngine) or engine.metadata.precision != "float32":
        raise QuantizationError(
            "INT8 is made from a float32 network that ONNX Runtime runs; give "
            "Predictor(..., backend='onnx')"
        )
    if output.suffix != ".onnx":
        raise QuantizationError(f"{output}: expected a file that ends in .onnx")
    if len(images) < MIN_IMAGES:
        raise QuantizationError(f"{len(images)} images; expected at least {MIN_IMAGES}")
    if engine.metadata.batch is not None:
        raise QuantizationError(f"{engine.source}: it has a fixed batch; export it without")
    poses = check_poses(images, keypoints)
    split = min(max(round(len(images) * _CALIBRATION_SHARE), 1), len(images) - 1)
    with replacing(output) as part:
        _write(part, engine, predictor.prepare(images[:split], poses[:split]))
        held_out = predictor.prepare(images[split:], poses[split:])
        report = QuantizationReport(
            path=output, calibrated_on=split, **_drop(OnnxEngine(part), engine, held_out)
        )
        if not report.embedding_cosine >= min_cosine:
            raise QuantizationError(
                f"{output}: the embeddings' mean cosine with float32 is "
                f"{report.embedding_cosine:.4f}, expected at least {min_cosine}; calibrate on "
                f"more images, or allow it with min_cosine; the file is not kept"
            )
    return report


def _write(path: Path, engine: OnnxEngine, batches: Batches) -> None:
    onnx = import_extra("onnx", "onnx")
    tools: Any = import_extra("onnxruntime.quantization", "onnx")
    inputs = list(engine.input_names)

    class Reader(tools.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next((dict(zip(inputs, batch, strict=False)) for batch in batches), None)

    model = onnx.load_from_string(engine.content())
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
    metadata = replace(engine.metadata, precision="int8")
    onnx.helper.set_model_props(model, metadata.as_strings())
    onnx.save(model, path)


def _drop(quantized: OnnxEngine, engine: OnnxEngine, batches: Batches) -> dict[str, Any]:
    """The fields of a report that tell the two apart."""
    pairs = [(quantized.run(*batch), engine.run(*batch)) for batch in batches]
    ours, exact = (
        dict(zip(engine.output_names, map(np.concatenate, zip(*runs, strict=True)), strict=True))
        for runs in zip(*pairs, strict=True)
    )
    cosines = _cosines(ours["embedding"], exact["embedding"])
    agreement = {
        name: float((ours[name].argmax(1) == exact[name].argmax(1)).mean())
        for name in ("color_logits", "type_logits")
        if name in exact
    }
    return {
        "compared_on": len(cosines),
        "embedding_cosine": float(cosines.mean()),
        "least_cosine": float(cosines.min()),
        "color_agreement": agreement.get("color_logits"),
        "type_agreement": agreement.get("type_logits"),
    }


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)

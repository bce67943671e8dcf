"""INT8 by static post-training quantisation, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

from ..errors import EngineError
from ..files import check_output, expand, replacing
from ..images import ImageInput
from ..models import find_network
from ..models.base import Arrays
from ..runtime import sums_int8_exactly
from .conversion import Metadata
from .engines import Engine, OnnxEngine, OnnxRuntimeEngine, open_engine
from .equalization import equalize
from .pose import PoseEstimator
from .predictor import Predictor
from .rounding import round_weights

Batches: TypeAlias = "Iterator[tuple[np.ndarray, ...]]"

MIN_IMAGES = 2
_CALIBRATION_SHARE = 0.75


@dataclass(frozen=True)
class QuantizationReport:
    """An INT8 file, compared with float32 on the images that it was not calibrated on.

    Attributes:
        path: the file.
        calibrated_on, compared_on: images.
        images_per_second: of INT8 and of float32, of the network alone, here.
        cosine, least_cosine: between an image's two embeddings, or a pose network's two sets of
            maps: mean, and the least.
        color_agreement, type_agreement: share of images with the same likeliest class; None if
            the network has no such head.
        shift: a pose network's keypoints: mean distance from those of float32, in units of the
            longer side; None for other networks.
    """

    path: Path
    calibrated_on: int
    compared_on: int
    images_per_second: tuple[float, float]
    cosine: float
    least_cosine: float
    color_agreement: float | None = None
    type_agreement: float | None = None
    shift: float | None = None


def quantize(
    output: str | Path,
    runner: Predictor | PoseEstimator,
    images: Sequence[ImageInput],
    keypoints: Sequence[np.ndarray | None] | None = None,
    *,
    min_cosine: float = 0.99,
) -> QuantizationReport:
    """Write an INT8 ONNX file, calibrated on three quarters of the images, judged on the rest.

    Weights are int8 a channel, activations uint8 in the range that calibration saw (ONNX Runtime,
    static quantisation), after concatenated features were given one scale
    (:func:`.equalization.equalize`), and weights were rounded by what layers give
    (:func:`.rounding.round_weights`). Use images like those to come: a few hundred.

    Args:
        output: the file to write, ``.onnx``; ``Predictor(output)`` or ``PoseEstimator(output)``
            runs it.
        runner: the float32 network, run by ONNX Runtime, with the input size to calibrate at,
            which the file notes.
        images, keypoints: at least two, as in :meth:`multitasknet.Predictor.predict`.
        min_cosine: the least mean cosine between embeddings, or between maps, at which the file is
            kept.

    Raises:
        EngineError: too few images, another engine, or the drop is larger than allowed; no file is
            left.
        ImageError, OutputError: an image cannot be read, the file cannot be written.
    """
    output = expand(output)
    engine = runner.engine
    if not isinstance(engine, OnnxRuntimeEngine) or engine.metadata.precision != "float32":
        raise EngineError(
            "INT8 is made from a float32 network that ONNX Runtime runs; give "
            f"{type(runner).__name__}(..., backend='onnx')"
        )
    if output.suffix != ".onnx":
        raise EngineError(f"{output}: expected a file that ends in .onnx")
    if len(images) < MIN_IMAGES:
        raise EngineError(f"{len(images)} images; expected at least {MIN_IMAGES}")
    poses = keypoints or [None] * len(images)
    files = [Path(image) for image in images if isinstance(image, str | Path)]
    check_output(output, inputs=[Path(engine.source), *files])
    split = min(max(round(len(images) * _CALIBRATION_SHARE), 1), len(images) - 1)
    calibration = runner.calibration if isinstance(runner, Predictor) else None
    metadata = replace(
        engine.metadata,
        spec=replace(runner.spec, input_size=runner.size),
        precision="int8",
        calibration=calibration,
    )
    with replacing(output) as part:
        _write(part, engine, metadata, partial(runner.inputs, images[:split], poses[:split]))
        quantized, rest = open_engine(part), images[split:]
        ours, exact, speed = _both(quantized, engine, runner.inputs(rest, poses[split:]))
        near = _cosines(ours, exact)
        report = QuantizationReport(
            output,
            split,
            len(images) - split,
            speed,
            float(near.mean()),
            float(near.min()),
            _agreement(ours, exact, "color_logits"),
            _agreement(ours, exact, "type_logits"),
            _shift(quantized, runner, rest) if isinstance(runner, PoseEstimator) else None,
        )
        if not report.cosine >= min_cosine:
            raise EngineError(
                f"{output}: the mean cosine with float32 is {report.cosine:.4f}, expected at least "
                f"{min_cosine}; calibrate on more images, or allow it with min_cosine; the file is "
                f"not kept"
            )
    return report


def _write(
    path: Path, engine: OnnxEngine, metadata: Metadata, inputs: Callable[[], Batches]
) -> None:
    import onnx
    from onnxruntime import quantization

    tools: Any = quantization

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for batch in inputs():
            yield dict(zip(engine.input_names, batch, strict=False))

    given = batches()

    class Reader(tools.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(given, None)

    model = onnx.load_from_string(engine.load())
    exact = []
    if find_network(engine.spec.network).float_stem:
        exact = [node.name for node in model.graph.node if engine.input_names[0] in node.input]
    # Without VNNI, the sum of two products of 8 bits each can overflow its 16.
    is_reduced = not sums_int8_exactly()
    equalize(model, batches())
    round_weights(model, batches(), levels=64 if is_reduced else 127, exact=exact)
    # Nothing is left to optimise first; without this, a warning asks users to.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    tools.quantize_static(
        model,
        path,
        Reader(),
        quant_format=tools.QuantFormat.QDQ,
        per_channel=True,
        activation_type=tools.QuantType.QUInt8,
        weight_type=tools.QuantType.QInt8,
        reduce_range=is_reduced,
        nodes_to_exclude=exact,
        # Logits and embeddings, which nothing takes in eight bits.
        extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
    )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata.as_strings())
    onnx.save(model, path)


def _both(
    quantized: Engine, engine: OnnxEngine, batches: Batches
) -> tuple[Arrays, Arrays, tuple[float, float]]:
    """What the two give for all batches, by name, and their images/s; float32 is the second."""
    runs: tuple[list[Any], list[Any]] = [], []
    seconds = [0.0, 0.0]
    count = 0
    for batch in batches:
        count += len(batch[0])
        for place, one in enumerate((quantized, engine)):
            one.run(*batch)  # warms up
            start = perf_counter()
            runs[place].append(one.run(*batch))
            seconds[place] += perf_counter() - start
    ours, exact = (
        dict(zip(engine.output_names, map(np.concatenate, zip(*one, strict=True)), strict=True))
        for one in runs
    )
    return ours, exact, (count / seconds[0], count / seconds[1])


def _cosines(ours: Arrays, exact: Arrays) -> np.ndarray:
    """Between an image's two values of the last output as one vector, ``[N]``."""
    lasts = (list(outputs.values())[-1] for outputs in (ours, exact))
    one, other = (last.reshape(len(last), -1) for last in lasts)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)


def _agreement(ours: Arrays, exact: Arrays, name: str) -> float | None:
    """The share of images with the same likeliest class; None without such an output."""
    if name not in exact:
        return None
    return float((ours[name].argmax(1) == exact[name].argmax(1)).mean())


def _shift(engine: Engine, estimator: PoseEstimator, images: Sequence[ImageInput]) -> float:
    """The mean distance between the estimator's keypoints and the engine's, in longer sides."""
    quantized = copy(estimator)
    quantized.engine = engine
    shots, moved = list(estimator.stream(images)), quantized.estimate(images)
    distances = [
        np.linalg.norm((shot.pose.keypoints - pose.keypoints)[:, :2], axis=1) / max(shot.shape)
        for shot, pose in zip(shots, moved, strict=True)
    ]
    return float(np.mean(distances))

"""Files for other runtimes, each checked against the Cell before it is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ..device import choose_device
from ..errors import MultiTaskNetError
from ..files import check_output, expand, replacing, with_ending
from ..hub.card import CARD, ENTRIES, ModelCard
from ..hub.source import WeightsSource
from ..models import DEFAULT_NETWORK
from ..models.base import check_memory, check_size
from ..ranking.calibration import Calibration, read_calibration
from .engine import Engine
from .metadata import Metadata

Format = Literal["onnx", "mindir"]
FORMATS: tuple[str, ...] = get_args(Format)

CHECKED_INPUTS = 8
# Largest difference over largest value, output by output; half precision keeps 11 bits.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2}
# Where the Cell itself is not exact: Ascend's convolutions keep 11 bits of float32 (HF32).
_DEVICE_TOLERANCE = 2e-3


class ExportError(MultiTaskNetError, ValueError):
    """An exported file that does not give what the network gives; it was not kept."""


@dataclass(frozen=True)
class ExportReport:
    """A file that was written.

    Attributes:
        path: the file.
        metadata: what it says of itself.
        difference: the largest difference from the Cell on eight inputs, relative to the largest
            value of that output.
    """

    path: Path
    metadata: Metadata
    difference: float


def export(
    output: str | Path,
    *,
    format: Format | None = None,
    weights: str | Path | None = CARD,
    name: str = DEFAULT_NETWORK,
    network: Any = None,
    card: str | Path | ModelCard | None = None,
    fixed_batch: int | None = None,
    fp16: bool = False,
    size: tuple[int, int] | None = None,
    device: str | None = None,
    cache_dir: str | Path | None = None,
    offline: bool = False,
    progress: bool = True,
) -> ExportReport:
    """Write a network as ONNX or MindIR, and check the file against the Cell.

    MultiTaskNet's inputs are ``image`` (float32 ``[N, C, H, W]``) and ``pose`` (float32
    ``[N, 108]``, if the network is keypoint-aware), its outputs ``id_logits``, ``color_logits``,
    ``type_logits`` and ``embedding``, as far as the network has them. An ONNX file takes any
    height and width that are multiples of 32, and its metadata is enough to predict from it:
    ``Predictor("model.onnx")``.

    Args:
        output: the file to write; replaced if it exists.
        format: ``onnx`` or ``mindir``; default is the output's ending.
        weights, card, cache_dir, offline, progress: as in :func:`multitasknet.create_network`.
        name: of the network whose weights they are.
        network: a Cell to export instead.
        fixed_batch: the only batch size that the file is to take; default is any.
        fp16: keep and compute in float16 (ONNX only): half the size, not faster on a CPU.
        size: height and width to note as input size, and to check on; default is the network's.
        device: where the Cell computes what the file is compared with, see
            :class:`multitasknet.Predictor`.

    Raises:
        ExportError: the file's outputs differ from the Cell's by more than 1e-4 (with ``fp16``,
            1e-2; where the Cell does not run on a CPU, at least 2e-3), or the arguments contradict
            one another. No file is left.
        MissingExtraError: the package ``onnx`` or ``onnxruntime`` is not installed.
        OutputError: the file cannot be written.
    """
    output = _with_ending(output, format)
    if fp16 and output.suffix == ".mindir":
        raise ExportError("fp16 is for ONNX files; leave it out, or export to ONNX")
    if fixed_batch is not None and (type(fixed_batch) is not int or fixed_batch < 1):
        raise ValueError(
            f"fixed_batch is {fixed_batch!r}; expected an integer of at least 1, or None"
        )
    check_output(output, inputs=[] if weights in (None, *ENTRIES) else [expand(str(weights))])
    choose_device(device)
    calibration: Calibration | None = None
    if network is None:
        from ..hub.create_network import create_from

        source = WeightsSource(weights, card, cache_dir, offline, progress)
        network = create_from(source, name)
        file = source.fetch(name)
        calibration = None if file is None else read_calibration(file, network.spec)
    from mindspore import get_context

    from ..weights.load import source_sha256

    network.set_train(False)
    metadata = Metadata(
        spec=replace(network.spec, input_size=check_size(size or network.spec.input_size)),
        weights_sha256=source_sha256(network, network.load_report),
        precision="float16" if fp16 else "float32",
        batch=fixed_batch,
        calibration=calibration,
    )
    check_memory(metadata.spec, metadata.spec.input_size, max(CHECKED_INPUTS, fixed_batch or 1))
    with replacing(output) as part:
        engine = _write(part, network, metadata)
        difference = largest_difference(engine, network, metadata.spec)
        most = tolerance(metadata.precision, get_context("device_target"))
        if not difference <= most:
            raise ExportError(
                f"{output}: its outputs differ from the network's by {difference:.1e}, expected at "
                f"most {most:.0e}; the file is not kept"
            )
    return ExportReport(output, metadata, difference)


def tolerance(precision: str, device: str) -> float:
    """How far a file's outputs may be from those of a Cell that runs on ``device``."""
    exact = TOLERANCES[precision]
    return exact if device == "CPU" else max(exact, _DEVICE_TOLERANCE)


def largest_difference(engine: Engine, network: Any, spec: Any) -> float:
    """Run both on eight inputs; the largest difference relative to that output's largest value."""
    from mindspore import Tensor

    rng = np.random.default_rng(0)
    inputs = [
        rng.normal(size=(CHECKED_INPUTS, *shape)).astype(np.float32)
        for shape in spec.input_shapes(spec.input_size).values()
    ]
    wanted = network(*map(Tensor, inputs))
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    got = engine.run(*inputs)
    return max(
        float(np.abs(one - other).max() / np.abs(other).max())
        for one, other in zip(got, (output.asnumpy() for output in wanted), strict=True)
    )


def _with_ending(output: str | Path, format: str | None) -> Path:
    """The file; the format's ending is added if it has another."""
    output = expand(output)
    wanted = format or output.suffix.removeprefix(".")
    if wanted not in FORMATS:
        raise ExportError(f"{output}: the format is {wanted!r}; expected {' or '.join(FORMATS)}")
    return with_ending(output, wanted)


def _write(path: Path, network: Any, metadata: Metadata) -> Engine:
    if path.suffix == ".mindir":
        from .mindir_engine import MindirEngine, write_mindir

        write_mindir(path, network, metadata)
        return MindirEngine(path)

    from .onnx_engine import OnnxEngine
    from .onnx_file import build_onnx, check

    model = build_onnx(network, metadata)
    check(model)
    path.write_bytes(model.SerializeToString())
    return OnnxEngine(path)

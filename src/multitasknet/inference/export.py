"""Files for other runtimes, each checked against the Cell before it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..device import MINDSPORE_TURN, choose_device
from ..errors import EngineError
from ..files import check_output, expand, replacing
from ..hub.card import ENTRIES, ModelCard
from ..hub.source import DEFAULT, WeightsSource
from ..models import DEFAULT_NETWORK, POSE_NETWORKS
from ..models.base import check_memory, check_size
from ..ranking.calibration import Calibration, read_calibration
from ..weights.read import check_network
from .conversion import Metadata, call, cell_of, open_mindir, to_onnx, write_mindir
from .engines import in_batches, open_engine
from .predictor import Predictor

FORMATS = (".onnx", ".mindir")
CHECKED_INPUTS = 8
# Largest difference over largest value, output by output.
TOLERANCE = 1e-4
# Where the Cell itself is not exact: Ascend's convolutions keep 11 bits of float32 (HF32).
_DEVICE_TOLERANCE = 2e-3


@dataclass(frozen=True)
class ExportReport:
    """A file that was written.

    Attributes:
        path: the file.
        metadata: what it states of itself.
        difference: the largest difference from the Cell on eight inputs, relative to the largest
            value of that output; of an RGB file, 1 minus the least cosine of its embeddings with
            those of ``Predictor(pose="none")`` on eight pictures.
        bytes: its size.
    """

    path: Path
    metadata: Metadata
    difference: float
    bytes: int


def export(
    output: str | Path,
    *,
    weights: str | Path | None = DEFAULT,
    name: str | None = None,
    network: Any = None,
    card: str | Path | ModelCard | None = None,
    fixed_batch: int | None = None,
    size: int | tuple[int, int] | None = None,
    device: str | None = None,
    cache_dir: str | Path | None = None,
    offline: bool = False,
    progress: bool = True,
    rgb: bool = False,
    embedding_only: bool = False,
    normalized: bool = False,
) -> ExportReport:
    """Write a network as ONNX or MindIR, and check the file against the Cell.

    MultiTaskNet's inputs are ``image`` (float32 ``[N, C, H, W]``) and ``pose`` (float32
    ``[N, 108]``, if the network is keypoint-aware), its outputs ``id_logits``, ``color_logits``,
    ``type_logits`` and ``embedding``, as far as the network has them. An ONNX file takes any
    height and width that are multiples of 32, and its metadata is enough to predict from it:
    ``Predictor("model.onnx")``. A MindIR file takes the one input size that is noted in it.

    An RGB file is for programs that know no maps and no poses: its input is ``images`` (float32
    ``[N, 3, H, W]``, RGB, 0..1, of the size noted), its outputs ``embedding`` of length 1, and
    ``color_logits`` and ``type_logits`` if the network has them.

    Args:
        output: the file to write, ``.onnx`` or ``.mindir``; replaced if it exists.
        weights, card, cache_dir, offline, progress: as in :class:`multitasknet.Predictor`; an
            ``.onnx`` file, INT8 too, for an RGB file alone.
        name: of the network whose weights they are; default is what these state, else
            MultiTaskNet.
        network: a Cell to export instead; it stays as it is.
        fixed_batch: the only batch size that the file is to take; default is any.
        size: side, or height and width, to note as input size and to check on; default is the
            network's.
        device: where the Cell computes what the file is compared with, see
            :class:`multitasknet.Predictor`; an RGB file is compared on the CPU.
        rgb: write an RGB file.
        embedding_only: leave its colour and type out.
        normalized: it takes pixels from which ImageNet's mean was subtracted, and which were
            divided by its deviation.

    Raises:
        EngineError: the file's outputs differ from the Cell's by more than 1e-4 (2e-3 where the
            Cell does not run on a CPU; an RGB file's cosine is below 0.9999, in INT8 0.99), another
            ending, or an RGB file of a pose network. No file is left.
        OutputError: the file cannot be written.
    """
    output = expand(output)
    if rgb and output.suffix != ".onnx":
        raise EngineError(
            f"{output}: --rgb and --for write ONNX; expected a name that ends in .onnx"
        )
    if not rgb and (embedding_only or normalized):
        raise EngineError(
            "--embedding-only (embedding_only, normalized) is for RGB files; give --rgb or --for, "
            "rgb=True in Python"
        )
    if output.suffix not in FORMATS:
        raise EngineError(f"{output}: expected a name that ends in {' or '.join(FORMATS)}")
    names = (name,) if name else ()
    source = WeightsSource(weights, card, cache_dir, offline, progress).resolved(*names)
    read = [] if source.weights in (None, *ENTRIES) else [expand(str(source.weights))]
    check_output(output, inputs=read)
    if rgb:
        if (stated := name or source.weights) in POSE_NETWORKS:
            raise EngineError(
                f"--rgb and --for need a network that gives embeddings; {stated} gives keypoints: "
                f"export it without --rgb"
            )
        predictor = Predictor(
            network=network, size=size, pose="none", backend="onnx", **vars(source)
        )
        if name:
            check_network(predictor.spec.network, name, predictor.engine.source)
        from .rgb import write_rgb

        with replacing(output) as part:
            metadata, cosine = write_rgb(
                part,
                predictor,
                batch=fixed_batch,
                embedding_only=embedding_only,
                normalized=normalized,
            )
            return ExportReport(output, metadata, 1 - cosine, part.stat().st_size)
    import mindspore

    choose_device(device)
    cell, sha256, calibration = _frozen(network, name, source)
    metadata = Metadata(
        spec=replace(cell.spec, input_size=check_size(size or cell.spec.input_size)),
        weights_sha256=sha256,
        batch=fixed_batch,
        calibration=calibration,
    )
    check_memory(metadata.spec, metadata.spec.input_size, max(CHECKED_INPUTS, fixed_batch or 1))
    with replacing(output) as part:
        run = _write(part, cell, metadata)
        difference = largest_difference(run, cell, metadata.spec)
        on_cpu = mindspore.get_context("device_target") == "CPU"
        most = TOLERANCE if on_cpu else _DEVICE_TOLERANCE
        if not difference <= most:
            raise EngineError(
                f"{output}: its outputs differ from the network's by {difference:.1e}, expected at "
                f"most {most:.0e}; the file is not kept"
            )
        return ExportReport(output, metadata, difference, part.stat().st_size)


def largest_difference(run: Callable[..., tuple[np.ndarray, ...]], cell: Any, spec: Any) -> float:
    """Run both on eight inputs; the largest difference relative to that output's largest value."""
    rng = np.random.default_rng(0)
    inputs = [
        rng.normal(size=(CHECKED_INPUTS, *shape)).astype(np.float32)
        for shape in spec.input_shapes(spec.input_size).values()
    ]
    exact = call(cell, inputs)
    return max(
        float(np.abs(one - other).max() / np.abs(other).max())
        for one, other in zip(run(*inputs), exact, strict=True)
    )


def _frozen(
    network: Any, name: str | None, source: WeightsSource
) -> tuple[Any, str, Calibration | None]:
    """A Cell to export, in inference mode; of its weights' file the sha256 and the calibration."""
    from ..weights.load import frozen_copy, inner_network, source_sha256

    if network is not None:
        network = inner_network(network)
        with MINDSPORE_TURN:
            return frozen_copy(network), source_sha256(network, network.load_report), None
    file = source.file(*((name,) if name else ()))
    if file is None:
        from ..hub.create_network import create_network

        return create_network(name or DEFAULT_NETWORK, weights=None), "", None
    cell = cell_of(file)
    check_network(cell.spec.network, name or cell.spec.network, str(file.path))
    return cell, file.sha256, read_calibration(file.path, cell.spec)


def _write(path: Path, cell: Any, metadata: Metadata) -> Callable[..., tuple[np.ndarray, ...]]:
    """Write the file; what runs it."""
    if path.suffix == ".mindir":
        write_mindir(path, cell, metadata)
        run = open_mindir(path)
        return lambda *inputs: in_batches(run, inputs, metadata.batch)
    import onnx

    content = to_onnx(cell, metadata)
    onnx.checker.check_model(content, full_check=True)
    path.write_bytes(content)
    return open_engine(path).run

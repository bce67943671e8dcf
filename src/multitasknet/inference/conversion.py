"""From a Cell to ONNX and MindIR, by MindSpore's own exporters; from weights to a kept ONNX file.

Whatever calls MindSpore holds its turn: it does not support several threads. What is kept is
verified when it is read, and never fails a command.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..device import MINDSPORE_TURN
from ..errors import EngineError
from ..files import make_folder, reading, reason_of, replacing
from ..models import find_network
from ..models.base import Shapes
from ..ranking.calibration import Calibration
from ..weights.read import WeightsFile, check_complete

logger = logging.getLogger(__name__)

# In the names of kept files: raise it whenever the same weights give another graph.
_GRAPH_VERSION = 2
# Bytes of kept files; what was used least recently is removed first.
MOST_BYTES = 1 << 29
# What MindSpore's exporters accept in a path.
_PLAIN = re.compile(r"[\w./-]+", re.ASCII)
_KEY = "multitasknet"
# Where an RGB file states the mean and deviation of the pixels that it takes.
RGB = "rgb"


@dataclass(frozen=True)
class Metadata:
    """What an exported file states of itself, which is enough to predict from it.

    Attributes:
        spec: the architecture, with class names and input size.
        weights_sha256: of the file that the weights came from; empty if they are no file's.
        precision: ``float32`` or ``int8``.
        batch: the only batch size that the file takes; None for any.
        calibration: what distances between its embeddings mean; None if that is unknown.
    """

    spec: Any
    weights_sha256: str = ""
    precision: str = "float32"
    batch: int | None = None
    calibration: Calibration | None = None

    def as_strings(self) -> dict[str, str]:
        """As names and values for a file; the normalisation is added for other readers."""
        network = find_network(self.spec.network)
        value = {
            "network": network.name,
            "spec": asdict(self.spec),
            "weights_sha256": self.weights_sha256,
            "precision": self.precision,
            "batch": self.batch,
            "calibration": self.calibration and asdict(self.calibration),
            "normalization": network.normalization(),
        }
        return {_KEY: json.dumps(value)}

    @classmethod
    def from_strings(cls, strings: Mapping[str, str], source: str) -> Metadata:
        """Read back; EngineError that names ``source`` if that fails."""
        remedy = "write it with 'multitasknet export'"
        with reading(source, EngineError, "it has no metadata of multitasknet", remedy):
            value = json.loads(strings[_KEY])
            if RGB in value:
                raise EngineError(
                    f"{source}: it takes RGB alone, for other programs; give the weights it was "
                    f"made from"
                )
            network = find_network(value["network"])
            stated = value.get("calibration")
            return cls(
                network.spec_from_json(value["spec"]),
                value["weights_sha256"],
                value["precision"],
                value["batch"],
                stated and Calibration.from_json(stated),
            )


def onnx_of(file: WeightsFile, cache: Path) -> bytes:
    """Weights as an ONNX file, made the first time and kept in the cache.

    CheckpointError if they cannot be read, or lack a layer that predictions need.
    """
    folder = cache / "onnx"
    sha256, sidecar = file.hashes
    key = f"{sha256}-{sidecar[:16] or 'plain'}-v{_GRAPH_VERSION}"
    found = find_kept(folder, key)
    if found is not None:
        return found
    with MINDSPORE_TURN:
        # Another thread may have made it while this one waited.
        found = find_kept(folder, key)
        if found is None:
            logger.info("%s: converting it to ONNX, once", file.path)
            cell = cell_of(file)
            found = to_onnx(cell, Metadata(cell.spec, sha256))
            keep(folder, key, found)
        return found


def find_kept(folder: Path, key: str) -> bytes | None:
    """What :func:`keep` wrote under that key; None if it is not there."""
    try:
        for path in sorted(folder.glob(f"{key}-*.onnx")):
            content = path.read_bytes()
            if path.stem.endswith(hashlib.sha256(content).hexdigest()):
                with suppress(OSError):  # of a cache that is read-only
                    os.utime(path)
                return content
            logger.warning("%s is damaged; it is made again", path)
            path.unlink()
    except OSError as error:
        logger.info("%s cannot be used (%s)", folder, reason_of(error))
    return None


def keep(folder: Path, key: str, content: bytes) -> None:
    """Keep a content under its key and its own sha256; a warning if that is not possible."""
    newest = folder / f"{key}-{hashlib.sha256(content).hexdigest()}.onnx"
    try:
        make_folder(folder)
        with replacing(newest) as part:
            part.write_bytes(content)
        left = MOST_BYTES - len(content)
        others = [(path.stat(), path) for path in folder.glob("*.onnx") if path != newest]
        for status, path in sorted(others, key=lambda one: one[0].st_mtime_ns, reverse=True):
            left -= status.st_size
            if left < 0:
                path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s: the network is not kept (%s)", folder, reason_of(error))


def cell_of(file: WeightsFile) -> Any:
    """Weights as a Cell in inference mode; errors as :func:`onnx_of`."""
    with MINDSPORE_TURN:
        from ..runtime import guard_cpu
        from ..weights.load import build

        guard_cpu()
        weights = check_complete(file.read())
        return build(weights.network, weights.network.plan(weights, {}), weights)


def to_onnx(cell: Any, metadata: Metadata) -> bytes:
    """A Cell as an ONNX file: inputs and outputs as the spec names them, float32.

    Height and width are dynamic, and the batch too unless the metadata fix it.
    """
    import mindspore

    from ..weights.load import frozen_copy
    from .graph import name_ends, onnx, simplify

    spec, batch = metadata.spec, metadata.batch or "batch"
    inputs, outputs = spec.input_shapes(spec.input_size), spec.output_shapes(spec.input_size)

    def dimensions(shapes: Shapes, *planes: str) -> dict[str, list[int | str]]:
        return {
            name: [batch, shape[0], *planes] if len(shape) == 3 else [batch, *shape]
            for name, shape in shapes.items()
        }

    with MINDSPORE_TURN, _plain_folder() as folder:
        path = folder / "network.onnx"
        # Two images: a batch of one could be taken for a dimension that is not there.
        placeholders = _placeholders(2, inputs)
        # Of a Cell that was exported before, MindSpore 2.10 fails to write ONNX.
        twin = frozen_copy(cell)
        if hasattr(mindspore, "onnx"):
            mindspore.onnx.export(twin, *placeholders, file_name=str(path))
        else:  # of an older MindSpore
            mindspore.export(twin, *placeholders, file_name=str(path), file_format="ONNX")
        model = simplify(onnx.load(path))
    name_ends(
        model,
        dimensions(inputs, "height", "width"),
        dimensions(outputs, "map_height", "map_width"),
    )
    onnx.helper.set_model_props(model, metadata.as_strings())
    content: bytes = model.SerializeToString()
    return content


def call(cell: Any, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """What a Cell gives for arrays, as arrays."""
    from mindspore import Tensor

    with MINDSPORE_TURN:
        outputs = cell(*map(Tensor, inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output.asnumpy() for output in outputs)


def write_mindir(path: Path, cell: Any, metadata: Metadata) -> None:
    """Write a Cell as MindIR for inputs of ``spec.input_size``; the metadata are its user info."""
    import mindspore

    shapes = metadata.spec.input_shapes(metadata.spec.input_size)

    def describe(model: Any) -> None:
        model.user_info.update(metadata.as_strings())
        renamed = {one.name: name for one, name in zip(model.graph.input, shapes, strict=True)}
        for one in model.graph.input:
            one.name = renamed[one.name]
        for node in model.graph.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]

    with MINDSPORE_TURN, _plain_folder() as folder:
        plain = folder / "network.mindir"
        inputs = _placeholders(metadata.batch, shapes)
        mindspore.export(
            cell, *inputs, file_name=str(plain), file_format="MINDIR", custom_func=describe
        )
        path.write_bytes(plain.read_bytes())


def open_mindir(path: Path) -> Callable[..., tuple[np.ndarray, ...]]:
    """What runs a MindIR file by MindSpore, to check it."""
    import mindspore
    from mindspore import nn

    with MINDSPORE_TURN, _plain_folder() as folder:
        plain = folder / "network.mindir"
        plain.write_bytes(path.read_bytes())
        cell = nn.GraphCell(mindspore.load(str(plain)))
    return lambda *inputs: call(cell, inputs)


def _placeholders(batch: int | None, shapes: Shapes) -> list[Any]:
    """What stands for inputs of these shapes in an export; a batch of None is dynamic."""
    from mindspore import Tensor, float32

    return [Tensor(shape=[batch, *shape], dtype=float32) for shape in shapes.values()]


@contextmanager
def _plain_folder() -> Iterator[Path]:
    """A temporary folder whose path MindSpore accepts: plain letters and digits, no blanks."""
    place = tempfile.gettempdir()
    plain = place if _PLAIN.fullmatch(place) else "/tmp"
    with tempfile.TemporaryDirectory(dir=plain) as name:
        yield Path(name)

"""Writing a network's weights as a checkpoint that everything here reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mindspore
from mindspore import Tensor, nn

from ..errors import OutputError
from ..files import replacing, writing
from ..vehicle.attributes import ClassMaps
from .load import inner_network, named_parameters
from .sidecar import Sidecar, write_sidecar


def save_weights(
    network: nn.Cell,
    path: str | Path,
    *,
    class_maps: ClassMaps | None = None,
    metrics: Mapping[str, float] | None = None,
    origin: Mapping[str, Any] | None = None,
    leave_out: tuple[str, ...] = (),
) -> Path:
    """Write a network's weights under their published names, and a sidecar with what they mean.

    Both files appear whole or not at all.

    Args:
        network: a Cell of :func:`multitasknet.create_network`, whose ``spec`` has the class names
            and the input size; also inside one of a training or of mixed precision.
        path: the checkpoint, ``.ckpt``; the sidecar is ``.json`` beside it.
        class_maps: which raw id of the data each class is; default: by the names of the spec.
        metrics: what these weights reach on query and gallery, in percent.
        origin: how they came to be, as JSON can hold it.
        leave_out: how the names begin that are not written, such as ``("classifier_vid.",)``.

    Returns:
        The path of the checkpoint.

    Raises:
        CheckpointError: there is no network in the Cell.
        OutputError: the path does not end in ``.ckpt``, or one of the files cannot be written.
    """
    path, network = Path(path), inner_network(network)
    if path.suffix != ".ckpt":
        raise OutputError(f"{path}: expected a .ckpt file; multitasknet.convert writes others")
    spec = network.spec
    entries = {
        name: value
        for name, value in named_parameters(network).items()
        if not name.startswith(leave_out)
    }
    sidecar = Sidecar(spec, class_maps or spec.class_maps, metrics or {}, origin or {})
    with replacing(path) as part:
        _write(part, path, entries)
        write_sidecar(path, sidecar)
    return path


def write_checkpoint(path: Path, entries: Mapping[str, Tensor]) -> Path:
    """Write MindSpore's format; OutputError if that fails."""
    with replacing(path) as part:
        _write(part, path, entries)
    return path


def _write(part: Path, path: Path, entries: Mapping[str, Tensor]) -> None:
    named = [{"name": name, "data": value} for name, value in entries.items()]
    with writing(path):
        mindspore.save_checkpoint(named, str(part))
    # MindSpore leaves it read-only, and a copy of it could not be overwritten.
    part.chmod(0o644)

"""The sidecar ``<name>.json`` of a checkpoint: what its tensors do not state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, shown
from ..files import reading, replacing
from ..models import find_network
from ..vehicle.attributes import ClassMaps

_FORMAT = 1


@dataclass(frozen=True)
class Sidecar:
    """What travels beside a checkpoint.

    Attributes:
        spec: the network, with its class names and input size.
        class_maps: the raw id of each class.
        metrics: metrics of these weights on query and gallery, in percent.
        origin: how they came to be: epoch, settings, versions.
        calibration: what a distance means, see :class:`multitasknet.Calibration`; None if unknown.
    """

    spec: Any
    class_maps: ClassMaps
    metrics: Mapping[str, float] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] | None = None


def sidecar_path(checkpoint: Path) -> Path:
    """Where a checkpoint's sidecar is."""
    return checkpoint.parent / f"{checkpoint.stem}.json"


def write_sidecar(checkpoint: Path, sidecar: Sidecar) -> Path:
    """Write the sidecar of a checkpoint, whole or not at all."""
    path = sidecar_path(checkpoint)
    network = find_network(sidecar.spec.network)
    values = {
        "format": _FORMAT,
        "network": network.name,
        **network.spec_to_sidecar(sidecar.spec),
        **asdict(sidecar.class_maps),
        "metrics": dict(sidecar.metrics),
        "origin": dict(sidecar.origin),
    }
    if sidecar.calibration is not None:
        values["calibration"] = dict(sidecar.calibration)
    with replacing(path) as part:
        part.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return path


def read_sidecar(checkpoint: Path, spec: Any) -> Sidecar | None:
    """Read the sidecar of a checkpoint of that ``spec``; None if it has none.

    CheckpointError if it is damaged, or states other class counts than the checkpoint has.
    """
    path = sidecar_path(checkpoint)
    return parse_sidecar(checkpoint, path.read_bytes(), spec) if path.is_file() else None


def parse_sidecar(checkpoint: Path, content: bytes, spec: Any) -> Sidecar:
    """The sidecar of a checkpoint from its bytes; errors as above."""
    problem = f"the sidecar of {checkpoint.name} cannot be read"
    remedy = "write both again, or remove it to go without class names"
    with reading(sidecar_path(checkpoint), CheckpointError, problem, remedy):
        values = json.loads(content.decode("utf-8-sig"))
        if values.get("format") != _FORMAT:
            raise ValueError(f"format is {shown(values.get('format'))}, expected {_FORMAT}")
        network = find_network(spec.network)
        # The first releases had one network, and did not name it.
        if values.get("network", network.name) != network.name:
            raise ValueError(f"it is of {shown(values['network'])}, not of {network.name}")
        ids = (tuple(map(int, values[f"{kind}_ids"])) for kind in ("vehicle", "color", "type"))
        named = network.spec_from_sidecar(spec, values)
        metrics = {str(name): float(value) for name, value in values["metrics"].items()}
        origin, calibration = dict(values["origin"].items()), values.get("calibration")
        kept = None if calibration is None else dict(calibration.items())
        return Sidecar(named, ClassMaps(*ids), metrics, origin, kept)

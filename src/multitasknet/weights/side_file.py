"""The side file ``<name>.json`` of a checkpoint: what its tensors cannot say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..data.records import ClassMaps
from ..errors import MultiTaskNetError
from ..files import replacing
from ..spec import NetworkSpec, check_size

_FORMAT = 1


class SideFileError(MultiTaskNetError, ValueError):
    """A side file that cannot be read or does not fit its checkpoint."""


@dataclass(frozen=True)
class SideFile:
    """What travels beside a checkpoint.

    Attributes:
        spec: the network, with its class names and input size.
        class_maps: which raw id each class stands for.
        metrics: figures of these weights on query and gallery, in percent.
        origin: how they came to be: epoch, settings, versions.
    """

    spec: NetworkSpec
    class_maps: ClassMaps
    metrics: Mapping[str, float] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)


def side_path(checkpoint: Path) -> Path:
    """Where a checkpoint's side file is."""
    return checkpoint.with_suffix(".json")


def write_side_file(checkpoint: Path, side: SideFile) -> Path:
    """Write the side file of a checkpoint, whole or not at all."""
    path = side_path(checkpoint)
    values = {
        "format": _FORMAT,
        "variant": str(side.spec.variant),
        "size": list(side.spec.input_size),
        "colors": list(side.spec.color_names),
        "types": list(side.spec.type_names),
        "vehicle_ids": list(side.class_maps.vehicle_ids),
        "color_ids": list(side.class_maps.color_ids),
        "type_ids": list(side.class_maps.type_ids),
        "metrics": dict(side.metrics),
        "origin": dict(side.origin),
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return path


def read_side_file(checkpoint: Path, spec: NetworkSpec) -> SideFile | None:
    """Read the side file of a checkpoint of that ``spec``; None if it has none.

    Raises:
        SideFileError: the file is damaged, or states other class counts than the checkpoint has.
    """
    path = side_path(checkpoint)
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("format") != _FORMAT:
            raise ValueError(f"format is {values.get('format')!r}, expected {_FORMAT}")
        named = replace(
            spec,
            color_names=tuple(map(str, values["colors"])) if spec.multi_task else (),
            type_names=tuple(map(str, values["types"])) if spec.multi_task else (),
            input_size=check_size(values["size"]),
        )
        ids = (tuple(map(int, values[f"{kind}_ids"])) for kind in ("vehicle", "color", "type"))
        side = SideFile(named, ClassMaps(*ids), values["metrics"], values["origin"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SideFileError(
            f"{path}: the side file of {checkpoint.name} cannot be read ({error!r}); fetch or "
            f"write it again, or remove it to go without class names"
        ) from error
    _check_fit(path, spec, side)
    return side


def _check_fit(path: Path, spec: NetworkSpec, side: SideFile) -> None:
    for kind, stated, found in (
        ("colours", side.spec.num_colors, spec.num_colors),
        ("types", side.spec.num_types, spec.num_types),
        ("vehicles", len(side.class_maps.vehicle_ids), spec.num_ids),
    ):
        if spec.include_top and stated != found:
            raise SideFileError(
                f"{path}: the side file states {stated} {kind}, but the checkpoint has {found}; "
                f"the two do not belong together, fetch both again or remove the side file"
            )

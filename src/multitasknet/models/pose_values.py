"""The specs of pose networks as plain values: what all of them have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

from ..vehicle.pose import check_convention
from .definition import check_fields, check_size

Spec = TypeVar("Spec", bound=Any)


def spec_to_json(spec: Any) -> dict[str, Any]:
    """All of a spec as plain values."""
    return asdict(spec)


def spec_of(kind: type[Spec], values: Mapping[str, Any]) -> Spec:
    """Back from :func:`spec_to_json`; KeyError, TypeError or ValueError if it is not that."""
    spec = kind(**check_fields(kind, values))
    return _with(spec, spec.input_size, spec.pose_convention)


def spec_to_sidecar(spec: Any) -> dict[str, Any]:
    """What a checkpoint's tensors cannot say of the spec."""
    return {"size": list(spec.input_size), "pose_convention": spec.pose_convention}


def spec_from_sidecar(spec: Spec, values: Mapping[str, Any]) -> Spec:
    """The spec with what :func:`spec_to_sidecar` wrote; errors as above."""
    return _with(spec, values["size"], values["pose_convention"])


def _with(spec: Spec, size: Any, convention: str) -> Spec:
    return replace(spec, input_size=check_size(size), pose_convention=check_convention(convention))

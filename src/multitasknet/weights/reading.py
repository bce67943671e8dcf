"""Reading weights from files of every layout that is understood; needs no MindSpore."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MultiTaskNetError
from ..models import DEFAULT_NETWORK, all_networks, find_network
from ..models.definition import Network, Shapes
from .ckpt_file import read_ckpt
from .sidecar import read_sidecar
from .torch_file import read_torch


class CheckpointError(MultiTaskNetError, ValueError):
    """Weights that cannot be read or do not fit; names the file, the entries and the remedy."""


@dataclass(frozen=True, eq=False)
class Weights:
    """A network's part of a file.

    Attributes:
        path: the file.
        network: whose weights they are.
        arrays: name, as the published checkpoint has it (no prefix), to values.
        training_state: entries that only the file's own training had a use for: optimizer state,
            counters, an ImageNet classifier.
    """

    path: Path
    network: Network
    arrays: Mapping[str, np.ndarray]
    training_state: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.arrays.items()}

    @cached_property
    def spec(self) -> Any:
        """The architecture that names and shapes state, with the class names of the sidecar.

        Raises:
            SpecError: the names and shapes are no such network.
            SidecarError: the sidecar is damaged or belongs to other weights.
        """
        spec = self.network.spec_from_shapes(self.shapes, str(self.path))
        sidecar = read_sidecar(self.path, spec)
        return sidecar.spec if sidecar else spec


def read_weights(path: str | Path, network: Network | None = None) -> Weights:
    """Read a file of MindSpore (``.ckpt``), ``.safetensors``, or PyTorch (``.pth``, ``.tar``, ...).

    PyTorch files are those of NVlabs' PAMTRI and torchvision's DenseNet-121, old and new. Pickles
    that want to run code are refused.

    Args:
        path: the file.
        network: whose weights it holds; default is what its names tell.

    Raises:
        CheckpointError: no such file, another format, or a damaged file.
        MissingExtraError: a PyTorch file, and PyTorch is not installed.
    """
    path = Path(path).expanduser()
    if path.suffix not in _READERS:
        *most, last = _READERS
        raise CheckpointError(
            f"{path}: expected a file that ends in {', '.join(most)} or {last}, got {path.suffix!r}"
        )
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; give the path of a checkpoint")
    try:
        entries = _READERS[path.suffix](path)
    except MultiTaskNetError:
        raise
    # protobuf, safetensors and torch report damage in many ways, from ValueError to RuntimeError.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{path}: the checkpoint cannot be read ({reason}); it is damaged or no "
            f"{path.suffix} file, fetch or save it again"
        ) from error
    found = _network_of(entries)
    if network is not None and found is not None:
        check_network(found.NAME, network.NAME, str(path))
    network = network or found or find_network(DEFAULT_NETWORK)
    arrays, training_state = network.to_published(entries)
    return Weights(path, network, arrays, training_state)


def check_values(weights: Weights) -> None:
    """Raise CheckpointError, with the entries' names, unless all values are finite floats."""
    arrays = weights.arrays
    kinds = {
        "of integers or bools": [n for n, a in arrays.items() if a.dtype.kind != "f"],
        "with NaN or infinity": [
            n for n, a in arrays.items() if a.dtype.kind == "f" and not np.isfinite(a).all()
        ],
    }
    if any(kinds.values()):
        raise CheckpointError(
            f"{weights.path}: expected finite floats. {_name_entries(kinds)}. "
            f"Fetch or save it again"
        )


def _name_entries(kinds: Mapping[str, list[str]]) -> str:
    return "; ".join(
        f"{len(names)} {kind}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
        for kind, names in kinds.items()
        if names
    )


def check_network(found: str, wanted: str, source: str) -> None:
    """Raise CheckpointError, which names both, if weights are another network's."""
    if found != wanted:
        raise CheckpointError(
            f"{source}: holds {found}; expected {wanted}. Give weights of {wanted}, or use them "
            f"for {found}"
        )


def _network_of(entries: Mapping[str, np.ndarray]) -> Network | None:
    return next((one for one in all_networks() if one.recognizes(tuple(entries))), None)


def read_complete_weights(path: str | Path, network: Network | None = None) -> Weights:
    """Read weights that need nothing fresh to predict; arguments as in :func:`read_weights`.

    Raises:
        CheckpointError: as :func:`read_weights`; or there is no top.
    """
    weights = read_weights(path, network)
    if not weights.spec.is_complete:
        raise CheckpointError(
            f"{path}: it holds no classifiers or last layer, whose random values would "
            f"mean nothing; give network=create_network(..., include_top=False) for features alone"
        )
    return weights


def check_fit(
    weights: Weights,
    shapes: Shapes,
    *,
    strict: bool = True,
    fresh: tuple[str, ...] = (),
) -> None:
    """Raise CheckpointError unless the weights are finite and fit these names and shapes.

    One message names all missing, unexpected and wrong-shaped entries. Cells named in ``fresh``
    need nothing; if not ``strict``, only a wrong shape is an error.
    """
    check_values(weights)
    arrays = weights.arrays
    needed = {name: shape for name, shape in shapes.items() if cell_of(name) not in fresh}
    misshapen = [
        f"{name} {list(arrays[name].shape)}, expected {list(shape)}"
        for name, shape in needed.items()
        if name in arrays and arrays[name].shape != tuple(shape)
    ]
    missing = [name for name in needed if name not in arrays] if strict else []
    unexpected = [
        name
        for name in arrays
        if strict and name not in shapes and cell_of(name) not in weights.network.OPTIONAL_CELLS
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    if any(kinds.values()):
        raise CheckpointError(
            f"{weights.path}: the weights do not fit the network. {_name_entries(kinds)}. Use a "
            f"checkpoint of this architecture, or load_weights(..., strict=False) to load what "
            f"fits by name"
        )


def cell_of(name: str) -> str:
    """The outermost cell that a parameter belongs to, such as ``classifier_vid``."""
    return name.partition(".")[0]


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


_READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".ckpt": read_ckpt,
    ".safetensors": _read_safetensors,
    ".pth": read_torch,
    ".pt": read_torch,
    ".tar": read_torch,
}

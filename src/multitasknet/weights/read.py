"""Reading weights from files of every layout that is understood; needs no MindSpore."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from ..errors import CheckpointError
from ..files import expand, reading
from ..models import DEFAULT_NETWORK, NETWORKS, all_networks, find_network
from ..models.base import Network, Shapes
from .ckpt_file import read_ckpt
from .sidecar import read_sidecar
from .torch_file import read_torch

_READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".ckpt": read_ckpt,
    ".safetensors": load_file,
    ".pth": read_torch,
    ".pt": read_torch,
    ".tar": read_torch,
}


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
            CheckpointError: the names are another network's, or no network's; or the sidecar is
                damaged or belongs to other weights.
        """
        names = tuple(self.arrays)
        if not self.network.recognizes(names):
            owners = _networks_of(names)
            wanted = [self.network.name] if owners else NETWORKS
            raise CheckpointError(
                f"{self.path}: expected a checkpoint of {' or '.join(wanted)}; its {len(names)} "
                f"entries start with {', '.join(names[:3])}, which are names of "
                f"{' and '.join(network.name for network in owners) or 'no such network'}"
            )
        spec = self.network.spec_from_shapes(self.shapes, str(self.path))
        sidecar = read_sidecar(self.path, spec)
        return sidecar.spec if sidecar else spec


def read_weights(path: str | Path, network: Network | None = None) -> Weights:
    """Read a file of MindSpore (``.ckpt``), ``.safetensors``, or PyTorch (``.pth``, ``.tar``, ...).

    PyTorch's layouts are those that the network's definition lists, such as NVlabs' and
    torchvision's. Pickles that want to run code are refused.

    Args:
        path: the file.
        network: whose weights it holds; default is what its names tell.

    Raises:
        CheckpointError: no such file, another format, or a damaged file.
        MissingExtraError: a PyTorch file, and PyTorch is not installed.
    """
    path = expand(path)
    if path.suffix not in _READERS:
        *most, last = _READERS
        raise CheckpointError(
            f"{path}: expected a file that ends in {', '.join(most)} or {last}, got {path.suffix!r}"
        )
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; give the path of a checkpoint")
    remedy = f"it is damaged or no {path.suffix} file, fetch or save it again"
    with reading(path, CheckpointError, "the checkpoint cannot be read", remedy):
        entries = _READERS[path.suffix](path)
    # Entries that no network knows are kept all the same; the spec is what they have not.
    owners = _networks_of(tuple(entries)) if network is None else [network]
    owner = owners[0] if owners else find_network(DEFAULT_NETWORK)
    return Weights(path, owner, *owner.to_published(entries))


def check_network(found: str, wanted: str | Sequence[str], source: str) -> None:
    """Raise CheckpointError, which names all, if a network is none of those that are wanted."""
    names = (wanted,) if isinstance(wanted, str) else wanted
    if found not in names:
        raise CheckpointError(
            f"{source}: expected {' or '.join(names)}, but it is {found}; use it as that"
        )


def _networks_of(names: Sequence[str]) -> list[Network]:
    return [network for network in all_networks() if network.recognizes(names)]


def read_complete_weights(path: str | Path, network: Network | None = None) -> Weights:
    """Read weights that need nothing fresh to predict; arguments as in :func:`read_weights`.

    Raises:
        CheckpointError: as :func:`read_weights`; or there is no top.
    """
    weights = read_weights(path, network)
    if not weights.spec.is_complete:
        raise CheckpointError(
            f"{path}: it holds no classifiers, or no other last layer that {weights.network.name} "
            f"needs, whose random values would mean nothing; give network=create_network(...), "
            f"with include_top=False where that exists, to have what comes before them"
        )
    return weights


def check_values(weights: Weights) -> None:
    """Raise CheckpointError, with the entries' names, unless all values are finite floats."""
    floats = {name: array for name, array in weights.arrays.items() if array.dtype.kind == "f"}
    faults = {
        "of integers or bools": [name for name in weights.arrays if name not in floats],
        "with NaN or infinity": [n for n, array in floats.items() if not np.isfinite(array).all()],
    }
    _refuse(weights, "expected finite floats", faults, "Fetch or save it again")


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
    arrays, optional = weights.arrays, weights.network.optional_cells
    needed = {name: shape for name, shape in shapes.items() if cell_of(name) not in fresh}
    faults = {
        "missing": [name for name in needed if strict and name not in arrays],
        "unexpected": [
            name
            for name in arrays
            if strict and name not in shapes and cell_of(name) not in optional
        ],
        "of another shape": [
            f"{name} {list(arrays[name].shape)}, expected {list(shape)}"
            for name, shape in needed.items()
            if name in arrays and arrays[name].shape != tuple(shape)
        ],
    }
    remedy = (
        "Use a checkpoint of this architecture, or load_weights(..., strict=False) to load what "
        "fits by name"
    )
    _refuse(weights, "the weights do not fit the network", faults, remedy)


def _refuse(weights: Weights, problem: str, faults: Mapping[str, list[str]], remedy: str) -> None:
    """Raise CheckpointError that names the entries at fault, kind by kind, if there are any."""
    named = "; ".join(
        f"{len(names)} {kind}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
        for kind, names in faults.items()
        if names
    )
    if named:
        raise CheckpointError(f"{weights.path}: {problem}. {named}. {remedy}")


def cell_of(name: str) -> str:
    """The outermost cell that a parameter belongs to, such as ``classifier_vid``."""
    return name.partition(".")[0]

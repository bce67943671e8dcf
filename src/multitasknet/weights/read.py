"""Reading weights from files of every layout that is understood; needs no MindSpore."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError
from ..files import expand, reading
from ..models import DEFAULT_NETWORK, NETWORKS, find_network
from ..models.base import Network, Shapes
from ..vehicle.attributes import ClassMaps
from .sidecar import Sidecar, parse_sidecar, sidecar_path


@dataclass(frozen=True, eq=False)
class WeightsFile:
    """A file of weights and its sidecar, each read once: hashes and values are of the same bytes.

    Attributes:
        path: the file.
        stated_sha256: what it must hash to, as its card states; empty if nothing does.
        stated_sidecar_sha256: the same for the sidecar.
    """

    path: Path
    stated_sha256: str = ""
    stated_sidecar_sha256: str = ""

    @property
    def sha256(self) -> str:
        """As stated, else of the bytes; CheckpointError if there is no such file."""
        return self.hashes[0]

    @property
    def hashes(self) -> tuple[str, str]:
        """Of the file and of its sidecar, the same way; empty if there is no sidecar."""
        stated = self.stated_sha256, self.stated_sidecar_sha256
        if all(stated):
            return stated
        return stated[0] or self._found[0], stated[1] or self._found[1]

    @cached_property
    def contents(self) -> tuple[bytes, bytes | None]:
        """The bytes of both, None for a sidecar that is not there; CheckpointError."""
        if not self.path.is_file():
            raise CheckpointError(
                f"{self.path}: there is no such file; give the path of a checkpoint"
            )
        side = sidecar_path(self.path)
        with reading(self.path, CheckpointError, "the file cannot be read", "check the disk"):
            return self.path.read_bytes(), side.read_bytes() if side.is_file() else None

    @cached_property
    def _found(self) -> tuple[str, str]:
        content, sidecar = self.contents
        sha256 = hashlib.sha256(content).hexdigest()
        return sha256, "" if sidecar is None else hashlib.sha256(sidecar).hexdigest()

    def read(self, network: Network | None = None) -> Weights:
        """The values; arguments and errors as for :func:`read_weights`."""
        from .formats import READERS  # and protobuf, which an ONNX file in the cache needs not

        suffix = self.path.suffix
        if suffix not in READERS:
            raise CheckpointError(
                f"{self.path}: ends in {suffix!r}; expected one of {', '.join(READERS)}"
            )
        stated = self.stated_sha256, self.stated_sidecar_sha256
        paths = self.path, sidecar_path(self.path)
        for path, expected, found in zip(paths, stated, self._found, strict=True):
            if expected and expected != found:
                raise CheckpointError(
                    f"{path} is damaged: expected sha256 {expected}, found {found or 'no file'}; "
                    f"remove it to have it downloaded again, or install this package again"
                )
        remedy = f"it is damaged or no {suffix} file, fetch or save it again"
        with reading(self.path, CheckpointError, "the checkpoint cannot be read", remedy):
            entries = READERS[suffix](self.contents[0])
            # Entries that no network knows are kept all the same; Weights.spec refuses them.
            owners = _networks_of(tuple(entries)) if network is None else [network]
            owner = owners[0] if owners else find_network(DEFAULT_NETWORK)
            return Weights(self, owner, *owner.to_published(entries))


@dataclass(frozen=True, eq=False)
class Weights:
    """A network's part of a file.

    Attributes:
        file: the file.
        network: whose weights they are.
        arrays: name, as the published checkpoint has it (no prefix), to values.
        left_out: entries of the file's own training: optimizer state, counters, an ImageNet
            classifier.
    """

    file: WeightsFile
    network: Network
    arrays: Mapping[str, np.ndarray]
    left_out: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return self.file.path

    @property
    def sha256(self) -> str:
        """Of the bytes that the values were read from."""
        return self.file.sha256

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.arrays.items()}

    @property
    def spec(self) -> Any:
        """The architecture that names and shapes state, with the class names of the sidecar.

        CheckpointError for names of another or no network, and for a damaged or foreign sidecar.
        """
        return self.sidecar.spec if self.sidecar else self._stated

    @cached_property
    def sidecar(self) -> Sidecar | None:
        """What the file's sidecar states; None if it has none. CheckpointError as above."""
        content = self.file.contents[1]
        return None if content is None else parse_sidecar(self.path, content, self._stated)

    @property
    def class_maps(self) -> ClassMaps:
        """Which raw ids the classes are: as the sidecar states, else by their names."""
        return self.sidecar.class_maps if self.sidecar else self.spec.class_maps

    @cached_property
    def _stated(self) -> Any:
        names = tuple(self.arrays)
        if not self.network.recognizes(names):
            owners = [network.name for network in _networks_of(names)]
            raise CheckpointError(
                f"{self.path}: expected a checkpoint of "
                f"{self.network.name if owners else ' or '.join(NETWORKS)}; its {len(names)} "
                f"entries start with {', '.join(names[:3])}, which are names of "
                f"{' and '.join(owners) + ': name that' if owners else 'no such network'}"
            )
        return self.network.spec_from_shapes(self.shapes, str(self.path))


def read_weights(path: str | Path, network: Network | None = None) -> Weights:
    """Read a file of MindSpore (``.ckpt``), ``.safetensors``, or PyTorch (``.pth``, ``.tar``, ...).

    PyTorch's layouts are those that the network's definition lists, such as NVlabs' and
    torchvision's. Pickles that want to run code are refused.

    The names decide whose they are unless ``network`` is given. CheckpointError for no such file,
    another format, a damaged file, or several networks in it; MissingExtraError for a PyTorch file
    where PyTorch is not installed.
    """
    return WeightsFile(expand(path)).read(network)


def check_network(found: str, wanted: str | Sequence[str], source: str) -> None:
    """Raise CheckpointError, which names all, if a network is none of those that are wanted."""
    names = (wanted,) if isinstance(wanted, str) else wanted
    if found not in names:
        raise CheckpointError(f"{source}: expected {' or '.join(names)}, but it is {found}")


def _networks_of(names: Sequence[str]) -> list[Network]:
    return [network for network in map(find_network, NETWORKS) if network.recognizes(names)]


def check_complete(weights: Weights) -> Weights:
    """The weights; CheckpointError if their network lacks a layer that it needs to predict."""
    if not weights.spec.is_complete:
        raise CheckpointError(
            f"{weights.path}: it holds no classifiers, or no other last layer that "
            f"{weights.network.name} needs; give network=create_network(..., include_top=False) to "
            f"use what comes before them"
        )
    return weights


def check_values(weights: Weights) -> None:
    """Raise CheckpointError, with the entries' names, unless all values are finite in float32."""
    spoilt = []
    for name, array in weights.arrays.items():
        with np.errstate(over="ignore"):
            values = array.astype(np.float32, copy=False)
        if array.dtype.kind != "f" or not np.isfinite(values).all():
            spoilt.append(name)
    faults = {"with integers, bools, NaN, infinity or more than float32 holds": spoilt}
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
        "of another shape": [
            f"{name} {list(arrays[name].shape)}, expected {list(shape)}"
            for name, shape in needed.items()
            if name in arrays and arrays[name].shape != tuple(shape)
        ]
    }
    if strict:
        faults["missing"] = [name for name in needed if name not in arrays]
        strangers = [name for name in arrays if name not in shapes]
        faults["unexpected"] = [name for name in strangers if cell_of(name) not in optional]
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

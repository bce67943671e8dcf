"""PyTorch's containers, old and new: tensors are read, code is not run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

from ..errors import import_extra


def read_torch(content: bytes) -> dict[str, np.ndarray]:
    """Read a file's bytes: the tensors of a state dict, or of one in a training checkpoint.

    Raises:
        MissingExtraError: PyTorch is not installed.
        ValueError: the file would run code, or holds something else than named tensors.
    """
    torch = import_extra("torch", "torch")
    try:
        with torch.serialization.safe_globals(_harmless_numpy()):
            stored = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"it wants to run code ({name[1]}), which is refused: save its state_dict() alone"
            if name
            else "torch.save did not write it"
        ) from error
    state = stored.get("state_dict", stored) if isinstance(stored, dict) else None
    if not isinstance(state, dict) or not state:
        raise ValueError(f"it holds a {type(stored).__name__}, expected a state dict")
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"its entry {name!r} is a {type(value).__name__}, expected a tensor")
    return {
        str(name): (value.float() if value.is_floating_point() else value).numpy()
        for name, value in state.items()
    }


def write_torch(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a training checkpoint that holds a state dict; MissingExtraError without PyTorch."""
    torch = import_extra("torch", "torch")
    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    torch.save({"state_dict": state}, path)


def _harmless_numpy() -> list[Any]:
    """What an accuracy kept beside the weights as a NumPy scalar needs, as NVlabs' files do."""
    scalar: Any = np.core.multiarray.scalar  # type: ignore[attr-defined]
    return [
        np.dtype,
        type(np.dtype(np.float32)),
        type(np.dtype(np.float64)),
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]
